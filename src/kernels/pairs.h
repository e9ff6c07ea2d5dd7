// Products of bfloat16 by the dot instruction of the CPU: numbers come in pairs, one 32-bit unit each, and one step adds two
// products to an fp32 sum:
//
//   dot(sum, a, b) = fma(a.even, b.even, fma(a.odd, b.odd, sum))     subnormals, in or out, are 0
//
// Pairs are (d, d + 1) for scores and (key 2j, key 2j + 1), counted from key 0, for sums over values: chains that depend on
// nothing but the row, as in kernels.h. pairs_scalar.h is the specification; tile_pairs.h is the same over vectors.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace qkv::kernels {

using Pair = std::uint32_t;  // the first number in the lower half

struct PairKernels {
  int panel;  // lanes, as in the Kernels that it stands beside

  // packed[d/2][lane] = (rows[lane][d], rows[lane][d + 1]) for lane < count, 0 beyond; with `negate` their negatives. The
  // partner of an odd last number is 0.
  void (*pack_queries)(const std::uint16_t* rows, std::int64_t row_stride, int count, int dim,
                       bool negate, Pair* packed);

  // scores[k][lane] = factor · Σ_d packed[d/2][lane] · keys[k][d], a chain of dot() from d = 0, for lanes from first_lane on, as
  // in kernels.h, as is top. dim is even.
  void (*query_dot_keys)(const Pair* packed, const std::uint16_t* keys, std::int64_t key_stride,
                         int key_count, int dim, float factor, int first_lane, float* scores,
                         float* top);

  // pairs[k/2][lane] = (weights[k][lane], weights[k + 1][lane]) rounded to nearest even; the partner of an odd last one is 0.
  void (*pack_weights)(const float* weights, int key_count, Pair* pairs);

  // Kernels::softmax and pack_weights in one: the weights go to pairs, the scores stay as they are.
  void (*softmax)(const float* scores, int key_count, const SoftmaxState& state, Pair* pairs);
  // Kernels::softmax_traced and pack_weights in one: the weights go over the scores, for the trace, and to pairs.
  void (*softmax_traced)(float* scores, int key_count, const SoftmaxState& state, Pair* pairs);

  // pairs[k/2][d] = (rows[k][d], rows[k + 1][d]); the partner of an odd last row is 0.
  void (*pack_values)(const std::uint16_t* rows, std::int64_t row_stride, int row_count, int dim,
                      Pair* pairs);

  // acc[d][lane] = acc[d][lane]·alpha[lane] + Σ_k weights[k/2][lane] · values[k/2][d], a chain of dot() from k = 0, for lanes from
  // first_lane on. A null alpha and `fresh` mean what they do in kernels.h.
  void (*weighted_sum_values)(const Pair* weights, const Pair* values, int pair_count, int dim,
                              const float* alpha, int first_lane, float* acc, bool fresh);

  // The same, but where hidden[k] has bit `lane` set, key k's value counts as 0 whatever bits it holds.
  void (*weighted_sum_visible_values)(const Pair* weights, const Pair* values, int pair_count,
                                      int dim, const float* alpha, float* acc,
                                      const LaneBits* hidden);

  // The backward pass. halves[k][lane] = tile[k][lane] rounded to nearest even: its neighbours are pairs of queries.
  void (*narrow)(const float* tile, int key_count, std::uint16_t* halves);

  // softmax_gradients of kernels.h and what the products read of its results: weights and d_scores by narrow, d_score_pairs by
  // pack_weights. The same bits, without the floats.
  void (*softmax_gradients)(const float* scores, const float* d_weights, int key_count,
                            const float* shift, const float* delta, std::uint16_t* weights,
                            std::uint16_t* d_scores, Pair* d_score_pairs);

  // acc[k][d] += Σ_i weights[k][i] · rows[i/2][d] for lanes i < 2·pair_count, a chain of dot() from i = 0: what a key receives from
  // the queries of a panel. dim is a multiple of kDimStep.
  void (*weighted_sum_queries)(const std::uint16_t* weights, int key_count, const Pair* rows,
                               std::int64_t row_stride, int pair_count, int dim, float* acc,
                               std::int64_t acc_stride);

  // Whether no element of the rows is Inf or NaN.
  bool (*all_finite)(const std::uint16_t* rows, std::int64_t row_stride, int row_count, int dim);
};

}  // namespace qkv::kernels
