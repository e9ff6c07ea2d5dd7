// Views over memory that the caller owns. Nothing here allocates or copies.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace qkv {

// What one element of a tensor is. What is computed in which precision: docs/numerics.md.
enum class DType : std::uint8_t {
  f32,
  boolean,  // one byte, 0 or 1
  f16,      // IEEE 754 half
  bf16,     // the upper half of a float
  i8,       // signed, with a scale beside it
};

// Bytes of one element.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    default:
      return 1;
  }
}
constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::boolean:
      return "bool";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i8:
      return "int8";
  }
  return "unknown";
}

using Shape4 = std::array<std::int64_t, 4>;

// Strides, in elements, of a densely packed row-major tensor.
constexpr Shape4 dense_strides(const Shape4& shape) {
  return {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
}

// A read-only tensor [batch, heads, tokens, dim]. Strides are in elements; for query, key, value and out the last one
// must be 1, the others are free (0 repeats an entry, negative walks backwards).
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Shape4 shape{};
  Shape4 strides{};

  TensorView() = default;
  TensorView(const float* values, const Shape4& dims)
      : data(values), shape(dims), strides(dense_strides(dims)) {}
  TensorView(const float* values, const Shape4& dims, const Shape4& steps)
      : data(values), shape(dims), strides(steps) {}
  TensorView(const bool* values, const Shape4& dims)
      : data(values), dtype(DType::boolean), shape(dims), strides(dense_strides(dims)) {}
  TensorView(const bool* values, const Shape4& dims, const Shape4& steps)
      : data(values), dtype(DType::boolean), shape(dims), strides(steps) {}
  TensorView(const void* values, DType type, const Shape4& dims, const Shape4& steps)
      : data(values), dtype(type), shape(dims), strides(steps) {}

  explicit operator bool() const { return data != nullptr; }
};

// A tensor that is written to.
struct MutableTensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape4 shape{};
  Shape4 strides{};

  MutableTensorView() = default;
  MutableTensorView(float* values, const Shape4& dims)
      : data(values), shape(dims), strides(dense_strides(dims)) {}
  MutableTensorView(float* values, const Shape4& dims, const Shape4& steps)
      : data(values), shape(dims), strides(steps) {}
  MutableTensorView(void* values, DType type, const Shape4& dims, const Shape4& steps)
      : data(values), dtype(type), shape(dims), strides(steps) {}

  explicit operator bool() const { return data != nullptr; }
  operator TensorView() const { return {data, dtype, shape, strides}; }
};

}  // namespace qkv
