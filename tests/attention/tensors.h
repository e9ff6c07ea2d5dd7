// Tensors for the tests: any layout a caller may hand in, with numbers that nobody may read between the rows.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include "kernels/half.h"
#include "qkv/tensor.h"
#include "tests/kernels/random.h"

namespace qkv::tests {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// How a tensor lies in memory.
struct Layout {
  bool tokens_outside = false;        // [batch, tokens, heads, dim] in memory, as models keep it
  std::array<std::int64_t, 4> gap{};  // elements left free after each row of that dimension
  std::array<bool, 3> backwards{};    // negative stride for batch, heads, tokens
  std::array<bool, 3> repeated{};     // stride 0: every entry is the same memory
};

// One number as stored in another type, and back. int8 has no NaN: it gets a number that no test hands in otherwise.
inline void store_number(float number, DType dtype, std::byte* to) {
  const auto put = [to](auto bits) { std::memcpy(to, &bits, sizeof bits); };
  switch (dtype) {
    case DType::f16:
      return put(kernels::float_to_half(number));
    case DType::bf16:
      return put(kernels::float_to_bfloat16(number));
    default:
      return put(static_cast<std::int8_t>(
          std::isnan(number) ? -128 : std::nearbyint(std::clamp(number, -128.0f, 127.0f))));
  }
}
inline float stored_number(DType dtype, const std::byte* from) {
  std::uint16_t bits = 0;
  if (dtype == DType::i8) return static_cast<float>(*reinterpret_cast<const std::int8_t*>(from));
  std::memcpy(&bits, from, sizeof bits);
  return dtype == DType::f16 ? kernels::half_to_float(bits) : kernels::bfloat16_to_float(bits);
}

// Elements outside the tensor hold NaN (true, for bool), and stay so. A tensor of floats may be stored in another type: then
// at() is the number, and a view is of a copy in that type, made anew for each view.
template <class T>
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Shape4& shape, const Layout& layout) : shape_(shape) {
    const std::array<std::size_t, 4> order =  // inner to outer
        layout.tokens_outside ? std::array<std::size_t, 4>{3, 1, 2, 0}
                              : std::array<std::size_t, 4>{3, 2, 1, 0};
    std::int64_t size = 1;
    std::int64_t offset = 1;  // one float after the allocation: never aligned for a vector
    for (const std::size_t i : order) {
      if (i < 3 && layout.repeated[i]) continue;
      strides_[i] = size;
      size = size * shape[i] + layout.gap[i];
      if (i < 3 && layout.backwards[i] && shape[i] > 0) {
        offset += strides_[i] * (shape[i] - 1);
        strides_[i] = -strides_[i];
      }
    }
    size_ = static_cast<std::size_t>(std::max<std::int64_t>(size, 0)) + 2;
    storage_ = std::make_unique<T[]>(size_);
    for (std::size_t i = 0; i < size_; ++i) storage_[i] = untouched();
    data_ = storage_.get() + offset;
  }

  static T untouched() {
    if constexpr (std::is_same_v<T, float>)
      return kNaN;
    else
      return true;
  }

  T& at(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) const {
    return data_[b * strides_[0] + h * strides_[1] + t * strides_[2] + d * strides_[3]];
  }
  // f(b, h, t, d) for every element, in order.
  template <class F>
  void each(const F& f) const {
    for (std::int64_t b = 0; b < shape_[0]; ++b)
      for (std::int64_t h = 0; h < shape_[1]; ++h)
        for (std::int64_t t = 0; t < shape_[2]; ++t)
          for (std::int64_t d = 0; d < shape_[3]; ++d) f(b, h, t, d);
  }
  template <class F>
  void fill(const F& value) {
    each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
      at(b, h, t, d) = value();
    });
  }
  // The same elements in another layout.
  Tensor copy(const Layout& layout) const {
    Tensor other(shape_, layout);
    if (storage_ == nullptr) return Tensor();
    each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
      other.at(b, h, t, d) = at(b, h, t, d);
    });
    if constexpr (std::is_same_v<T, float>) other.store_as(dtype_);
    return other;
  }
  // From now on stored in this type; every number becomes the nearest one of the type.
  void store_as(DType dtype) {
    dtype_ = dtype;
    stored_ = dtype == DType::f32 ? nullptr : std::make_unique<std::byte[]>(size_ * step());
    for (std::size_t i = 0; stored_ != nullptr && i < size_; ++i) {
      if (std::isnan(storage_[i])) continue;
      store_number(storage_[i], dtype, stored_.get());
      storage_[i] = stored_number(dtype, stored_.get());
    }
    write_stored();
  }
  // Takes over what was written to a mutable_view().
  void read_back() {
    for (std::size_t i = 0; stored_ != nullptr && i < size_; ++i)
      storage_[i] = stored_number(dtype_, stored_.get() + i * step());
  }
  // Whether something was written outside the tensor.
  bool written_outside() const {
    auto inside = std::make_unique<bool[]>(size_);
    each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
      inside[&at(b, h, t, d) - storage_.get()] = true;
    });
    for (std::size_t i = 0; i < size_; ++i)
      if (!inside[i] && !std::isnan(static_cast<float>(storage_[i]))) return true;
    return false;
  }

  const Shape4& shape() const { return shape_; }
  const Shape4& strides() const { return strides_; }
  T* data() const { return data_; }
  DType dtype() const { return dtype_; }
  TensorView view() const {
    if (storage_ == nullptr) return {};
    if constexpr (std::is_same_v<T, float>)
      if (stored_ != nullptr) return mutable_view();
    return {const_cast<const T*>(data_), shape_, strides_};
  }
  MutableTensorView mutable_view() const {
    if (stored_ == nullptr) return {data_, shape_, strides_};
    write_stored();
    return {stored_.get() + static_cast<std::size_t>(data_ - storage_.get()) * step(), dtype_,
            shape_, strides_};
  }

 private:
  std::size_t step() const { return static_cast<std::size_t>(size_of(dtype_)); }
  void write_stored() const {
    if constexpr (std::is_same_v<T, float>)
      for (std::size_t i = 0; stored_ != nullptr && i < size_; ++i)
        store_number(storage_[i], dtype_, stored_.get() + i * step());
  }

  Shape4 shape_{};
  Shape4 strides_{};
  DType dtype_ = std::is_same_v<T, float> ? DType::f32 : DType::boolean;
  std::unique_ptr<T[]> storage_;
  std::unique_ptr<std::byte[]> stored_;
  std::size_t size_ = 0;
  T* data_ = nullptr;
};

// A layout as callers have them; `input` allows repeated entries.
inline Layout random_layout(Random& random, bool input) {
  Layout layout;
  if (random.chance(0.4)) return layout;
  layout.tokens_outside = random.chance(0.5);
  for (auto& gap : layout.gap)
    if (random.chance(0.3)) gap = random.between(1, 7);
  for (auto& flip : layout.backwards) flip = random.chance(0.15);
  if (input)
    for (auto& repeat : layout.repeated) repeat = random.chance(0.07);
  return layout;
}

}  // namespace qkv::tests
