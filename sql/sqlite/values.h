// SQLite values as vectors and numbers, and what a function says when they are not.
#pragma once

#include <sqlite3ext.h>

#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// SQLite hands a loaded extension its functions in this table, so that it needs no library to link with.
extern "C" const sqlite3_api_routines* sqlite3_api;

namespace qkv::sql {

// A vector of float32: a little-endian BLOB, read in place where it is aligned, or a JSON array.
class VectorValue {
 public:
  // Throws std::invalid_argument.
  std::span<const float> read(sqlite3_value* value);

 private:
  std::vector<float> own_;
};

inline bool is_null(sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_NULL; }
bool any_null(int count, sqlite3_value** values);
bool is_number(sqlite3_value* value);
std::string_view text_of(sqlite3_value* value);
std::string_view blob_of(sqlite3_value* value);
// Throws std::invalid_argument that names it unless it is an INTEGER or a REAL.
double number_of(sqlite3_value* value, const char* name);
// A label as JSON; NULL is null. Throws for a BLOB.
std::string label_of(sqlite3_value* value);

void give_vector(sqlite3_context* to, std::span<const float> numbers);
void give_text(sqlite3_context* to, const std::string& text);
void give_blob(sqlite3_context* to, const std::string& bytes);

// No exception crosses SQLite, which is C.
template <class F>
void guarded(sqlite3_context* context, const char* function, const F& f) {
  try {
    f();
  } catch (const std::bad_alloc&) {
    sqlite3_result_error_nomem(context);
  } catch (const std::exception& error) {
    sqlite3_result_error(context, (std::string(function) + ": " + error.what()).c_str(), -1);
  }
}

// Each registers its part; returns an SQLite result code.
int register_scalars(sqlite3* db);
int register_aggregates(sqlite3* db);

}  // namespace qkv::sql
