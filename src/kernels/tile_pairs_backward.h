// The kernels of pairs.h that only the backward pass needs; part of tile_pairs.h, which includes it.
#pragma once

#include <cstdint>

#include "kernels/pairs.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

inline constexpr int kNarrowed = kPanelVecs > 1 ? 2 : 1;  // vectors that are rounded at a time

inline void store_narrow(std::uint16_t* to, const Vec (&v)[kNarrowed]) {
  if constexpr (kNarrowed == 2)
    store_rounded(to, v[0], v[1]);
  else
    store_rounded_bfloat16(to, v[0]);
}

void narrow(const float* tile, int key_count, std::uint16_t* halves) {
  for (int i = 0; i < key_count * kPanel; i += kNarrowed * kLanes) {
    Vec v[kNarrowed];
    QKV_UNROLL for (int j = 0; j < kNarrowed; ++j) v[j] = load(tile + i + j * kLanes);
    store_narrow(halves + i, v);
  }
}

// Where softmax_gradients reads and writes kKeys neighbouring keys, from some lane on.
struct GradientLanes {
  const float *scores, *d_weights;
  const float *shift, *delta;
  std::uint16_t *weights, *d_scores;
  Pair* d_score_pairs;
};

// As softmax_gradients of tile_backward.h, number by number, where shift is never −inf; kKeys is one or two.
template <int kKeys>
inline void gradients_of(const GradientLanes& lanes) {
  const Vec zero = set1(0.0f);
  const Vec hidden = set1(-kInfinity);
  Vec score[kKeys * kNarrowed];
  Vec weight[kKeys * kNarrowed];
  Vec d_score[2][kNarrowed];
  QKV_UNROLL for (int i = 0; i < kKeys * kNarrowed; ++i) {
    score[i] = load(lanes.scores + i / kNarrowed * kPanel + i % kNarrowed * kLanes);
    weight[i] = sub(score[i], load(lanes.shift + i % kNarrowed * kLanes));
  }
  exp2_each(weight);
  QKV_UNROLL for (int r = 0; r < 2; ++r) {
    QKV_UNROLL for (int v = 0; v < kNarrowed; ++v) d_score[r][v] = zero;
  }
  QKV_UNROLL for (int r = 0; r < kKeys; ++r) {
    Vec w[kNarrowed];
    QKV_UNROLL for (int v = 0; v < kNarrowed; ++v) {
      w[v] = select(equal(score[r * kNarrowed + v], hidden), zero, weight[r * kNarrowed + v]);
      const Vec away =
          sub(load(lanes.d_weights + r * kPanel + v * kLanes), load(lanes.delta + v * kLanes));
      d_score[r][v] = select(equal(w[v], zero), zero, mul(w[v], away));
    }
    store_narrow(lanes.weights + r * kPanel, w);
    store_narrow(lanes.d_scores + r * kPanel, d_score[r]);
  }
  QKV_UNROLL for (int v = 0; v < kNarrowed; ++v)
      store_pairs(lanes.d_score_pairs + v * kLanes, round_to_pairs(d_score[0][v], d_score[1][v]));
}

void softmax_gradients_pairs(const float* scores, const float* d_weights, int key_count,
                             const float* shift, const float* delta, std::uint16_t* weights,
                             std::uint16_t* d_scores, Pair* d_score_pairs) {
  alignas(64) float safe[kPanel];
  for (int v = 0; v < kPanel; v += kLanes) {
    const Vec from = load(shift + v);
    store(safe + v, select(equal(from, set1(-kInfinity)), set1(0.0f), from));
  }
  const auto at = [&](int k, int v) {
    const int i = k * kPanel + v;
    return GradientLanes{scores + i,
                         d_weights + i,
                         safe + v,
                         delta + v,
                         weights + i,
                         d_scores + i,
                         d_score_pairs + k / 2 * kPanel + v};
  };
  int k = 0;
  for (; k + 2 <= key_count; k += 2)
    for (int v = 0; v < kPanel; v += kNarrowed * kLanes) gradients_of<2>(at(k, v));
  for (int v = 0; k < key_count && v < kPanel; v += kNarrowed * kLanes) gradients_of<1>(at(k, v));
}

// acc[k][d] for kRows keys and kVecs vectors of dims, which rows and acc point at the first of.
template <int kRows, int kVecs>
inline void query_pairs_tile(const std::uint16_t* weights, const Pair* rows,
                             std::int64_t row_stride, int pair_count, float* acc,
                             std::int64_t acc_stride) {
  Vec sum[kRows][kVecs];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = load(acc + r * acc_stride + v * kLanes);
  }
  for (int i = 0; i < pair_count; ++i) {
    PairVec row[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) row[v] =
        load_pairs(rows + i * row_stride + v * kLanes);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      const PairVec x = broadcast_pair(weights + r * kPanel + 2 * i);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = dot(sum[r][v], x, row[v]);
    }
  }
  // places of sums are worked out again: kept from the loads, they would be more than the registers hold
  __asm__("" : "+r"(acc));
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(acc + r * acc_stride + v * kLanes, sum[r][v]);
  }
}

// All keys over kVecs vectors of dims.
template <int kVecs>
inline void query_pairs_columns(const std::uint16_t* weights, int key_count, const Pair* rows,
                                std::int64_t row_stride, int pair_count, float* acc,
                                std::int64_t acc_stride) {
  constexpr int kRows = kVecs == 4 ? 6 : 8;
  int k = 0;
  for (; full_tile_fits(key_count - k, kRows); k += kRows)
    query_pairs_tile<kRows, kVecs>(weights + k * kPanel, rows, row_stride, pair_count,
                                   acc + k * acc_stride, acc_stride);
  for (; k + 4 <= key_count; k += 4)
    query_pairs_tile<4, kVecs>(weights + k * kPanel, rows, row_stride, pair_count,
                               acc + k * acc_stride, acc_stride);
  for (; k < key_count; ++k)
    query_pairs_tile<1, kVecs>(weights + k * kPanel, rows, row_stride, pair_count,
                               acc + k * acc_stride, acc_stride);
}

void weighted_sum_queries_pairs(const std::uint16_t* weights, int key_count, const Pair* rows,
                                std::int64_t row_stride, int pair_count, int dim, float* acc,
                                std::int64_t acc_stride) {
  int d = 0;
  for (; d + 4 * kLanes <= dim; d += 4 * kLanes)
    query_pairs_columns<4>(weights, key_count, rows + d, row_stride, pair_count, acc + d,
                           acc_stride);
  for (; d + 2 * kLanes <= dim; d += 2 * kLanes)
    query_pairs_columns<2>(weights, key_count, rows + d, row_stride, pair_count, acc + d,
                           acc_stride);
  for (; d < dim; d += kLanes)
    query_pairs_columns<1>(weights, key_count, rows + d, row_stride, pair_count, acc + d,
                           acc_stride);
}

}  // namespace
}  // namespace qkv::kernels
