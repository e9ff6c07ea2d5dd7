// CREATE VIRTUAL TABLE books USING qkv(key float[384], value, author, ...): rows of a vector and what belongs to it.
//
//   SELECT value, weight FROM books WHERE key MATCH :query     soft: every row, the largest weight first
//   SELECT value, weight FROM books WHERE key = :query         hard: rows whose key has these numbers, weight 1
//
//   … AND max_error = 0.01                                     soft, through the index: the rows that matter (table_index.h)
//
// Rows lie in an ordinary table of the same database, <name>_rows(id, key, c1, c2, …), so that transactions, savepoints, crashes
// and integrity checks are SQLite's own.
#pragma once

#include "sql/sqlite/values.h"

namespace qkv::sql {

int register_memory_table(sqlite3* db);

}  // namespace qkv::sql
