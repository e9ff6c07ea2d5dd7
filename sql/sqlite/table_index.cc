#include "sql/sqlite/table_index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <unordered_set>
#include <utility>

namespace qkv::sql {

std::span<const float> checked_vector(VectorValue& value, sqlite3_value* from, std::int64_t dim,
                                      const std::string& key, const std::string& where) {
  std::span<const float> numbers;
  try {
    numbers = value.read(from);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(where + error.what());
  }
  if (static_cast<std::int64_t>(numbers.size()) != dim)
    throw std::invalid_argument(where + std::to_string(numbers.size()) + " dimensions, " + key +
                                " has " + std::to_string(dim));
  for (std::size_t d = 0; d < numbers.size(); ++d)
    if (!std::isfinite(numbers[d]))
      throw std::invalid_argument(where + "number " + std::to_string(d + 1) +
                                  " is NaN or infinite");
  return numbers;
}

TableIndex::TableIndex(sqlite3* db, const std::string& rows, const std::string& stamp,
                       std::int64_t dim, std::string key)
    : db_(db),
      rows_(rows),
      stamp_(db, "SELECT stamp FROM " + stamp),
      dim_(dim),
      key_(std::move(key)) {}

std::int64_t TableIndex::stamp() {
  if (!stamp_.step()) throw std::runtime_error("the mark of the last write is gone");
  const std::int64_t stamp = sqlite3_column_int64(stamp_.get(), 0);
  sqlite3_reset(stamp_.get());
  return stamp;
}

template <class F>
void TableIndex::each_row(const F& row) {
  VectorValue value;
  Statement rows(db_, "SELECT id, key FROM " + rows_);
  while (rows.step()) {
    const std::int64_t id = sqlite3_column_int64(rows.get(), 0);
    row(id, checked_vector(value, sqlite3_column_value(rows.get(), 1), dim_, key_,
                           "column " + key_ + " of row " + std::to_string(id) + ": "));
  }
}

void TableIndex::build() {
  std::vector<std::int64_t> ids;
  std::vector<float> keys;
  each_row([&](std::int64_t id, std::span<const float> key) {
    ids.push_back(id);
    keys.insert(keys.end(), key.begin(), key.end());
  });
  index_.reset();
  index_.emplace(ids, keys, dim_, std::span<const float>(), 0, MemoryIndex::Options{});
}

// Rows that are new, gone or have another key, unless those are so many that building anew is faster.
void TableIndex::update() {
  const std::int64_t now = stamp();
  if (index_ && now == known_) return;
  if (index_) {
    std::vector<std::int64_t> changed;
    std::vector<float> keys;
    std::unordered_set<std::int64_t> seen;
    each_row([&](std::int64_t id, std::span<const float> key) {
      seen.insert(id);
      const std::span<const float> known = index_->key(id);
      if (!known.empty() && std::memcmp(known.data(), key.data(), key.size_bytes()) == 0) return;
      changed.push_back(id);
      keys.insert(keys.end(), key.begin(), key.end());
    });
    std::vector<std::int64_t> gone;
    for (const std::int64_t id : index_->ids())
      if (!seen.contains(id)) gone.push_back(id);
    // A row that is inserted is compared with every block, as in building, but by one core and not beside others.
    if (changed.size() + gone.size() > seen.size() / 8) {
      build();
    } else {
      const MemoryIndex& index = *index_;
      for (const std::int64_t id : gone) index_->erase(id);
      for (std::size_t i = 0; i < changed.size(); ++i) {
        index_->erase(changed[i]);
        index_->insert(changed[i],
                       std::span(keys).subspan(i * static_cast<std::size_t>(index.dim()),
                                               static_cast<std::size_t>(index.dim())));
      }
    }
  } else {
    build();
  }
  known_ = now;
}

IndexRanking TableIndex::rank(std::span<const float> query, const IndexQuery& options) {
  update();
  return index_->rank(query, options);
}

void TableIndex::Writing::erased(std::int64_t id) const {
  if (index_ == nullptr) return;
  index_->index_->erase(id);
  index_->known_ = index_->stamp();
}

void TableIndex::Writing::put(std::int64_t id, std::span<const float> key) const {
  if (index_ == nullptr) return;
  index_->index_->erase(id);
  index_->index_->insert(id, key);
  index_->known_ = index_->stamp();
}

}  // namespace qkv::sql
