// The specification of pairs.h: every kernel as a plain loop, for any number of lanes.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/half.h"
#include "kernels/pairs.h"

namespace qkv::kernels::scalar {

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline float even(Pair p) { return flushed(bfloat16_to_float(static_cast<std::uint16_t>(p))); }
inline float odd(Pair p) { return flushed(bfloat16_to_float(static_cast<std::uint16_t>(p >> 16))); }

inline float dot(float sum, Pair a, Pair b) {
  const float first = flushed(std::fma(odd(a), odd(b), flushed(sum)));
  return flushed(std::fma(even(a), even(b), first));
}

inline Pair pair_of(std::uint16_t even, std::uint16_t odd) {
  return static_cast<Pair>(even) | static_cast<Pair>(odd) << 16;
}

// As vcvtneps2bf16 rounds: to nearest even, subnormals to 0.
inline std::uint16_t rounded_weight(float x) { return float_to_bfloat16(flushed(x)); }

inline void pack_queries_pairs(int panel, const std::uint16_t* rows, std::int64_t row_stride,
                               int count, int dim, bool negate, Pair* packed) {
  const auto number = [&](int lane, int d) {
    if (lane >= count || d >= dim) return std::uint16_t{0};
    return static_cast<std::uint16_t>(rows[lane * row_stride + d] ^ (negate ? 0x8000 : 0));
  };
  for (int d = 0; d < dim; d += 2)
    for (int lane = 0; lane < panel; ++lane)
      packed[d / 2 * panel + lane] = pair_of(number(lane, d), number(lane, d + 1));
}

// scores[k][lane] = factor · Σ_d packed[d/2][lane] · keys[k][d]
inline void query_dot_keys_pairs(int panel, const Pair* packed, const std::uint16_t* keys,
                                 std::int64_t key_stride, int key_count, int dim, float factor,
                                 float* scores, float* top) {
  if (top != nullptr) std::fill_n(top, panel, -__builtin_inff());
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < panel; ++lane) {
      float sum = 0;
      for (int d = 0; d < dim; d += 2)
        sum = dot(sum, packed[d / 2 * panel + lane],
                  pair_of(keys[k * key_stride + d], keys[k * key_stride + d + 1]));
      float& score = scores[k * panel + lane];
      score = factor * sum;
      if (top != nullptr && score > top[lane]) top[lane] = score;
    }
}

inline void pack_weights(int panel, const float* weights, int key_count, Pair* pairs) {
  for (int k = 0; k < key_count; k += 2)
    for (int lane = 0; lane < panel; ++lane)
      pairs[k / 2 * panel + lane] = pair_of(
          rounded_weight(weights[k * panel + lane]),
          k + 1 < key_count ? rounded_weight(weights[(k + 1) * panel + lane]) : std::uint16_t{0});
}

inline void pack_values(const std::uint16_t* rows, std::int64_t row_stride, int row_count, int dim,
                        Pair* pairs) {
  for (int k = 0; k < row_count; k += 2)
    for (int d = 0; d < dim; ++d)
      pairs[k / 2 * dim + d] =
          pair_of(rows[k * row_stride + d],
                  k + 1 < row_count ? rows[(k + 1) * row_stride + d] : std::uint16_t{0});
}

// acc[d][lane] = acc[d][lane]·alpha[lane] + Σ_k weights[k/2][lane] · values[k/2][d]
inline void weighted_sum_pairs(int panel, const Pair* weights, const Pair* values, int pair_count,
                               int dim, const float* alpha, float* acc, const LaneBits* hidden) {
  for (int d = 0; d < dim; ++d)
    for (int lane = 0; lane < panel; ++lane) {
      float sum = acc[d * panel + lane] * alpha[lane];
      for (int j = 0; j < pair_count; ++j) {
        Pair value = values[j * dim + d];
        if (hidden != nullptr && (hidden[2 * j] >> lane & 1) != 0) value &= 0xffff0000u;
        if (hidden != nullptr && (hidden[2 * j + 1] >> lane & 1) != 0) value &= 0x0000ffffu;
        sum = dot(sum, weights[j * panel + lane], value);
      }
      acc[d * panel + lane] = sum;
    }
}

inline void narrow(int panel, const float* tile, int key_count, std::uint16_t* halves) {
  for (int i = 0; i < key_count * panel; ++i) halves[i] = rounded_weight(tile[i]);
}

// acc[k][d] += Σ_i weights[k][i] · rows[i/2][d]
inline void weighted_sum_queries_pairs(int panel, const std::uint16_t* weights, int key_count,
                                       const Pair* rows, std::int64_t row_stride, int pair_count,
                                       int dim, float* acc, std::int64_t acc_stride) {
  for (int k = 0; k < key_count; ++k)
    for (int d = 0; d < dim; ++d) {
      float& sum = acc[k * acc_stride + d];
      for (int j = 0; j < pair_count; ++j)
        sum = dot(sum, pair_of(weights[k * panel + 2 * j], weights[k * panel + 2 * j + 1]),
                  rows[j * row_stride + d]);
    }
}

}  // namespace qkv::kernels::scalar
