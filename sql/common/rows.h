// What the aggregates of both databases do with a row, once its columns are vectors and numbers.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/memory.h"

namespace qkv::sql {

// Adds where it was to what went wrong.
[[noreturn]] void fail_at(std::int64_t row, const char* column, const std::exception& error);

template <class F>
auto at(std::int64_t row, const char* column, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail_at(row, column, error);
  }
}

// An argument that must be the same in every row, such as the query.
class Constant {
 public:
  // Throws std::invalid_argument when the kind (not 0) or the bytes change.
  void check(int kind, std::string_view bytes, const char* name);
  void check(double number, const char* name);
  bool known() const { return kind_ != 0; }

 private:
  int kind_ = 0;
  std::string bytes_;
};

// The value of a row: a vector or a number, and then so is the answer.
struct Cell {
  std::span<const float> vector;
  double number = 0;
  bool is_number = false;
};

// attention(q, k, v [, scale]) and its kin: one query, and rows of a key and perhaps a value and a label.
class AttentionRows {
 public:
  bool begun() const { return reader_.has_value(); }
  // The first row that counts decides for all: q, scale (in `options`) and what its value is. No value: nullptr.
  void begin(std::int64_t row, std::span<const float> query, MemoryReader::Options options,
             const Cell* value);
  void add(std::int64_t row, std::span<const float> key, const Cell* value,
           std::string_view label = {});
  MemoryReader& reader() { return *reader_; }
  bool number() const { return number_; }
  // The sums so far; empty where no row counted.
  std::optional<MemoryState> state();

 private:
  bool number_ = false;
  std::optional<MemoryReader> reader_;
};

// softmax_avg(score, value [, temperature]), and logsumexp(score), whose value is a vector of no numbers.
class ScoredRows {
 public:
  // keep: bytes of rows that may leave again
  explicit ScoredRows(std::size_t keep) : keep_(keep) {}
  void add(std::int64_t row, double score, std::optional<double> temperature, const Cell& value);
  bool begun() const { return window_.has_value(); }
  MemoryWindow& window() { return *window_; }
  bool number() const { return number_; }
  std::optional<MemoryState> state() const;

 private:
  std::size_t keep_;
  Constant temperature_;
  bool number_ = false;
  std::optional<MemoryWindow> window_;
};

// attention_merge(state): adds a state of some rows to those before.
void merge_bytes(std::int64_t row, std::string_view bytes, std::optional<MemoryState>& sum);

// The weighted mean of a state that has a visible row. Throws std::invalid_argument where it is not finite.
std::vector<double> mean_of(const MemoryState& state);

}  // namespace qkv::sql
