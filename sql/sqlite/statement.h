// SQLite's statements as objects.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "sql/sqlite/values.h"

namespace qkv::sql {

inline std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + '"';
}

// What a UNIQUE or NOT NULL says no to.
struct ConstraintError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A prepared statement.
class Statement {
 public:
  Statement() = default;
  Statement(sqlite3* db, const std::string& sql) : db_(db) {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v3(db, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &made, nullptr) !=
        SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(db));
    made_.reset(made);
  }
  sqlite3_stmt* get() const { return made_.get(); }
  explicit operator bool() const { return made_ != nullptr; }
  // Whether there is a row. Throws what SQLite says otherwise.
  bool step() {
    const int status = sqlite3_step(get());
    if (status == SQLITE_ROW) return true;
    if ((status & 0xff) == SQLITE_CONSTRAINT) throw ConstraintError(sqlite3_errmsg(db_));
    if (status != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(db_));
    return false;
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  sqlite3* db_ = nullptr;
  std::unique_ptr<sqlite3_stmt, Finalize> made_;
};

inline void run(sqlite3* db, const std::string& sql) {
  char* error = nullptr;
  if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error) != SQLITE_OK) {
    const std::string what = error != nullptr ? error : "out of memory";
    sqlite3_free(error);
    throw std::runtime_error(what);
  }
}

}  // namespace qkv::sql
