// The kernels of pairs.h over the vectors of one vec_*.h with pairs, which is included before this file. The tiles are those
// of tile.h with a pair in the place of a float.
#pragma once

#include <cstdint>

#include "kernels/pairs.h"
#include "kernels/tile_pairs_backward.h"
#include "kernels/tile_panel.h"
#include "kernels/tile_softmax.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

void pack_queries_pairs(const std::uint16_t* rows, std::int64_t row_stride, int count, int dim,
                        bool negate, Pair* packed) {
  const Pair sign = negate ? 0x80008000u : 0;
  for (int first = 0; first < kPanel; first += kLanes) {
    int d = 0;
    if (first + kLanes <= count) {
      for (; d + 2 * kLanes <= dim; d += 2 * kLanes) {
        PairVec block[kLanes];
        QKV_UNROLL for (int i = 0; i < kLanes; ++i) block[i] =
            flip_sign(load_pairs(rows + (first + i) * row_stride + d), negate);
        transpose(block);
        QKV_UNROLL for (int i = 0; i < kLanes; ++i)
            store_pairs(packed + (d / 2 + i) * kPanel + first, block[i]);
      }
    }
    for (; d < dim; d += 2) {
      Pair* lane = packed + d / 2 * kPanel + first;
      for (int i = 0; i < kLanes; ++i) {
        const std::uint16_t* row = rows + (first + i) * row_stride + d;
        lane[i] = first + i >= count
                      ? 0
                      : (row[0] | (d + 1 < dim ? static_cast<Pair>(row[1]) << 16 : Pair{0})) ^ sign;
      }
    }
  }
}

// scores[r][lane] = factor · Σ_d packed[d/2][lane] · keys[r][d] for kRows keys, held in registers.
template <int kRows, int kVecs, class Seen>
inline void dot_pairs_tile(const Pair* packed, const std::uint16_t* keys, std::int64_t key_stride,
                           int dim, float factor, float* scores, Seen& seen) {
  Vec sum[kRows][kVecs];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = set1(0.0f);
  }
  for (int d = 0; d < dim; d += 2) {
    PairVec lane[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) lane[v] =
        load_pairs(packed + d / 2 * kPanel + v * kLanes);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      const PairVec key = broadcast_pair(keys + r * key_stride + d);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = dot(sum[r][v], lane[v], key);
    }
  }
  const Vec f = set1(factor);
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) {
      sum[r][v] = mul(f, sum[r][v]);
      store(scores + r * kPanel + v * kLanes, sum[r][v]);
    }
  }
  seen.add(sum);
}

void query_dot_keys_pairs(const Pair* packed, const std::uint16_t* keys, std::int64_t key_stride,
                          int key_count, int dim, float factor, int first_lane, float* scores,
                          float* top) {
  packed += first_lane;
  scores += first_lane;
  for_vectors_from(first_lane, [&]<int kVecs>() {
    with_tops<kVecs>(top == nullptr ? nullptr : top + first_lane, [&](auto& seen) {
      constexpr int kRows = kRowsOf<kVecs>;
      int r = 0;
      for (; full_tile_fits(key_count - r, kRows); r += kRows)
        dot_pairs_tile<kRows, kVecs>(packed, keys + r * key_stride, key_stride, dim, factor,
                                     scores + r * kPanel, seen);
      for (; r + 4 <= key_count; r += 4)
        dot_pairs_tile<4, kVecs>(packed, keys + r * key_stride, key_stride, dim, factor,
                                 scores + r * kPanel, seen);
      for (; r < key_count; ++r)
        dot_pairs_tile<1, kVecs>(packed, keys + r * key_stride, key_stride, dim, factor,
                                 scores + r * kPanel, seen);
    });
  });
}

void pack_weights(const float* weights, int key_count, Pair* pairs) {
  int k = 0;
  for (; k + 2 <= key_count; k += 2) {
    QKV_UNROLL for (int v = 0; v < kPanel; v += kLanes) {
      const float* w = weights + k * kPanel + v;
      store_pairs(pairs + k / 2 * kPanel + v, round_to_pairs(load(w), load(w + kPanel)));
    }
  }
  if (k < key_count) {
    for (int v = 0; v < kPanel; v += kLanes)
      store_pairs(pairs + k / 2 * kPanel + v,
                  round_to_pairs(load(weights + k * kPanel + v), set1(0.0f)));
  }
}

// Where softmax puts its weights: rounded, two keys a pair. Groups of four begin at multiples of four.
struct WeightsInPairs {
  Pair* pairs;

  template <int kKeys>
  void put(int k, int v, const Vec (&weight)[4]) const {
    QKV_UNROLL for (int i = 0; i < kKeys; i += 2) store_pairs(
        pairs + (k + i) / 2 * kPanel + v * kLanes, round_to_pairs(weight[i], weight[i + 1]));
  }
};

// Where the softmax of a traced call puts them: both.
struct WeightsInBoth {
  float* scores;
  Pair* pairs;

  template <int kKeys>
  void put(int k, int v, const Vec (&weight)[4]) const {
    WeightsInPlace{scores}.put<kKeys>(k, v, weight);
    WeightsInPairs{pairs}.put<kKeys>(k, v, weight);
  }
};

void softmax_pairs(const float* scores, int key_count, const SoftmaxState& state, Pair* pairs) {
  softmax_panel<false>(scores, key_count, state, WeightsInPairs{pairs});
}

void softmax_traced_pairs(float* scores, int key_count, const SoftmaxState& state, Pair* pairs) {
  softmax_panel<true>(scores, key_count, state, WeightsInBoth{scores, pairs});
}

void pack_values(const std::uint16_t* rows, std::int64_t row_stride, int row_count, int dim,
                 Pair* pairs) {
  for (int k = 0; k < row_count; k += 2) {
    const std::uint16_t* first = rows + k * row_stride;
    const bool paired = k + 1 < row_count;
    const std::uint16_t* second = first + row_stride;
    Pair* to = pairs + static_cast<std::int64_t>(k / 2) * dim;
    int d = 0;
    for (; paired && d + 2 * kLanes <= dim; d += 2 * kLanes) {
      PairVec lower, upper;
      interleave(load_pairs(first + d), load_pairs(second + d), lower, upper);
      store_pairs(to + d, lower);
      store_pairs(to + d + kLanes, upper);
    }
    for (; d < dim; ++d) to[d] = first[d] | (paired ? static_cast<Pair>(second[d]) << 16 : Pair{0});
  }
}

// acc[d][lane] for kDims dims and kVecs vectors; values, weights, alpha and acc point at the first of them.
template <int kDims, int kVecs>
inline void value_pairs_tile(const Pair* weights, const Pair* values, int pair_count, int dim,
                             const float* alpha, float* acc, bool fresh) {
  Vec sum[kDims][kVecs];
  start_sums(acc, alpha, fresh, sum);
  for (int j = 0; j < pair_count; ++j) {
    PairVec weight[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) weight[v] =
        load_pairs(weights + j * kPanel + v * kLanes);
    const Pair* value = values + static_cast<std::int64_t>(j) * dim;
    QKV_UNROLL for (int d = 0; d < kDims; ++d) {
      const PairVec x = broadcast_pair(value + d);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[d][v] = dot(sum[d][v], weight[v], x);
    }
  }
  QKV_UNROLL for (int d = 0; d < kDims; ++d) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(acc + d * kPanel + v * kLanes, sum[d][v]);
  }
}

void weighted_sum_pairs(const Pair* weights, const Pair* values, int pair_count, int dim,
                        const float* alpha, int first_lane, float* acc, bool fresh) {
  weights += first_lane;
  acc += first_lane;
  if (alpha != nullptr) alpha += first_lane;
  for_vectors_from(first_lane, [&]<int kVecs>() {
    constexpr int kDims = kRowsOf<kVecs>;
    int d = 0;
    for (; full_tile_fits(dim - d, kDims); d += kDims)
      value_pairs_tile<kDims, kVecs>(weights, values + d, pair_count, dim, alpha, acc + d * kPanel,
                                     fresh);
    for (; d + 4 <= dim; d += 4)
      value_pairs_tile<4, kVecs>(weights, values + d, pair_count, dim, alpha, acc + d * kPanel,
                                 fresh);
    for (; d < dim; ++d)
      value_pairs_tile<1, kVecs>(weights, values + d, pair_count, dim, alpha, acc + d * kPanel,
                                 fresh);
  });
}

void weighted_sum_visible_pairs(const Pair* weights, const Pair* values, int pair_count, int dim,
                                const float* alpha, float* acc, const LaneBits* hidden) {
  for (int v = 0; v < kPanel; v += kLanes) {
    for (int d = 0; d < dim; ++d) {
      Vec sum = mul(load(acc + d * kPanel + v), load(alpha + v));
      for (int j = 0; j < pair_count; ++j) {
        PairVec value = broadcast_pair(values + static_cast<std::int64_t>(j) * dim + d);
        value = clear_even(value, mask_of_bits(static_cast<std::uint32_t>(hidden[2 * j] >> v)));
        value = clear_odd(value, mask_of_bits(static_cast<std::uint32_t>(hidden[2 * j + 1] >> v)));
        sum = dot(sum, load_pairs(weights + j * kPanel + v), value);
      }
      store(acc + d * kPanel + v, sum);
    }
  }
}

bool all_finite_pairs(const std::uint16_t* rows, std::int64_t row_stride, int row_count, int dim) {
  bool bad = false;
  for (int r = 0; r < row_count; ++r) {
    const std::uint16_t* row = rows + r * row_stride;
    int d = 0;
    for (; d + 2 * kLanes <= dim; d += 2 * kLanes) bad |= any_not_finite(load_pairs(row + d));
    for (; d < dim; ++d) bad |= (row[d] & 0x7f80u) == 0x7f80u;
  }
  return !bad;
}

// The table of this instruction set.
constexpr PairKernels pair_table() {
  return {.panel = kPanel,
          .pack_queries = pack_queries_pairs,
          .query_dot_keys = query_dot_keys_pairs,
          .pack_weights = pack_weights,
          .softmax = softmax_pairs,
          .softmax_traced = softmax_traced_pairs,
          .pack_values = pack_values,
          .weighted_sum_values = weighted_sum_pairs,
          .weighted_sum_visible_values = weighted_sum_visible_pairs,
          .narrow = narrow,
          .softmax_gradients = softmax_gradients_pairs,
          .weighted_sum_queries = weighted_sum_queries_pairs,
          .all_finite = all_finite_pairs};
}

}  // namespace
}  // namespace qkv::kernels
