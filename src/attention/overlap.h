// Which bytes an argument occupies, and whether two arguments share one. Exact for strided tensors: the query, key, value and
// out that lie interleaved in one buffer share none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "qkv/attention.h"

namespace qkv {

// No memory reaches further, so that sums of what lies within stay far from overflow.
inline constexpr std::int64_t kMaxReach = std::int64_t{1} << 60;

// The bytes of a strided tensor: runs of `width` bytes that begin at low + Σ stride·x for 0 ≤ x < count of each step.
struct Place {
  struct Step {
    std::int64_t stride, count;
  };
  const char* name = "";
  std::int64_t
      low = 0,
      high =
          0;  // addresses: the first byte's and the one after the last; equal where there is none
  std::int64_t width = 0;
  std::array<Step, 4> steps{};  // stride > 0, largest first; count > 1
  std::size_t step_count = 0;

  Place() = default;
  // The tensor must have passed reaches_far() and have no negative size.
  Place(const char* name, const TensorView& t);
  Place(const char* name, const void* data, std::int64_t bytes);
};

// Whether the tensor's entries lie more than kMaxReach apart, or outside of what can be addressed.
bool reaches_far(const TensorView& t);
// Whether two entries of the tensor share a byte. A search that takes too long says yes.
bool overlaps_itself(const TensorView& t);
// Whether two places share a byte. A search that takes too long says yes.
bool overlap(const Place& a, const Place& b);

// The arguments of one call.
class Places {
 public:
  void read(const char* name, const TensorView& t);
  void written(const char* name, const MutableTensorView& t);
  template <class T>
  void read(const char* name, std::span<const T> values) {
    add(false, Place(name, values.data(), static_cast<std::int64_t>(values.size_bytes())));
  }
  template <class T>
  void written(const char* name, std::span<T> values) {
    add(true, Place(name, values.data(), static_cast<std::int64_t>(values.size_bytes())));
  }
  // Everything in options that a call reads, all of it checked.
  void read(const AttentionOptions& options);
  // Throws std::invalid_argument if something written shares a byte with anything else.
  void check(const char* function) const;

 private:
  void add(bool is_written, const Place& place);

  static constexpr std::size_t kMost = 32;
  std::array<Place, kMost> places_;
  std::array<bool, kMost> written_{};
  std::size_t count_ = 0;
};

}  // namespace qkv
