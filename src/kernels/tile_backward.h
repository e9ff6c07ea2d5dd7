// The kernels of the backward pass over the vectors of one vec_*.h; part of tile.h, which includes it.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

void softmax_gradients(float* scores, float* d_weights, int key_count, const float* shift,
                       const float* delta) {
  const Vec zero = set1(0.0f);
  const Vec hidden = set1(-kInfinity);
  for (int v = 0; v < kPanel; v += kLanes) {
    const Vec from = load(shift + v);
    const Vec safe = select(equal(from, hidden), zero, from);
    const Vec mean = load(delta + v);
    for (int k = 0; k < key_count; ++k) {
      float* s = scores + k * kPanel + v;
      float* d = d_weights + k * kPanel + v;
      const Vec score = load(s);
      // −inf − (+inf) or NaN: a hidden key weighs exactly 0
      const Vec weight = select(equal(score, hidden), zero, exp2(sub(score, safe)));
      store(s, weight);
      store(d, select(equal(weight, zero), zero, mul(weight, sub(load(d), mean))));
    }
  }
}

void softcap_gradients(float* d_scores, const float* capped, int key_count, float cap) {
  const Vec inverse = set1(1.0f / cap);
  const Vec zero = set1(0.0f);
  for (int i = 0; i < key_count * kPanel; i += kLanes) {
    const Vec t = mul(load(capped + i), inverse);
    const Vec d = load(d_scores + i);
    store(d_scores + i, select(equal(d, zero), zero, mul(d, fma(sub(zero, t), t, set1(1.0f)))));
  }
}

// acc[k][d] for kRows keys and kVecs vectors of dims, which rows and acc point at the first of.
template <int kRows, int kVecs>
inline void query_tile(const float* weights, const float* rows, std::int64_t row_stride,
                       int row_count, float* acc, std::int64_t acc_stride) {
  Vec sum[kRows][kVecs];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = load(acc + r * acc_stride + v * kLanes);
  }
  for (int i = 0; i < row_count; ++i) {
    Vec row[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) row[v] = load(rows + i * row_stride + v * kLanes);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec x = broadcast(weights + r * kPanel + i);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = fma(x, row[v], sum[r][v]);
    }
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(acc + r * acc_stride + v * kLanes, sum[r][v]);
  }
}

// All keys over kVecs vectors of dims.
template <int kVecs>
inline void query_columns(const float* weights, int key_count, const float* rows,
                          std::int64_t row_stride, int row_count, float* acc,
                          std::int64_t acc_stride) {
  int k = 0;
  for (; key_count - k >= 6 && key_count - k != 8; k += 6)
    query_tile<6, kVecs>(weights + k * kPanel, rows, row_stride, row_count, acc + k * acc_stride,
                         acc_stride);
  for (; k + 4 <= key_count; k += 4)
    query_tile<4, kVecs>(weights + k * kPanel, rows, row_stride, row_count, acc + k * acc_stride,
                         acc_stride);
  for (; k < key_count; ++k)
    query_tile<1, kVecs>(weights + k * kPanel, rows, row_stride, row_count, acc + k * acc_stride,
                         acc_stride);
}

void weighted_sum_queries(const float* weights, int key_count, const float* rows,
                          std::int64_t row_stride, int row_count, int dim, float* acc,
                          std::int64_t acc_stride) {
  // 6 keys by this many vectors of dims: as many sums as a tile of query_dot_keys has, whatever the panel
  constexpr int kVecs = kTileSums / 6;
  int d = 0;
  for (; d + kVecs * kLanes <= dim; d += kVecs * kLanes)
    query_columns<kVecs>(weights, key_count, rows + d, row_stride, row_count, acc + d, acc_stride);
  for (; d < dim; d += kLanes)
    query_columns<1>(weights, key_count, rows + d, row_stride, row_count, acc + d, acc_stride);
}

}  // namespace
}  // namespace qkv::kernels
