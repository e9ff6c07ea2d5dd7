#include "sql/sqlite/memory_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include "qkv/memory.h"
#include "sql/common/json.h"
#include "sql/sqlite/statement.h"
#include "sql/sqlite/table_index.h"

namespace qkv::sql {
namespace {

// Columns after the declared ones: what MATCH adds to a row, and what it may be asked with.
enum Extra : int { kWeight, kRemainder, kScore, kScale, kErrBound, kRowsRead, kMaxError, kExtras };
constexpr const char* kExtraNames[kExtras] = {"weight",    "remainder", "score",    "scale",
                                              "err_bound", "rows_read", "max_error"};
// What idxNum says: the kind of search, and whether the next arguments are the scale and the error asked.
enum Plan : int {
  kScan = 0,
  kRowid = 1,
  kEqual = 2,
  kMatch = 3,
  kKind = 3,
  kWithScale = 4,
  kWithError = 8
};

struct Column {
  std::string name, declaration;  // as in `author` and `author TEXT`
};

struct Table : sqlite3_vtab {
  sqlite3* db = nullptr;
  std::string schema, name;
  std::int64_t dim = 0;
  std::string key;
  std::vector<Column> columns;      // without the key
  std::optional<TableIndex> index;  // once a query asked for an error

  Table() : sqlite3_vtab{} {}
  std::string rows() const { return quoted(schema) + "." + quoted(name + "_rows"); }
  std::string stamp() const { return quoted(schema) + "." + quoted(name + "_stamp"); }
  int column_count() const { return 1 + static_cast<int>(columns.size()); }
  std::string list(const char* prefix) const {  // c1, c2, …
    std::string text;
    for (std::size_t i = 0; i < columns.size(); ++i) text += prefix + std::to_string(i + 1);
    return text;
  }
  int fail(const std::string& what, int status = SQLITE_ERROR) {
    sqlite3_free(zErrMsg);
    zErrMsg = sqlite3_mprintf("%s: %s", name.c_str(), what.c_str());
    return status;
  }
};

struct Hit {
  sqlite3_int64 id;
  double score, weight, remainder;
};

struct Cursor : sqlite3_vtab_cursor {
  Statement rows;  // kScan, kEqual, kRowid: the rows; kMatch: one row by its id
  bool match = false, end = true;
  std::vector<Hit> hits;  // kMatch, largest weight first
  std::size_t at = 0;
  double scale = 0;
  std::optional<double> max_error;  // kMatch, through the index: what was asked, and what came
  double err_bound = 0;
  std::int64_t rows_read = 0;

  Cursor() : sqlite3_vtab_cursor{} {}
  Table& table() const { return *static_cast<Table*>(pVtab); }
};

template <class F>
int guarded_table(Table& table, const F& f) {
  try {
    f();
    return SQLITE_OK;
  } catch (const std::bad_alloc&) {
    return SQLITE_NOMEM;
  } catch (const ConstraintError& error) {
    return table.fail(error.what(), SQLITE_CONSTRAINT);
  } catch (const std::exception& error) {
    return table.fail(error.what());
  }
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t from = text.find_first_not_of(kSpace);
  return from == std::string_view::npos
             ? ""
             : text.substr(from, text.find_last_not_of(kSpace) - from + 1);
}

// `key float[384]` → its name and dimension
void read_key(Table& table, std::string_view text) {
  const std::size_t space = text.find_first_of(" \t");
  const std::string_view type = space == std::string_view::npos ? "" : trimmed(text.substr(space));
  const bool is_float =
      type.size() > 7 && sqlite3_strnicmp(type.data(), "float[", 6) == 0 && type.back() == ']';
  if (is_float) {
    const std::string_view digits = type.substr(6, type.size() - 7);
    const auto [stop, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), table.dim);
    if (error != std::errc() || stop != digits.data() + digits.size()) table.dim = 0;
  }
  if (table.dim < 1 || table.dim > 65536)
    throw std::invalid_argument("the first column must be `name float[1 to 65536]`, got `" +
                                std::string(text) + "`");
  table.key = text.substr(0, space);
}

void read_columns(Table& table, int count, const char* const* arguments) {
  if (count < 4) throw std::invalid_argument("expected columns, as in qkv(key float[384], value)");
  read_key(table, trimmed(arguments[3]));
  const auto plain = [](std::string_view name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
             (c >= 'A' && c <= 'Z');
    });
  };
  for (int i = 4; i < count; ++i) {
    const std::string_view text = trimmed(arguments[i]);
    table.columns.push_back(
        {std::string(text.substr(0, text.find_first_of(" \t"))), std::string(text)});
  }
  std::vector<std::string> names{table.key};
  for (const Column& c : table.columns) names.push_back(c.name);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!plain(names[i])) throw std::invalid_argument("`" + names[i] + "` is no plain column name");
    for (const char* extra : kExtraNames)
      if (sqlite3_stricmp(names[i].c_str(), extra) == 0)
        throw std::invalid_argument("`" + names[i] + "` is a column that MATCH fills");
  }
}

// Whoever writes a row of table `name`, this connection or another, marks that: so an index in memory knows whether it is of the
// rows as they are. The mark is random, so that what follows a rollback never looks like what was rolled back.
void stamp_writes(const Table& table, const std::string& name) {
  for (const char* what : {"insert", "update", "delete"})
    run(table.db, "CREATE TRIGGER " + quoted(table.schema) + "." + quoted(name + "_" + what) +
                      " AFTER " + what + " ON " + quoted(name + "_rows") + " BEGIN UPDATE " +
                      quoted(name + "_stamp") + " SET stamp = random(); END");
}

int open(sqlite3* db, int count, const char* const* arguments, sqlite3_vtab** made, char** error,
         bool create) {
  try {
    auto table = std::make_unique<Table>();
    table->db = db;
    table->schema = arguments[1];
    table->name = arguments[2];
    read_columns(*table, count, arguments);
    std::string declared = "CREATE TABLE x(" + quoted(table->key) + " BLOB";
    for (const Column& c : table->columns) declared += ", " + c.declaration;
    for (const char* extra : kExtraNames) declared += std::string(", ") + extra + " HIDDEN";
    if (sqlite3_declare_vtab(db, (declared + ")").c_str()) != SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(db));
    if (create) {
      std::string columns = "id INTEGER PRIMARY KEY, key BLOB NOT NULL";
      for (std::size_t i = 0; i < table->columns.size(); ++i) {
        const Column& c = table->columns[i];
        columns += ", c" + std::to_string(i + 1) + c.declaration.substr(c.name.size());
      }
      run(db, "CREATE TABLE " + table->rows() + "(" + columns + ")");
      run(db, "CREATE TABLE " + table->stamp() + "(stamp INTEGER NOT NULL)");
      run(db, "INSERT INTO " + table->stamp() + " VALUES(random())");
      stamp_writes(*table, table->name);
    }
    // REPLACE is done by write(); every other answer to a conflict is SQLite's.
    sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
    *made = table.release();
    return SQLITE_OK;
  } catch (const std::bad_alloc&) {
    return SQLITE_NOMEM;
  } catch (const std::exception& what) {
    *error = sqlite3_mprintf("qkv: %s", what.what());
    return SQLITE_ERROR;
  }
}

int create(sqlite3* db, void*, int count, const char* const* arguments, sqlite3_vtab** made,
           char** error) {
  return open(db, count, arguments, made, error, true);
}

int connect(sqlite3* db, void*, int count, const char* const* arguments, sqlite3_vtab** made,
            char** error) {
  return open(db, count, arguments, made, error, false);
}

int disconnect(sqlite3_vtab* table) {
  delete static_cast<Table*>(table);
  return SQLITE_OK;
}

int destroy(sqlite3_vtab* base) {
  auto& table = *static_cast<Table*>(base);
  const int status = guarded_table(table, [&] {
    table.index.reset();  // its statements read the tables
    run(table.db, "DROP TABLE " + table.rows());
    run(table.db, "DROP TABLE " + table.stamp());
  });
  if (status == SQLITE_OK) delete &table;
  return status;
}

int rename(sqlite3_vtab* base, const char* name) {
  auto& table = *static_cast<Table*>(base);
  return guarded_table(table, [&] {
    table.index.reset();
    for (const char* what : {"insert", "update", "delete"})
      run(table.db, "DROP TRIGGER " + quoted(table.schema) + "." + quoted(table.name + "_" + what));
    for (const char* suffix : {"_rows", "_stamp"})
      run(table.db, "ALTER TABLE " + quoted(table.schema) + "." + quoted(table.name + suffix) +
                        " RENAME TO " + quoted(std::string(name) + suffix));
    stamp_writes(table, name);
    table.name = name;
  });
}

int shadow_name(const char* suffix) {
  return sqlite3_stricmp(suffix, "rows") == 0 || sqlite3_stricmp(suffix, "stamp") == 0;
}

// MATCH before an exact key before a rowid before every row.
int best_index(sqlite3_vtab* base, sqlite3_index_info* info) {
  const auto& table = *static_cast<Table*>(base);
  int match = -1, equal = -1, rowid = -1, scale = -1, error = -1;
  for (int i = 0; i < info->nConstraint; ++i) {
    const auto& c = info->aConstraint[i];
    const bool is_match = c.iColumn == 0 && c.op == SQLITE_INDEX_CONSTRAINT_MATCH;
    const bool is_scale =
        c.iColumn == table.column_count() + kScale && c.op == SQLITE_INDEX_CONSTRAINT_EQ;
    const bool is_error =
        c.iColumn == table.column_count() + kMaxError && c.op == SQLITE_INDEX_CONSTRAINT_EQ;
    if ((is_match || is_scale || is_error) && c.usable == 0) return SQLITE_CONSTRAINT;
    if (c.usable == 0) continue;
    if (is_match) match = i;
    if (is_scale) scale = i;
    if (is_error) error = i;
    if (c.iColumn == 0 && c.op == SQLITE_INDEX_CONSTRAINT_EQ) equal = i;
    if (c.iColumn < 0 && c.op == SQLITE_INDEX_CONSTRAINT_EQ) rowid = i;
  }
  const auto use = [&](int constraint, int argument) {
    info->aConstraintUsage[constraint].argvIndex = argument;
    info->aConstraintUsage[constraint].omit = 1;
  };
  info->idxNum = kScan;
  info->estimatedCost = 1e6;
  if (match >= 0) {
    use(match, 1);
    info->idxNum = kMatch;
    info->estimatedCost = 2e6;
    if (scale >= 0) {
      use(scale, 2);
      info->idxNum |= kWithScale;
    }
    if (error >= 0) {
      use(error, scale >= 0 ? 3 : 2);
      info->idxNum |= kWithError;
      info->estimatedCost = 1e4;
    }
    const bool by_weight = info->nOrderBy == 1 && info->aOrderBy[0].desc != 0 &&
                           (info->aOrderBy[0].iColumn == table.column_count() + kWeight ||
                            info->aOrderBy[0].iColumn == table.column_count() + kScore);
    if (by_weight) info->orderByConsumed = 1;
  } else if (rowid >= 0) {
    use(rowid, 1);
    info->aConstraintUsage[rowid].omit = 0;
    info->idxNum = kRowid;
    info->estimatedCost = 10;
    info->estimatedRows = 1;
    info->idxFlags = SQLITE_INDEX_SCAN_UNIQUE;
  } else if (equal >= 0) {
    use(equal, 1);
    info->idxNum = kEqual;
  }
  return SQLITE_OK;
}

int open_cursor(sqlite3_vtab*, sqlite3_vtab_cursor** made) {
  *made = new (std::nothrow) Cursor;
  return *made != nullptr ? SQLITE_OK : SQLITE_NOMEM;
}

int close_cursor(sqlite3_vtab_cursor* cursor) {
  delete static_cast<Cursor*>(cursor);
  return SQLITE_OK;
}

std::span<const float> checked_vector(const Table& table, VectorValue& value, sqlite3_value* from,
                                      const std::string& name) {
  return checked_vector(value, from, table.dim, table.key, "column " + name + ": ");
}

// Weights of hits in order; the remainder of a row is what the rows after it hold.
void share(Cursor& cursor) {
  double sum = 0;
  for (auto hit = cursor.hits.rbegin(); hit != cursor.hits.rend(); ++hit) {  // the smallest first
    hit->remainder = sum;
    sum += hit->weight = std::exp(hit->score - cursor.hits.front().score);
  }
  for (Hit& hit : cursor.hits) {
    hit.weight /= sum;
    hit.remainder /= sum;
  }
}

// Every row's score, then their weights.
void match_rows(Cursor& cursor, sqlite3_value* query, sqlite3_value* scale) {
  Table& table = cursor.table();
  VectorValue query_value, key_value;
  const std::span<const float> q = checked_vector(table, query_value, query, table.key + " MATCH");
  MemoryReader::Options options;
  if (scale != nullptr) options.scale = number_of(scale, "scale");
  MemoryReader reader(q, options);
  cursor.scale = reader.scale();
  Statement rows(table.db, "SELECT id, key FROM " + table.rows());
  std::vector<std::int64_t> ids;
  std::vector<float> keys;
  std::vector<double> scores(MemoryReader::kBlock);
  const auto score_block = [&] {
    reader.scores(ids, keys, scores);
    for (std::size_t i = 0; i < ids.size(); ++i) cursor.hits.push_back({ids[i], scores[i], 0, 0});
    ids.clear();
    keys.clear();
  };
  while (rows.step()) {
    const std::int64_t id = sqlite3_column_int64(rows.get(), 0);
    const std::span<const float> key =
        checked_vector(table, key_value, sqlite3_column_value(rows.get(), 1),
                       table.key + " of row " + std::to_string(id));
    ids.push_back(id);
    keys.insert(keys.end(), key.begin(), key.end());
    if (ids.size() == MemoryReader::kBlock) score_block();
  }
  if (!ids.empty()) score_block();
  std::sort(cursor.hits.begin(), cursor.hits.end(), [](const Hit& a, const Hit& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  share(cursor);
}

// The same through the index: the rows that matter alone.
void match_index(Cursor& cursor, sqlite3_value* query, sqlite3_value* scale) {
  Table& table = cursor.table();
  VectorValue query_value;
  const std::span<const float> q = checked_vector(table, query_value, query, table.key + " MATCH");
  IndexQuery options;
  options.max_error = *cursor.max_error;
  if (scale != nullptr) options.scale = number_of(scale, "scale");
  cursor.scale =
      static_cast<float>(options.scale.value_or(1 / std::sqrt(static_cast<double>(table.dim))));
  if (!table.index)
    table.index.emplace(table.db, table.rows(), table.stamp(), table.dim, table.key);
  const IndexRanking ranking = table.index->rank(q, options);
  cursor.err_bound = ranking.err_bound;
  cursor.rows_read = ranking.rows_read;
  for (const IndexRow& row : ranking.best) cursor.hits.push_back({row.id, row.score, 0, 0});
  share(cursor);
}

// The row that the cursor stands at.
void settle(Cursor& cursor) {
  if (!cursor.match) {
    cursor.end = !cursor.rows.step();
    return;
  }
  cursor.end = cursor.at >= cursor.hits.size();
  if (cursor.end) return;
  sqlite3_reset(cursor.rows.get());
  sqlite3_bind_int64(cursor.rows.get(), 1, cursor.hits[cursor.at].id);
  if (!cursor.rows.step()) throw std::runtime_error("a row was deleted while it was read");
}

int filter(sqlite3_vtab_cursor* base, int plan, const char*, int, sqlite3_value** arguments) {
  auto& cursor = *static_cast<Cursor*>(base);
  Table& table = cursor.table();
  return guarded_table(table, [&] {
    cursor.hits.clear();
    cursor.at = 0;
    cursor.end = true;
    cursor.match = (plan & kKind) == kMatch;
    cursor.max_error.reset();
    std::string sql = "SELECT id, key" + table.list(", c") + " FROM " + table.rows();
    if (cursor.match) {
      const int with_scale = (plan & kWithScale) != 0 ? 1 : 0;
      const int with_error = (plan & kWithError) != 0 ? 1 : 0;
      if (any_null(1 + with_scale + with_error, arguments)) return;  // NULL matches nothing
      sqlite3_value* scale = with_scale != 0 ? arguments[1] : nullptr;
      if (with_error != 0) cursor.max_error = number_of(arguments[1 + with_scale], "max_error");
      if (cursor.max_error)
        match_index(cursor, arguments[0], scale);
      else
        match_rows(cursor, arguments[0], scale);
      cursor.rows = Statement(table.db, sql + " WHERE id = ?");
    } else if ((plan & kKind) == kRowid) {
      cursor.rows = Statement(table.db, sql + " WHERE id = ?");
      sqlite3_bind_value(cursor.rows.get(), 1, arguments[0]);
    } else if ((plan & kKind) == kEqual) {
      if (is_null(arguments[0])) return;
      VectorValue value;
      const auto wanted = checked_vector(table, value, arguments[0], table.key + " =");
      std::vector<float> same(wanted.begin(), wanted.end());
      for (float& x : same) x += 0.0f;  // keys are stored with −0 as 0
      cursor.rows = Statement(table.db, sql + " WHERE key = ?");
      sqlite3_bind_blob64(cursor.rows.get(), 1, same.data(), same.size() * sizeof(float),
                          SQLITE_TRANSIENT);
    } else {
      cursor.rows = Statement(table.db, sql);
    }
    settle(cursor);
  });
}

int next(sqlite3_vtab_cursor* base) {
  auto& cursor = *static_cast<Cursor*>(base);
  return guarded_table(cursor.table(), [&] {
    ++cursor.at;
    settle(cursor);
  });
}

int eof(sqlite3_vtab_cursor* base) { return static_cast<Cursor*>(base)->end; }

int column(sqlite3_vtab_cursor* base, sqlite3_context* to, int i) {
  const auto& cursor = *static_cast<Cursor*>(base);
  const int extra = i - cursor.table().column_count();
  if (extra < 0) {
    sqlite3_result_value(to, sqlite3_column_value(cursor.rows.get(), 1 + i));
  } else if (sqlite3_vtab_nochange(to) != 0) {
    return SQLITE_OK;  // no result: write() sees that an UPDATE does not touch it
  } else if (cursor.match) {
    const Hit& hit = cursor.hits[cursor.at];
    const double numbers[kErrBound] = {hit.weight, hit.remainder, hit.score, cursor.scale};
    if (extra < kErrBound)
      sqlite3_result_double(to, numbers[extra]);
    else if (extra == kRowsRead)
      sqlite3_result_int64(
          to, cursor.max_error ? cursor.rows_read : static_cast<sqlite3_int64>(cursor.hits.size()));
    else if (cursor.max_error)  // without, no bound was computed
      sqlite3_result_double(to, extra == kErrBound ? cursor.err_bound : *cursor.max_error);
  } else if (extra == kWeight) {
    sqlite3_result_double(to, 1);  // found or not: 1 or 0
  }
  return SQLITE_OK;
}

int rowid(sqlite3_vtab_cursor* base, sqlite3_int64* to) {
  *to = sqlite3_column_int64(static_cast<Cursor*>(base)->rows.get(), 0);
  return SQLITE_OK;
}

void write(Table& table, sqlite3_value* old_id, sqlite3_value** values, sqlite3_int64* new_id) {
  sqlite3_value** columns = values + 1;  // values[0] is the new rowid
  for (int i = 0; i < kExtras;
       ++i) {  // an UPDATE that leaves such a column alone marks it as unchanged
    sqlite3_value* extra = columns[table.column_count() + i];
    if (sqlite3_value_nochange(extra) == 0 && !(is_null(old_id) && is_null(extra)))
      throw std::invalid_argument(std::string("column ") + kExtraNames[i] +
                                  " is filled by MATCH and cannot be written");
  }
  VectorValue value;
  const std::span<const float> given = checked_vector(table, value, columns[0], table.key);
  std::vector<float> key(given.begin(), given.end());
  for (float& x : key) x += 0.0f;  // −0 = 0, so that equal keys have equal bytes
  const bool replace = sqlite3_vtab_on_conflict(table.db) == SQLITE_REPLACE;
  const std::string conflict = replace ? " OR REPLACE" : "";
  // REPLACE may take away rows that nobody names here: the index then reads for itself what is left.
  const TableIndex::Writing writing(table.index && !replace ? &*table.index : nullptr);
  std::string sql = is_null(old_id)
                        ? "INSERT" + conflict + " INTO " + table.rows() + "(id, key" +
                              table.list(", c") + ") VALUES(?1, ?2"
                        : "UPDATE" + conflict + " " + table.rows() + " SET id = ?1, key = ?2";
  const int count = static_cast<int>(table.columns.size());
  for (int i = 0; i < count; ++i)
    sql +=
        (is_null(old_id) ? ", ?" : ", c" + std::to_string(i + 1) + " = ?") + std::to_string(i + 3);
  sql += is_null(old_id) ? ")" : " WHERE id = ?" + std::to_string(count + 3);
  Statement statement(table.db, sql);
  sqlite3_bind_value(statement.get(), 1, values[0]);
  sqlite3_bind_blob64(statement.get(), 2, key.data(), key.size() * sizeof(float), SQLITE_STATIC);
  for (int i = 0; i < count; ++i) sqlite3_bind_value(statement.get(), i + 3, columns[i + 1]);
  if (!is_null(old_id)) sqlite3_bind_value(statement.get(), count + 3, old_id);
  statement.step();
  if (is_null(old_id)) *new_id = sqlite3_last_insert_rowid(table.db);
  if (!is_null(old_id)) writing.erased(sqlite3_value_int64(old_id));
  writing.put(is_null(old_id) ? *new_id : sqlite3_value_int64(values[0]), key);
}

// INSERT, UPDATE and DELETE: on the rows' own table, inside the statement's transaction.
int update(sqlite3_vtab* base, int count, sqlite3_value** values, sqlite3_int64* new_id) {
  auto& table = *static_cast<Table*>(base);
  return guarded_table(table, [&] {
    if (count > 1) return write(table, values[0], values + 1, new_id);
    const TableIndex::Writing writing(table.index ? &*table.index : nullptr);
    Statement statement(table.db, "DELETE FROM " + table.rows() + " WHERE id = ?");
    sqlite3_bind_value(statement.get(), 1, values[0]);
    statement.step();
    writing.erased(sqlite3_value_int64(values[0]));
  });
}

sqlite3_module module() {
  sqlite3_module m{};
  m.iVersion = 3;
  m.xCreate = create;
  m.xConnect = connect;
  m.xBestIndex = best_index;
  m.xDisconnect = disconnect;
  m.xDestroy = destroy;
  m.xOpen = open_cursor;
  m.xClose = close_cursor;
  m.xFilter = filter;
  m.xNext = next;
  m.xEof = eof;
  m.xColumn = column;
  m.xRowid = rowid;
  m.xUpdate = update;
  m.xRename = rename;
  m.xShadowName = shadow_name;
  return m;
}

}  // namespace

int register_memory_table(sqlite3* db) {
  static const sqlite3_module kModule = module();
  return sqlite3_create_module_v2(db, "qkv", &kModule, nullptr, nullptr);
}

}  // namespace qkv::sql
