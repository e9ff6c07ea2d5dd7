// A block of rows goes through the kernels of attention's decoding: query_dot_keys → softmax → weighted_sum_values. Keys, values
// and weights are float32; what blocks add up to is float64, so that errors do not grow with the number of rows.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "kernels/decode.h"
#include "memory/question.h"
#include "qkv/memory.h"

namespace qkv {
namespace {

static_assert(MemoryReader::kBlock == kernels::kMaxChunk);

// Which query and scale scores come from, so that states of others are not merged with them. Never 0.
std::uint64_t question_of(std::span<const float> query, double scale) {
  std::uint64_t hash = 14695981039346656037u;
  const auto mix = [&hash](std::uint64_t x) {
    hash = (hash ^ x) * 1099511628211u;
    hash ^= hash >> 29;
  };
  mix(query.size());
  mix(std::bit_cast<std::uint64_t>(scale));
  for (const float x : query) mix(std::bit_cast<std::uint32_t>(x));
  return hash == 0 ? 1 : hash;
}

[[noreturn]] void wrong_size(std::int64_t row, const char* column, std::size_t got,
                             std::size_t expected, const char* because) {
  throw std::invalid_argument("row " + std::to_string(row) + ", column " + column + ": " +
                              std::to_string(got) + " dimensions, " + because + " " +
                              std::to_string(expected));
}

[[noreturn]] void too_large(std::int64_t row) {
  throw std::invalid_argument("row " + std::to_string(row) +
                              ", column k: scale·q·k is too large for float32");
}

}  // namespace

MemoryReader::MemoryReader(std::span<const float> query, const Options& options)
    : query_(checked_query(query).begin(), query.end()),
      packed_(query_),
      scale_(checked_scale(query, options.scale)),
      options_(options),
      window_(MemoryState(options.value_dim, options.top, question_of(query, scale_)),
              options.keep),
      scores_(kernels::kScoreStride),
      weighted_(static_cast<std::size_t>(
          kernels::acc_stride(static_cast<int>(std::max<std::int64_t>(options.value_dim, 1))))) {
  // The same factor as qkv::attention() gives its queries, so that scores have the same bits.
  const float factor = static_cast<float>(scale_) * std::numbers::log2e_v<float>;
  for (float& x : packed_) x *= factor;
}

void MemoryReader::add(std::int64_t number, std::span<const float> key,
                       std::span<const float> value, std::string_view label) {
  if (key.size() != query_.size()) wrong_size(number, "k", key.size(), query_.size(), "q has");
  const auto value_dim = static_cast<std::size_t>(options_.value_dim);
  if (value.size() != value_dim)
    wrong_size(number, "v", value.size(), value_dim, "the rows before have");
  const auto row = static_cast<std::size_t>(pending_);
  if (keys_.size() < (row + 1) * key.size()) {  // a small table needs no whole block
    const std::size_t rows = std::min<std::size_t>(kBlock, std::max<std::size_t>(8, 2 * row));
    keys_.resize(rows * key.size());
    values_.resize(rows * value_dim);
    numbers_.resize(rows);
    if (options_.top > 0) labels_.resize(rows);
  }
  std::copy(key.begin(), key.end(), keys_.begin() + static_cast<std::ptrdiff_t>(row * key.size()));
  std::copy(value.begin(), value.end(),
            values_.begin() + static_cast<std::ptrdiff_t>(row * value_dim));
  numbers_[row] = number;
  if (options_.top > 0) labels_[row] = label;
  if (++pending_ == static_cast<int>(kBlock)) flush();
}

void MemoryReader::scores(std::span<const std::int64_t> numbers, std::span<const float> keys,
                          std::span<double> out) const {
  const int dim = static_cast<int>(query_.size());
  const int count = static_cast<int>(numbers.size());
  std::array<float, kernels::kScoreStride> scores;
  kernels::decode_kernels().of[static_cast<std::size_t>(kernels::Element::f32)].query_dot_keys(
      packed_.data(), 1, {keys.data(), dim, count, dim}, {}, scores.data());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!std::isfinite(scores[i])) {
      require_finite(numbers[i], "k", keys.subspan(i * query_.size(), query_.size()));
      too_large(numbers[i]);
    }
    out[i] = double{scores[i]} * std::numbers::ln2;
  }
}

void MemoryReader::flush() {
  if (pending_ == 0) return;
  const auto& kernel = kernels::decode_kernels();
  const auto& floats = kernel.of[static_cast<std::size_t>(kernels::Element::f32)];
  const int dim = static_cast<int>(query_.size());
  const int value_dim = static_cast<int>(options_.value_dim);
  const int count = pending_;
  pending_ = 0;  // an error leaves no row behind that would be met again
  const kernels::StoredRows keys{keys_.data(), dim, count, dim};
  const kernels::StoredRows values{values_.data(), value_dim, count, value_dim};
  // A NaN or an infinity, times whatever and added to whatever, leaves no finite number: where sums are finite the rows are.
  const auto finite = [](std::span<const float> sums) {
    return std::all_of(sums.begin(), sums.end(), [](float x) { return std::isfinite(x); });
  };
  const auto require_finite_rows = [&] {
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      require_finite(numbers_[at], "k", {keys_.data() + i * std::int64_t{dim}, query_.size()});
      require_finite(
          numbers_[at], "v",
          {values_.data() + i * std::int64_t{value_dim}, static_cast<std::size_t>(value_dim)});
    }
  };

  // scores[i] = scale·log2 e · query·key_i
  floats.query_dot_keys(packed_.data(), 1, keys, {}, scores_.data());
  if (!finite(std::span(scores_).first(static_cast<std::size_t>(count)))) require_finite_rows();
  std::array<float, kBlock> log2_scores;
  for (int i = 0; i < count; ++i) {
    const float score = scores_[static_cast<std::size_t>(i)];
    if (!std::isfinite(score)) too_large(numbers_[static_cast<std::size_t>(i)]);
    log2_scores[static_cast<std::size_t>(i)] = score;
  }

  // weights 2^(score − max) of this block alone
  float max = -std::numeric_limits<float>::infinity(), sum = 0, alpha = 0;
  kernel.softmax(scores_.data(), 1, count, {&max, &sum, &alpha});
  if (value_dim > 0) {
    std::fill(weighted_.begin(), weighted_.end(), 0.0f);
    floats.weighted_sum_values(scores_.data(), 1, values, {}, &alpha, weighted_.data());
    if (!finite(std::span(weighted_).first(static_cast<std::size_t>(value_dim))))
      require_finite_rows();
  }

  MemoryState::Block block;
  block.rows = count;
  block.max = double{max} * std::numbers::ln2;
  block.weighted = {weighted_.data(), static_cast<std::size_t>(value_dim)};
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double weight = scores_[at];
    block.sum += weight;
    block.squares += weight * weight;
    block.spread += weight * ((double{log2_scores[at]} - double{max}) * std::numbers::ln2);
  }
  window_.add_block(block);
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double score = double{log2_scores[at]} * std::numbers::ln2;
    if (options_.top > 0) window_.offer(score, labels_[at]);
    if (options_.keep > 0)
      window_.keep(score, {values_.data() + i * std::int64_t{value_dim},
                           static_cast<std::size_t>(value_dim)});
  }
}

void MemoryReader::pop() {
  flush();
  window_.pop();
}

MemoryState MemoryReader::state() {
  flush();
  return window_.total();
}

}  // namespace qkv
