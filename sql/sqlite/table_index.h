// The index of a virtual table (qkv/index.h): in memory, made from the table's rows when a query first gives max_error, and kept
// to them by a mark that every write of a row changes (memory_table.cc). If the mark is not the index's own – another connection
// wrote, a transaction was rolled back – rows are read again and the index changed where they differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "qkv/index.h"
#include "sql/sqlite/statement.h"

namespace qkv::sql {

// A vector of `dim` finite numbers. Throws std::invalid_argument that begins with `where`; `key` is what the dimension is of.
std::span<const float> checked_vector(VectorValue& value, sqlite3_value* from, std::int64_t dim,
                                      const std::string& key, const std::string& where);

class TableIndex {
 public:
  // rows, stamp: the quoted names of the tables.
  TableIndex(sqlite3* db, const std::string& rows, const std::string& stamp, std::int64_t dim,
             std::string key);

  // After bringing the index up to date.
  IndexRanking rank(std::span<const float> query, const IndexQuery& options);

  // Around a write of rows: what is said of it reaches an index that was up to date before.
  class Writing {
   public:
    explicit Writing(TableIndex* index)
        : index_(index != nullptr && index->is_current() ? index : nullptr) {}
    void erased(std::int64_t id) const;
    void put(std::int64_t id, std::span<const float> key) const;  // a new row, or another key

   private:
    TableIndex* index_;
  };

 private:
  std::int64_t stamp();
  bool is_current() { return index_ && stamp() == known_; }
  void update();
  void build();
  template <class F>
  void each_row(const F& row);  // row(id, key)

  sqlite3* db_;
  std::string rows_;
  Statement stamp_;
  std::int64_t dim_, known_ = 0;
  std::string key_;
  std::optional<MemoryIndex> index_;
};

}  // namespace qkv::sql
