#include "cli/sqlite_titles.h"

#include <sqlite3.h>

#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

namespace qkv::cli {
namespace {

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

std::string in_quotes(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + '"';
}

class Database {
 public:
  explicit Database(const std::filesystem::path& path) : path_(path) {
    sqlite3* db = nullptr;
    const int status = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY, nullptr);
    db_.reset(db);
    if (status != SQLITE_OK) fail(db != nullptr ? sqlite3_errmsg(db) : "cannot be opened");
    sqlite3_busy_timeout(db, 10'000);  // another program is writing
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(path_.string() + ": " + what);
  }

  // Calls row(statement) for each row of the answer.
  template <class Row>
  void ask(const std::string& sql, const Row& row) const {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v2(db_.get(), sql.c_str(), -1, &made, nullptr) != SQLITE_OK)
      fail(sqlite3_errmsg(db_.get()));
    const std::unique_ptr<sqlite3_stmt, Close> statement(made);
    int status = sqlite3_step(made);
    for (; status == SQLITE_ROW; status = sqlite3_step(made)) row(made);
    if (status != SQLITE_DONE) fail(sqlite3_errmsg(db_.get()));
  }

 private:
  std::filesystem::path path_;
  std::unique_ptr<sqlite3, Close> db_;
};

std::string text_of(sqlite3_stmt* statement, int column) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  if (text == nullptr) return "";
  return {text, static_cast<std::size_t>(sqlite3_column_bytes(statement, column))};
}

std::string choose_table(const Database& db, const std::string& wanted) {
  std::vector<std::string> names;
  db.ask(
      "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE "
      "'sqlite\\_%' "
      "ESCAPE '\\' ORDER BY name",
      [&](sqlite3_stmt* row) { names.push_back(text_of(row, 0)); });
  std::string known;
  for (const std::string& name : names) {
    if (name == wanted) return name;
    known += (known.empty() ? "" : ", ") + name;
  }
  if (wanted.empty() && names.size() == 1) return names.front();
  if (names.empty()) db.fail("has no tables");
  if (wanted.empty()) db.fail("has several tables, choose one with --table: " + known);
  db.fail("has no table \"" + wanted + "\"; it has " + known);
}

}  // namespace

bool is_sqlite(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string start(16, '\0');
  file.read(start.data(), 16);
  return file.gcount() == 16 && start == std::string("SQLite format 3\0", 16);
}

library::Titles read_sqlite_titles(const std::filesystem::path& path, const std::string& table,
                                   const std::string& column) {
  const Database db(path);
  const std::string name = choose_table(db, table);
  std::vector<std::string> columns;
  db.ask(
      "SELECT name FROM pragma_table_info('" +
          [&] {
            std::string text;
            for (const char c : name) text += c == '\'' ? std::string("''") : std::string(1, c);
            return text;
          }() +
          "')",
      [&](sqlite3_stmt* row) { columns.push_back(text_of(row, 0)); });
  std::ptrdiff_t text_column = -1;
  db.ask("SELECT * FROM " + in_quotes(name) + " LIMIT 100", [&](sqlite3_stmt* row) {
    for (std::ptrdiff_t c = 0; c < std::ssize(columns); ++c)
      if (sqlite3_column_type(row, static_cast<int>(c)) == SQLITE_TEXT &&
          (text_column < 0 || c < text_column))
        text_column = c;
  });
  library::Titles titles;
  titles.column = columns[library::choose_column(path, columns, column, text_column)];
  std::uint64_t line = 0;
  db.ask("SELECT " + in_quotes(titles.column) + " FROM " + in_quotes(name), [&](sqlite3_stmt* row) {
    ++line;
    const int type = sqlite3_column_type(row, 0);
    if (type == SQLITE_NULL) {
      ++titles.blank;
    } else if (type == SQLITE_BLOB) {
      titles.skip(line, "the title is a BLOB");
    } else {
      titles.add(text_of(row, 0), line);
    }
  });
  if (titles.rows.empty()) db.fail("table \"" + name + "\" has no titles");
  return titles;
}

}  // namespace qkv::cli
