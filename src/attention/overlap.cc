#include "attention/overlap.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <utility>

#include "attention/check.h"

namespace qkv {
namespace {

using Step = Place::Step;

// Places that a search may try: a few milliseconds. Layouts that nest, as all but made-up ones do, need a handful.
constexpr int kBudget = 1 << 18;

// Whether some Σ stride·x, 0 ≤ x < count, lies in [low, high]. Strides are positive, largest first. Also true when the
// budget is used up.
bool can_reach(std::span<const Step> steps, std::int64_t low, std::int64_t high, int& budget) {
  std::int64_t most = 0;
  std::int64_t divisor = 0;
  for (const Step& step : steps) {
    most += step.stride * (step.count - 1);
    divisor = std::gcd(divisor, step.stride);
  }
  if (high < 0 || low > most || low > high) return false;
  if (low <= 0 || high >= most) return true;  // the smallest sum, 0, or the largest
  if (high / divisor * divisor < low) return false;
  const Step& first = steps.front();
  const std::int64_t rest = most - first.stride * (first.count - 1);
  const std::int64_t least_x =
      low > rest ? (low - rest + first.stride - 1) / first.stride : std::int64_t{0};
  const std::int64_t most_x = std::min(high / first.stride, first.count - 1);
  for (std::int64_t x = least_x; x <= most_x; ++x) {
    if (--budget < 0) return true;
    if (can_reach(steps.subspan(1), low - x * first.stride, high - x * first.stride, budget))
      return true;
  }
  return false;
}

// By insertion: there are at most eight, and mostly in order.
void largest_first(std::span<Step> steps) {
  for (std::size_t i = 1; i < steps.size(); ++i)
    for (std::size_t j = i; j > 0 && steps[j - 1].stride < steps[j].stride; --j)
      std::swap(steps[j - 1], steps[j]);
}

std::int64_t address(const void* data) {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data));
}

// The dimensions that lead anywhere, in bytes, largest stride first; low becomes the address of the lowest byte.
std::size_t steps_of(const TensorView& t, std::array<Step, 4>& steps, std::int64_t& low) {
  const std::int64_t size = size_of(t.dtype);
  std::size_t count = 0;
  low = address(t.data);
  for (std::size_t i = 0; i < 4; ++i) {
    if (t.shape[i] <= 1 || t.strides[i] == 0) continue;  // leads nowhere, whatever the stride
    const std::int64_t stride = t.strides[i] * size;
    if (stride < 0) low += stride * (t.shape[i] - 1);
    steps[count++] = {std::abs(stride), t.shape[i]};
  }
  largest_first(std::span(steps).first(count));
  return count;
}

bool is_empty(const TensorView& t) {
  return t.data == nullptr || std::find(t.shape.begin(), t.shape.end(), 0) != t.shape.end();
}

}  // namespace

bool reaches_far(const TensorView& t) {
  if (is_empty(t)) return false;
  const std::int64_t start = address(t.data);
  std::int64_t below = 0;
  std::int64_t above = size_of(t.dtype);
  for (std::size_t i = 0; i < 4; ++i) {
    if (t.shape[i] <= 1) continue;
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(t.strides[i], t.shape[i] - 1, &bytes) ||
        __builtin_mul_overflow(bytes, size_of(t.dtype), &bytes) || bytes > kMaxReach ||
        bytes < -kMaxReach)
      return true;
    (bytes < 0 ? below : above) += bytes;
  }
  std::int64_t end = 0;
  return above - below > kMaxReach || start < 0 || start < -below ||
         __builtin_add_overflow(start, above, &end);
}

Place::Place(const char* called, const void* data, std::int64_t bytes)
    : name(called), low(address(data)), high(low + bytes), width(bytes) {}

Place::Place(const char* called, const TensorView& t) : name(called) {
  if (is_empty(t)) return;
  std::array<Step, 4> all{};
  const std::size_t count = steps_of(t, all, low);
  width = size_of(t.dtype);
  for (std::size_t i = count; i-- > 0;) {
    const Step& step = all[i];
    if (step.stride <= width)  // runs that touch are one
      width += step.stride * (step.count - 1);
    else
      steps[step_count++] = step;
  }
  std::reverse(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(step_count));
  high = low + width;
  for (std::size_t i = 0; i < step_count; ++i) high += steps[i].stride * (steps[i].count - 1);
}

bool overlaps_itself(const TensorView& t) {
  if (is_empty(t)) return false;
  for (std::size_t i = 0; i < 4; ++i)
    if (t.shape[i] > 1 && t.strides[i] == 0) return true;
  std::array<Step, 4> steps{};
  std::int64_t low = 0;
  const std::size_t count = steps_of(t, steps, low);
  const std::int64_t width = size_of(t.dtype);
  std::int64_t reach = width;
  bool nested = true;  // each stride steps over everything below it
  for (std::size_t i = count; i-- > 0;) {
    nested = nested && steps[i].stride >= reach;
    reach += steps[i].stride * (steps[i].count - 1);
  }
  if (nested) return false;
  // Two entries differ by Σ stride·d with |d| < count, not all d 0; of a pair and its opposite, the first d that is not 0 is
  // positive in one. That d counts from 1, those after it from −(count − 1); those before it are 0.
  int budget = kBudget;
  for (std::size_t first = 0; first < count; ++first) {
    std::array<Step, 4> differences{};
    std::int64_t start = steps[first].stride;
    for (std::size_t i = first; i < count; ++i) {
      const auto& [stride, size] = steps[i];
      differences[i] = {stride, i == first ? size - 1 : 2 * size - 1};
      if (i != first) start -= stride * (size - 1);
    }
    if (can_reach(std::span(differences).subspan(first, count - first), 1 - width - start,
                  width - 1 - start, budget))
      return true;
  }
  return false;
}

bool overlap(const Place& a, const Place& b) {
  if (a.low >= b.high || b.low >= a.high || a.low == a.high || b.low == b.high) return false;
  // A byte of both: a.low + Σ a's steps + u = b.low + Σ b's steps + v with u < a.width, v < b.width. With b's steps counted
  // from their ends, only sums are left.
  std::array<Step, 8> steps{};
  std::size_t count = 0;
  std::int64_t target = b.low - a.low;
  const auto add = [&](const Step& step) {
    for (std::size_t i = 0; i < count; ++i)
      if (steps[i].stride == step.stride) {
        steps[i].count += step.count - 1;
        return;
      }
    steps[count++] = step;
  };
  for (std::size_t i = 0; i < a.step_count; ++i) add(a.steps[i]);
  for (std::size_t i = 0; i < b.step_count; ++i) {
    add(b.steps[i]);
    target += b.steps[i].stride * (b.steps[i].count - 1);
  }
  largest_first(std::span(steps).first(count));
  int budget = kBudget;
  return can_reach(std::span(steps).first(count), target - (a.width - 1), target + b.width - 1,
                   budget);
}

void Places::read(const char* name, const TensorView& t) { add(false, Place(name, t)); }

void Places::written(const char* name, const MutableTensorView& t) { add(true, Place(name, t)); }

void Places::read(const AttentionOptions& options) {
  // a dimension of 1 is repeated, and Place takes it for the one entry it is
  read("mask", options.mask);
  read("bias", options.bias);
  read("k_scale", options.k_scale);
  read("v_scale", options.v_scale);
  read("sinks", options.sinks);
  read("alibi_slopes", options.alibi_slopes);
  read("key_lengths", options.key_lengths);
  read("cu_seqlens_q", options.cu_seqlens_q);
  read("cu_seqlens_k", options.cu_seqlens_k);
  read("block_table", options.block_table);
}

void Places::add(bool is_written, const Place& place) {
  if (place.low == place.high) return;
  if (count_ == kMost) fail("Places", "too many arguments");
  places_[count_] = place;
  written_[count_++] = is_written;
}

void Places::check(const char* function) const {
  for (std::size_t i = 0; i < count_; ++i)
    for (std::size_t j = 0; written_[i] && j < count_; ++j) {
      if (i == j || (written_[j] && j < i) || !overlap(places_[i], places_[j])) continue;
      const auto where = [](const Place& p) {
        return std::string(p.name) + " (bytes " + std::to_string(p.low) + " to " +
               std::to_string(p.high) + ")";
      };
      fail(function, where(places_[i]) + " overlaps " + where(places_[j]) +
                         "; expected memory of its own for what is written");
    }
}

}  // namespace qkv
