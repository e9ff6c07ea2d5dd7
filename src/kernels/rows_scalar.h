// The specification of rows.h, and the "scalar" instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/half.h"
#include "kernels/kernels.h"

namespace qkv::kernels::scalar {

inline void silu(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] /= 1 + std::exp(-values[i]);
}

inline void gelu(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    values[i] *= 0.5f * (1 + std::erf(values[i] * 0.7071067812f));
}

inline void gelu_new(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = values[i];
    values[i] = 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
  }
}

inline void tanh(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = std::tanh(values[i]);
}

inline void widen_half(const std::uint16_t* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = half_to_float(from[i]);
}

inline void widen_bfloat16(const std::uint16_t* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = bfloat16_to_float(from[i]);
}

inline void widen_int8(const std::int8_t* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

inline void narrow_half(const float* from, std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = float_to_half(from[i]);
}

inline void narrow_bfloat16(const float* from, std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = float_to_bfloat16(from[i]);
}

inline float largest(const float* values, std::int64_t count) {
  float top = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < count; ++i) top = values[i] > top ? values[i] : top;
  return top;
}

inline float sum_of_exp(const float* values, std::int64_t count, float shift) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::exp(values[i] - shift);
  return sum;
}

inline void layer_norm(const float* sum, const float* add, const float* weight, const float* bias,
                       float epsilon, std::int64_t count, float* out) {
  const auto n = static_cast<float>(count);
  float mean = 0;
  for (std::int64_t i = 0; i < count; ++i)
    mean += out[i] = sum[i] + (add != nullptr ? add[i] : 0.0f);
  mean /= n;
  float variance = 0;
  for (std::int64_t i = 0; i < count; ++i) variance += (out[i] - mean) * (out[i] - mean);
  const float factor = 1 / std::sqrt(variance / n + epsilon);
  for (std::int64_t i = 0; i < count; ++i) out[i] = (out[i] - mean) * factor * weight[i] + bias[i];
}

}  // namespace qkv::kernels::scalar
