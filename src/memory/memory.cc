#include "qkv/memory.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "memory/limits.h"

namespace qkv {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

}  // namespace

MemoryState::MemoryState(std::int64_t value_dim, int top, std::uint64_t question)
    : top_(top), question_(question), max_(kHidden) {
  if (value_dim < 0 || value_dim > kMaxMemoryDim)
    throw std::invalid_argument("values have " + std::to_string(value_dim) +
                                " dimensions, expected 0 to " + std::to_string(kMaxMemoryDim));
  if (top < 0 || top > kMaxMemoryTop)
    throw std::invalid_argument("n is " + std::to_string(top) + ", expected 0 to " +
                                std::to_string(kMaxMemoryTop));
  weighted_.resize(static_cast<std::size_t>(value_dim));
}

// With M = max(max, given): everything times e^(max − M); spread' = e^(max − M)·(spread + (max − M)·sum)
double MemoryState::raise(double max) {
  if (max <= max_) return max_;
  if (sum_ > 0) {
    const double moved = max_ - max;
    const double factor = std::exp(moved);
    // A factor of 0 with moved = −inf would be NaN; both are finite, as max_ is where sum_ > 0.
    spread_ = factor * (spread_ + moved * sum_);
    sum_ *= factor;
    squares_ *= factor * factor;
    for (double& w : weighted_) w *= factor;
  }
  return max_ = max;
}

double MemoryState::add_weight(double score) {
  const double away = score - raise(score);
  const double weight = std::exp(away);
  sum_ += weight;
  squares_ += weight * weight;
  spread_ += weight * away;
  return weight;
}

namespace {

// Whether the row counts, after what every score must be.
bool visible(double score) {
  if (score == kHidden) return false;
  if (!std::isfinite(score))
    throw std::invalid_argument(std::isnan(score) ? "the score is NaN" : "the score is +inf");
  return true;
}

}  // namespace

void MemoryState::add(double score, std::span<const float> value, std::string_view label) {
  const bool counts = visible(score);
  ++rows_;
  if (!counts) return;
  const double weight = add_weight(score);
  for (std::size_t d = 0; d < weighted_.size(); ++d) weighted_[d] += weight * value[d];
  offer(score, label);
}

void MemoryState::add(double score, double value) {
  const bool counts = visible(score);
  ++rows_;
  if (!counts) return;
  weighted_[0] += add_weight(score) * value;
}

template <typename Number>
void MemoryState::take_up(double max, double sum, double squares, double spread,
                          std::span<const Number> weighted) {
  const double moved = max - raise(max);
  const double factor = std::exp(moved);
  spread_ += factor * (spread + moved * sum);
  sum_ += factor * sum;
  squares_ += factor * factor * squares;
  for (std::size_t d = 0; d < weighted_.size(); ++d) weighted_[d] += factor * weighted[d];
}

void MemoryState::add_block(const Block& block) {
  rows_ += block.rows;
  if (block.sum > 0) take_up(block.max, block.sum, block.squares, block.spread, block.weighted);
}

bool MemoryState::before(double score, std::string_view label, const Kept& kept) {
  return score != kept.score ? score > kept.score : label < kept.label;
}

void MemoryState::offer(double score, std::string_view label) {
  const auto most = static_cast<std::size_t>(top_);
  if (most == 0 || (kept_.size() == most && !before(score, label, kept_.back()))) return;
  if (kept_.size() == most) kept_.pop_back();
  const auto place =
      std::upper_bound(kept_.begin(), kept_.end(), score,
                       [&](double, const Kept& k) { return before(score, label, k); });
  kept_.insert(place, {score, std::string(label)});
}

void MemoryState::merge(const MemoryState& other) {
  const auto differ = [](const char* what) {
    throw std::invalid_argument(std::string("states of different ") + what + " cannot be merged");
  };
  if (value_dim() != other.value_dim()) differ("value dimensions");
  if (top_ != other.top_) differ("n");
  if (question_ != other.question_) differ("queries or scales");
  if (other.rows_ > std::numeric_limits<std::int64_t>::max() - rows_)
    throw std::invalid_argument("states of more rows than can be counted");
  rows_ += other.rows_;
  if (other.nothing()) return;
  take_up(other.max_, other.sum_, other.squares_, other.spread_,
          std::span<const double>(other.weighted_));
  for (const Kept& k : other.kept_) offer(k.score, k.label);
}

void MemoryState::value(std::span<double> out) const {
  for (std::size_t d = 0; d < weighted_.size(); ++d) out[d] = weighted_[d] / sum_;
}

double MemoryState::log_sum_exp() const { return max_ + std::log(sum_); }

// H = ln Σ w − Σ w·(score − max) / Σ w; rounding must not make it negative where one row has it all.
double MemoryState::entropy() const { return std::max(0.0, std::log(sum_) - spread_ / sum_); }

double MemoryState::effective_rows() const { return sum_ * sum_ / squares_; }

double MemoryState::max_weight() const { return 1 / sum_; }

std::vector<MemoryRow> MemoryState::best() const {
  std::vector<MemoryRow> rows;
  for (const Kept& k : kept_) rows.push_back({k.score, std::exp(k.score - max_) / sum_, k.label});
  return rows;
}

void require_finite(std::int64_t row, const char* column, std::span<const float> numbers) {
  for (std::size_t d = 0; d < numbers.size(); ++d)
    if (!std::isfinite(numbers[d]))
      throw std::invalid_argument("row " + std::to_string(row) + ", column " + column +
                                  ": number " + std::to_string(d + 1) +
                                  (std::isnan(numbers[d]) ? " is NaN" : " is infinite"));
}

}  // namespace qkv
