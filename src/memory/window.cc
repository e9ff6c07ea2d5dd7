#include <stdexcept>
#include <utility>

#include "qkv/memory.h"

namespace qkv {

MemoryWindow::MemoryWindow(MemoryState empty, std::size_t keep)
    : empty_(std::move(empty)), young_(empty_), budget_(keep) {}

// Counts the bytes of one more row. Once a row is left out, the kept ones are of no use either.
bool MemoryWindow::room(std::size_t bytes) {
  if (lost_) return false;
  kept_bytes_ += bytes;
  if (kept_bytes_ <= budget_) return true;
  lost_ = true;
  scores_ = {};
  numbers_ = {};
  values_ = {};
  return false;
}

void MemoryWindow::add(double score, std::span<const float> value) {
  young_.add(score, value);
  keep(score, value);
}

void MemoryWindow::keep(double score, std::span<const float> value) {
  if (!room(sizeof score + value.size_bytes())) return;
  scores_.push_back(score);
  values_.insert(values_.end(), value.begin(), value.end());
}

void MemoryWindow::add(double score, double value) {
  young_.add(score, value);
  if (!room(sizeof score + sizeof value)) return;
  scores_.push_back(score);
  numbers_.push_back(value);
}

// The young rows become old ones: old[i] = row i + all younger rows.
void MemoryWindow::turn() {
  const auto dim = static_cast<std::size_t>(empty_.value_dim());
  MemoryState sum = empty_;
  for (std::size_t i = scores_.size(); i-- > 0;) {
    if (numbers_.empty())
      sum.add(scores_[i], std::span(values_).subspan(i * dim, dim));
    else
      sum.add(scores_[i], numbers_[i]);
    old_.push_back(sum);
  }
  scores_.clear();
  numbers_.clear();
  values_.clear();
  kept_bytes_ = 0;
  young_ = empty_;
}

void MemoryWindow::pop() {
  if (old_.empty()) {
    if (lost_ || scores_.empty())
      throw std::length_error("the window's rows were not kept: more than " +
                              std::to_string(budget_) + " bytes of them");
    turn();
  }
  old_.pop_back();
}

MemoryState MemoryWindow::total() const {
  if (old_.empty()) return young_;
  MemoryState sum = old_.back();
  sum.merge(young_);
  return sum;
}

}  // namespace qkv
