// Memory of layers: on cache-line boundaries, kept between calls so that steps of a decoder allocate nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace qkv::layers {

template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};

  CacheLineAllocator() = default;
  template <typename U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>&) {}

  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, kAlignment); }
  // Leaves new elements as they are in memory: a resize() costs no pass over them.
  template <typename U>
  void construct(U* place) noexcept {
    ::new (static_cast<void*>(place)) U;
  }
  template <typename U, typename... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    ::new (static_cast<void*>(place)) U(std::forward<Arguments>(arguments)...);
  }
  bool operator==(const CacheLineAllocator&) const { return true; }
};

// New elements are not set to anything, unless a value is given.
using Buffer = std::vector<float, CacheLineAllocator<float>>;
using HalfBuffer = std::vector<std::uint16_t, CacheLineAllocator<std::uint16_t>>;

// The first `count` floats of the buffer, which grows if it has to; their values are whatever was there.
inline float* at_least(Buffer& buffer, std::int64_t count) {
  if (buffer.size() < static_cast<std::size_t>(count))
    buffer.resize(static_cast<std::size_t>(count));
  return buffer.data();
}

}  // namespace qkv::layers
