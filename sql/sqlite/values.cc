#include "sql/sqlite/values.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "sql/common/json.h"

namespace qkv::sql {

std::string_view text_of(sqlite3_value* value) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  if (text == nullptr) throw std::bad_alloc();
  return {text, static_cast<std::size_t>(sqlite3_value_bytes(value))};
}

std::string_view blob_of(sqlite3_value* value) {
  if (sqlite3_value_type(value) != SQLITE_BLOB) throw std::invalid_argument("expected a BLOB");
  const auto* bytes = static_cast<const char*>(sqlite3_value_blob(value));
  const auto size = static_cast<std::size_t>(sqlite3_value_bytes(value));
  if (bytes == nullptr && size > 0) throw std::bad_alloc();
  return {bytes, size};
}

std::span<const float> VectorValue::read(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_TEXT:
      return own_ = vector_from_json(text_of(value));
    case SQLITE_BLOB: {
      const std::string_view bytes = blob_of(value);
      if (bytes.empty() || bytes.size() % sizeof(float) != 0)
        throw std::invalid_argument("a BLOB of " + std::to_string(bytes.size()) +
                                    " bytes is no vector of float32");
      if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0)
        return {static_cast<const float*>(static_cast<const void*>(bytes.data())),
                bytes.size() / sizeof(float)};
      own_.resize(bytes.size() / sizeof(float));
      std::memcpy(own_.data(), bytes.data(), bytes.size());
      return own_;
    }
    default:
      throw std::invalid_argument("expected a vector: a BLOB of float32 or a JSON array");
  }
}

bool any_null(int count, sqlite3_value** values) {
  for (int i = 0; i < count; ++i)
    if (is_null(values[i])) return true;
  return false;
}

bool is_number(sqlite3_value* value) {
  const int type = sqlite3_value_type(value);
  return type == SQLITE_INTEGER || type == SQLITE_FLOAT;
}

double number_of(sqlite3_value* value, const char* name) {
  if (!is_number(value)) throw std::invalid_argument(std::string(name) + " is not a number");
  return sqlite3_value_double(value);
}

std::string label_of(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_NULL:
      return "null";
    case SQLITE_INTEGER:
      return std::to_string(sqlite3_value_int64(value));
    case SQLITE_FLOAT: {
      const double x = sqlite3_value_double(value);
      return std::isfinite(x) ? json_number(x) : x > 0 ? "\"Inf\"" : "\"-Inf\"";
    }
    case SQLITE_TEXT:
      return json_string(text_of(value));
    default:
      throw std::invalid_argument("a BLOB is no label");
  }
}

void give_vector(sqlite3_context* to, std::span<const float> numbers) {
  sqlite3_result_blob64(to, numbers.data(), numbers.size_bytes(), SQLITE_TRANSIENT);
}

void give_text(sqlite3_context* to, const std::string& text) {
  sqlite3_result_text64(to, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

void give_blob(sqlite3_context* to, const std::string& bytes) {
  sqlite3_result_blob64(to, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
}

}  // namespace qkv::sql
