// vector(), vector_to_json(), attention_final(): one row in, one value out.
#include <cmath>
#include <stdexcept>

#include "qkv/memory.h"
#include "sql/common/json.h"
#include "sql/common/rows.h"
#include "sql/sqlite/values.h"

namespace qkv::sql {
namespace {

// vector('[1, 2]'), vector(1, 2) or vector(blob) → BLOB of float32
void vector_function(sqlite3_context* context, int count, sqlite3_value** values) {
  guarded(context, "vector", [&] {
    if (count == 0) throw std::invalid_argument("expected a JSON array, a BLOB or numbers");
    if (any_null(count, values)) return sqlite3_result_null(context);
    if (count == 1 && !is_number(values[0])) {
      VectorValue value;
      const std::span<const float> numbers = value.read(values[0]);
      require_finite(1, "1", numbers);
      return give_vector(context, numbers);
    }
    std::vector<float> numbers;
    for (int i = 0; i < count; ++i) {
      const std::string name = "argument " + std::to_string(i + 1);
      numbers.push_back(static_cast<float>(number_of(values[i], name.c_str())));
      if (!std::isfinite(numbers.back()))
        throw std::invalid_argument(name + " is too large for float32");
    }
    give_vector(context, numbers);
  });
}

void vector_to_json_function(sqlite3_context* context, int, sqlite3_value** values) {
  guarded(context, "vector_to_json", [&] {
    if (is_null(values[0])) return sqlite3_result_null(context);
    VectorValue value;
    const std::span<const float> numbers = value.read(values[0]);
    require_finite(1, "1", numbers);
    give_text(context, vector_to_json(numbers));
  });
}

// The answer of a state; NULL where no row was visible.
void attention_final(sqlite3_context* context, int, sqlite3_value** values) {
  guarded(context, "attention_final", [&] {
    if (is_null(values[0])) return sqlite3_result_null(context);
    const MemoryState state = MemoryState::from_bytes(blob_of(values[0]));
    if (state.nothing()) return sqlite3_result_null(context);
    const std::vector<double> mean = mean_of(state);
    give_vector(context, std::vector<float>(mean.begin(), mean.end()));
  });
}

}  // namespace

int register_scalars(sqlite3* db) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  const auto add = [&](const char* name, int count,
                       void (*f)(sqlite3_context*, int, sqlite3_value**)) {
    return sqlite3_create_function_v2(db, name, count, kFlags, nullptr, f, nullptr, nullptr,
                                      nullptr);
  };
  int status = add("vector", -1, vector_function);
  if (status == SQLITE_OK) status = add("vector_to_json", 1, vector_to_json_function);
  if (status == SQLITE_OK) status = add("attention_final", 1, attention_final);
  return status;
}

}  // namespace qkv::sql
