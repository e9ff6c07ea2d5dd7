// The C++ side of seam.h: PostgreSQL's rows as the rows of sql/common.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory_resource>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/memory.h"
#include "sql/common/json.h"
#include "sql/common/rows.h"
#include "sql/postgres/seam.h"

namespace {

using qkv::MemoryState;

// Memory of a context of PostgreSQL.
class ContextMemory : public std::pmr::memory_resource {
 public:
  explicit ContextMemory(void* context) : context_(context) {}

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    void* memory = alignment <= 8 ? pg_allocate(context_, size) : nullptr;
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  void do_deallocate(void* memory, std::size_t, std::size_t) override { pg_release(memory); }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  void* context_;
};

template <class F>
bool guarded(SeamError* error, const F& f) noexcept {
  try {
    f();
    return true;
  } catch (const std::bad_alloc&) {
    *error = {true, "out of memory"};
  } catch (const std::exception& what) {
    error->no_memory = false;
    std::size_t size = std::min(std::strlen(what.what()), sizeof error->text - 1);
    // Not through the middle of a character.
    while (size > 0 && (static_cast<unsigned char>(what.what()[size]) & 0xc0) == 0x80) --size;
    std::memcpy(error->text, what.what(), size);
    error->text[size] = '\0';
  } catch (...) {
    *error = {false, "an unknown error"};
  }
  return false;
}

void give(Answer* to, const void* bytes, std::size_t size) {
  to->size = to->prefix + size;
  to->bytes = static_cast<char*>(pg_allocate(nullptr, to->size));
  if (to->bytes == nullptr) throw std::bad_alloc();
  std::memcpy(to->bytes + to->prefix, bytes, size);
}

void give(Answer* to, std::string_view text) { give(to, text.data(), text.size()); }

void give(Answer* to, std::span<const float> vector) {
  give(to, vector.data(), vector.size_bytes());
}

void give(Answer* to, const std::vector<double>& mean) {
  give(to, std::span<const float>(std::vector<float>(mean.begin(), mean.end())));
}

std::span<const float> span_of(const Vector& vector) { return {vector.numbers, vector.count}; }

std::string_view bytes_of(std::span<const float> numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes()};
}

qkv::sql::Cell cell_of(const Value& value) {
  return {span_of(value.vector), value.number, value.is_number};
}

}  // namespace

struct Sum {
  Sum(void* context, std::size_t to_keep) : memory(context), keep(to_keep), scored(to_keep) {}

  ContextMemory memory;
  std::size_t keep;
  qkv::sql::Constant query, scale, n;
  // What the one function that this Sum serves adds to:
  qkv::sql::AttentionRows attention;
  qkv::sql::ScoredRows scored;
  std::optional<MemoryState> merged;  // states of other rows

  std::optional<MemoryState> state() {
    std::optional<MemoryState> rows = attention.begun() ? attention.state() : scored.state();
    if (!rows) return merged;
    if (merged) rows->merge(*merged);
    return rows;
  }
};

extern "C" {

Sum* sum_begin(void* context, bool keeps) {
  void* place = pg_allocate(context, sizeof(Sum));
  if (place == nullptr) return nullptr;
  Sum* sum = nullptr;
  SeamError error;
  const std::size_t keep = keeps ? std::numeric_limits<std::size_t>::max() : 0;
  guarded(&error, [&] { sum = new (place) Sum(context, keep); });
  return sum;
}

void sum_end(Sum* sum) { sum->~Sum(); }

bool sum_add_key(Sum* sum, const KeyRow* row, SeamError* error) {
  return guarded(error, [&] {
    using qkv::sql::at;
    const std::span<const float> query = span_of(row->query);
    if (row->query.numbers != nullptr)
      at(row->row, "q", [&] { sum->query.check(1, bytes_of(query), "q"); });
    if (row->scale != nullptr)
      at(row->row, "scale", [&] { sum->scale.check(*row->scale, "scale"); });
    if (row->top != 0) at(row->row, "n", [&] { sum->n.check(double(row->top), "n"); });
    qkv::sql::Cell cell;
    if (row->value != nullptr) cell = cell_of(*row->value);
    const qkv::sql::Cell* value = row->value == nullptr ? nullptr : &cell;
    if (!sum->attention.begun()) {
      qkv::MemoryReader::Options options;
      if (row->scale != nullptr) options.scale = *row->scale;
      options.top = row->top;
      options.keep = sum->keep;
      options.memory = &sum->memory;
      sum->attention.begin(row->row, query, options, value);
    }
    sum->attention.add(row->row, span_of(row->key), value, {row->label, row->label_size});
  });
}

bool sum_add_score(Sum* sum, int64_t row, double score, const double* temperature,
                   const Value* value, SeamError* error) {
  return guarded(error, [&] {
    std::optional<double> given;
    if (temperature != nullptr) given = *temperature;
    sum->scored.add(row, score, given, cell_of(*value));
  });
}

bool sum_add_state(Sum* sum, int64_t row, const char* bytes, size_t size, SeamError* error) {
  return guarded(error, [&] { qkv::sql::merge_bytes(row, {bytes, size}, sum->merged); });
}

bool sum_leave(Sum* sum, SeamError* error) {
  return guarded(error, [&] {
    if (sum->attention.begun())
      sum->attention.reader().pop();
    else if (sum->scored.begun())
      sum->scored.window().pop();
    else
      throw std::logic_error("a row leaves that never came");
  });
}

bool sum_merge(Sum* sum, Sum* other, SeamError* error) {
  return guarded(error, [&] {
    const std::optional<MemoryState> more = other->state();
    if (!more) return;
    try {
      if (!sum->merged)
        sum->merged = more;
      else
        sum->merged->merge(*more);
    } catch (const std::invalid_argument& what) {  // what one process would have refused at a row
      throw std::invalid_argument(std::string("rows of parallel processes: ") + what.what());
    }
  });
}

bool sum_mean(Sum* sum, Answer* vector, SeamError* error) {
  return guarded(error, [&] {
    if (const auto state = sum->state(); state && !state->nothing())
      give(vector, qkv::sql::mean_of(*state));
  });
}

bool sum_mean_number(Sum* sum, double* number, bool* is_null, SeamError* error) {
  return guarded(error, [&] {
    const auto state = sum->state();
    *is_null = !state || state->nothing();
    if (!*is_null) *number = qkv::sql::mean_of(*state).at(0);
  });
}

bool sum_log_sum_exp(Sum* sum, double* number, bool* is_null, SeamError* error) {
  return guarded(error, [&] {
    const auto state = sum->state();
    *is_null = !state || state->nothing();
    if (!*is_null) *number = state->log_sum_exp();
  });
}

bool sum_state(Sum* sum, Answer* bytes, SeamError* error) {
  return guarded(error, [&] {
    if (const auto state = sum->state()) give(bytes, state->bytes());
  });
}

bool sum_top(Sum* sum, Answer* json, SeamError* error) {
  return guarded(error, [&] {
    if (const auto state = sum->state()) give(json, qkv::sql::top_to_json(*state));
  });
}

bool sum_stats(Sum* sum, Answer* json, SeamError* error) {
  return guarded(error, [&] {
    if (const auto state = sum->state()) give(json, qkv::sql::stats_to_json(*state));
  });
}

bool mean_of_state(const char* bytes, size_t size, Answer* vector, SeamError* error) {
  return guarded(error, [&] {
    const MemoryState state = MemoryState::from_bytes({bytes, size});
    if (!state.nothing()) give(vector, qkv::sql::mean_of(state));
  });
}

bool vector_of_json(const char* text, size_t size, Answer* vector, SeamError* error) {
  return guarded(error, [&] { give(vector, qkv::sql::vector_from_json({text, size})); });
}

bool vector_of_doubles(const double* numbers, size_t count, Answer* vector, SeamError* error) {
  return guarded(error, [&] {
    std::vector<float> narrow;
    for (std::size_t i = 0; i < count; ++i) {
      narrow.push_back(static_cast<float>(numbers[i]));
      if (!std::isfinite(narrow.back()))
        throw std::invalid_argument(
            "argument " + std::to_string(i + 1) +
            (std::isnan(numbers[i]) ? " is NaN" : " is too large for float32"));
    }
    give(vector, narrow);
  });
}

bool vector_of_vector(Vector numbers, Answer* vector, SeamError* error) {
  return guarded(error, [&] {
    qkv::require_finite(1, "1", span_of(numbers));
    give(vector, span_of(numbers));
  });
}

bool json_of_vector(Vector numbers, Answer* json, SeamError* error) {
  return guarded(error, [&] {
    qkv::require_finite(1, "1", span_of(numbers));
    give(json, qkv::sql::vector_to_json(span_of(numbers)));
  });
}

bool json_of_text(const char* text, size_t size, Answer* json, SeamError* error) {
  return guarded(error, [&] { give(json, qkv::sql::json_string({text, size})); });
}

bool json_of_number(double number, Answer* json, SeamError* error) {
  return guarded(error, [&] { give(json, qkv::sql::json_number(number)); });
}

}  // extern "C"
