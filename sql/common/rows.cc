#include "sql/common/rows.h"

#include <bit>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace qkv::sql {

void fail_at(std::int64_t row, const char* column, const std::exception& error) {
  throw std::invalid_argument("row " + std::to_string(row) + ", column " + column + ": " +
                              error.what());
}

void Constant::check(int kind, std::string_view bytes, const char* name) {
  if (kind_ == 0) {
    kind_ = kind;
    bytes_ = bytes;
  } else if (kind != kind_ || bytes != bytes_) {
    throw std::invalid_argument(std::string(name) + " differs from that of the rows before");
  }
}

void Constant::check(double number, const char* name) {
  check(-1, {reinterpret_cast<const char*>(&number), sizeof number}, name);
}

void AttentionRows::begin(std::int64_t row, std::span<const float> query,
                          MemoryReader::Options options, const Cell* value) {
  if (value != nullptr) {
    number_ = value->is_number;
    options.value_dim = number_ ? 1 : static_cast<std::int64_t>(value->vector.size());
  }
  at(row, "q", [&] { reader_.emplace(query, options); });
}

void AttentionRows::add(std::int64_t row, std::span<const float> key, const Cell* value,
                        std::string_view label) {
  if (value == nullptr) return reader_->add(row, key, {}, label);
  if (value->is_number != number_)
    at(row, "v", [] { throw std::invalid_argument("numbers and vectors in one column"); });
  const auto one = static_cast<float>(value->number);
  reader_->add(row, key, number_ ? std::span(&one, 1) : value->vector, label);
}

std::optional<MemoryState> AttentionRows::state() {
  if (!reader_) return std::nullopt;
  return reader_->state();
}

void ScoredRows::add(std::int64_t row, double score, std::optional<double> temperature,
                     const Cell& value) {
  if (temperature)
    at(row, "temperature", [&] {
      if (!(*temperature > 0) || !std::isfinite(*temperature))
        throw std::invalid_argument("temperature is not above 0 and finite");
      temperature_.check(*temperature, "temperature");
      score /= *temperature;
    });
  const std::int64_t dim = value.is_number ? 1 : static_cast<std::int64_t>(value.vector.size());
  at(row, "value", [&] {
    if (window_ && value.is_number != number_)
      throw std::invalid_argument("numbers and vectors in one column");
    if (value.is_number && !std::isfinite(value.number))
      throw std::invalid_argument(std::isnan(value.number) ? "the number is NaN"
                                                           : "the number is infinite");
    if (window_ && dim != window_->young().value_dim())
      throw std::invalid_argument(std::to_string(dim) + " dimensions, the rows before have " +
                                  std::to_string(window_->young().value_dim()));
    // Sums at different temperatures are answers to different questions.
    if (!window_)
      window_.emplace(MemoryState(dim, 0, std::bit_cast<std::uint64_t>(temperature.value_or(1))),
                      keep_);
  });
  number_ = value.is_number;
  require_finite(row, "value", value.vector);
  at(row, "score", [&] {
    if (number_)
      window_->add(score, value.number);
    else
      window_->add(score, value.vector);
  });
}

std::optional<MemoryState> ScoredRows::state() const {
  if (!window_) return std::nullopt;
  return window_->total();
}

void merge_bytes(std::int64_t row, std::string_view bytes, std::optional<MemoryState>& sum) {
  at(row, "state", [&] {
    MemoryState state = MemoryState::from_bytes(bytes);
    if (sum)
      sum->merge(state);
    else
      sum = std::move(state);
  });
}

std::vector<double> mean_of(const MemoryState& state) {
  std::vector<double> mean(static_cast<std::size_t>(state.value_dim()));
  state.value(mean);
  for (const double x : mean)
    if (!std::isfinite(x)) throw std::invalid_argument("the sum of values is too large");
  return mean;
}

}  // namespace qkv::sql
