// The kernels of pairs.h that only the backward pass needs; part of tile_pairs.h, which includes it.
#pragma once

#include <cstdint>

#include "kernels/pairs.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

void narrow(const float* tile, int key_count, std::uint16_t* halves) {
  for (int i = 0; i < key_count * kPanel; i += kLanes)
    store_rounded_bfloat16(halves + i, load(tile + i));
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
