// Loops over pointers and sizes, compiled once per instruction set. No tensors, no options, no threads here.
//
// The unit of work is a panel: `panel` query rows laid out side by side, one row per vector lane. Everything about a panel
// is stored transposed, with the lane last:
//
//   packed[d][lane]    the queries, times a factor
//   scores[k][lane]    query_dot_keys; softmax turns them in place into weights
//   acc[d][lane]       weighted_sum_values
//
// Keys and values are read where they lie, row by row, and broadcast. Each number is one chain of operations (over d for a
// score, over k for a sum), so its bits do not depend on which rows share the panel or how a tile is shaped.
//
// scalar.h is the specification of every function; tile.h is the same over vectors; isa_*.cc compile it.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int kMaxPanel = 64;   // the widest panel of any instruction set
inline constexpr int kMaxChunk = 128;  // most keys that one call handles
inline constexpr int kDimStep = 16;  // rows that dims are laid over the lanes of are padded to this

// One bit per lane of a panel.
using LaneBits = std::uint64_t;
static_assert(kMaxPanel <= 64);

// Running softmax of a panel, in log2 units: weights are 2^(score − max).
struct SoftmaxState {
  float* max;    // [panel] largest score so far, −inf before the first
  float* sum;    // [panel] Σ weights so far
  float* alpha;  // [panel] out: what sums from before must be multiplied by
  // [panel] Σ weights·(score − max) so far, from which a trace has the entropy; null without a trace.
  float* spread = nullptr;
  // [panel] the largest of this chunk's scores, NaN left out, where query_dot_keys found it and no option has changed them since;
  // null where it is still to be looked for.
  const float* top = nullptr;
};

struct PairKernels;  // pairs.h

// Keys whose largest weight stands for them while the largest of a row are looked for; chunks hold whole groups.
inline constexpr int kKeyGroup = 8;
static_assert(kMaxChunk % kKeyGroup == 0);

struct Kernels {
  const char* name;
  int panel;  // lanes in a panel, at most kMaxPanel
  int step;  // lanes of one vector: where a staircase may start (query_dot_keys, weighted_sum_values)
  // The same instruction set with the next narrower panel, so that few queries leave few lanes idle; null if there is none.
  // Every bit is the same.
  const Kernels* narrow;
  // Products of bfloat16 by a dot instruction, as wide; null where the CPU has none.
  const PairKernels* pairs;

  // packed[d][lane] = factor · rows[lane][d] for lane < count, 0 beyond.
  void (*pack_queries)(const float* rows, std::int64_t row_stride, int count, int dim, float factor,
                       float* packed);

  // scores[k][lane] = Σ_d packed[d][lane] · keys[k][d], a chain of fused multiply-adds from d = 0, for lanes from first_lane, a
  // multiple of step, on: the others, which see none of these keys, stay as they are. Unless top is null, top[lane] becomes
  // the largest score of the lane, NaN left out, −inf without any.
  void (*query_dot_keys)(const float* packed, const float* keys, std::int64_t key_stride,
                         int key_count, int dim, int first_lane, float* scores, float* top);

  // scores[k][lane] *= factor[k]: the scale of 8-bit keys, or of values on their weights.
  void (*scale_rows)(float* scores, int key_count, const float* factor);

  // scores → cap·tanh(scores / cap)·factor.
  void (*softcap)(float* scores, int key_count, float cap, float factor);

  // scores[k][lane] −= slope · |position[lane] − (first_key + k)|.
  void (*add_alibi)(float* scores, int key_count, std::int32_t first_key,
                    const std::int32_t* position, float slope);

  // scores[k][lane] = −inf unless begin[lane] ≤ first_key + k < end[lane].
  void (*mask_outside)(float* scores, int key_count, std::int32_t first_key,
                       const std::int32_t* begin, const std::int32_t* end);

  // One chunk of an online softmax: new max, alpha = 2^(old max − new max), scores become weights 2^(score − max), sum =
  // sum·alpha + Σ weights. A score of −inf gives weight 0; a NaN spreads over its own lane only.
  void (*softmax)(float* scores, int key_count, const SoftmaxState& state);

  // The same bits, and the state's spread becomes alpha·(spread + (old max − new max)·old sum) + Σ weights·(score − new
  // max). A weight of 0 adds 0.
  void (*softmax_traced)(float* scores, int key_count, const SoftmaxState& state);

  // acc[d][lane] = acc[d][lane]·alpha[lane] + Σ_k weights[k][lane] · values[k][d], a chain from k = 0, for lanes from first_lane
  // on. A null alpha stands for ones. With `fresh` sums start at 0 and what acc held is not looked at.
  void (*weighted_sum_values)(const float* weights, const float* values, std::int64_t value_stride,
                              int key_count, int dim, const float* alpha, int first_lane,
                              float* acc, bool fresh);

  // The same, but where hidden[k] has bit `lane` set the product is left out, whatever bits the value holds.
  void (*weighted_sum_visible_values)(const float* weights, const float* values,
                                      std::int64_t value_stride, int key_count, int dim,
                                      const float* alpha, float* acc, const LaneBits* hidden);

  // Whether no element of the rows is Inf or NaN.
  bool (*all_finite)(const float* rows, std::int64_t row_stride, int row_count, int dim);

  // Softmax over two sets of keys: total (max, sum, acc[d][lane] and, unless null, spread) takes up part. A side with max
  // −inf changes no bit.
  void (*merge_states)(int dim, const SoftmaxState& total, float* total_acc,
                       const SoftmaxState& part, const float* part_acc);

  // out[lane][d] = factor[lane] · acc[d][lane] for lane < count. factor has panel entries.
  void (*write_outputs)(const float* acc, const float* factor, int count, int dim, float* out,
                        std::int64_t out_stride);
  // The same rounded to nearest even: IEEE halves, bfloat16.
  void (*write_outputs_half)(const float* acc, const float* factor, int count, int dim,
                             std::uint16_t* out, std::int64_t out_stride);
  void (*write_outputs_bfloat16)(const float* acc, const float* factor, int count, int dim,
                                 std::uint16_t* out, std::int64_t out_stride);

  // weights[k][lane] = factor[lane] · 2^(score − shift[lane]); exactly 0 where the score is −inf. May be in place.
  void (*normalise)(const float* scores, int key_count, const float* shift, const float* factor,
                    float* weights);

  // With p = factor[lane]·weights[k][lane]: largest[group][lane] = the largest p of kKeyGroup keys, at least 0, NaN left out;
  // mass[k] = Σ_lane p. key_count is a multiple of kKeyGroup.
  void (*weigh_keys)(const float* weights, int key_count, const float* factor, float* largest,
                     float* mass);

  // top_weights[slot][lane] and top_keys: the largest p > 0 of key_count = kKeyGroup·group_count keys, largest first, the
  // lower key first where they are equal; 0 and −1 where there are fewer. p = factor[(first + k) / kMaxChunk][lane] ·
  // weights[k][lane], and `largest` comes from weigh_keys. slots is 4, 8 or 16.
  void (*best_keys)(const float* weights, const float* factor, int first, const float* largest,
                    int group_count, int slots, float* top_weights, std::int32_t* top_keys);

  // The backward pass. scores become weights 2^(score − shift[lane]), 0 where the score is −inf; d_weights become the scores'
  // gradients weight·(d_weight − delta[lane]), 0 where the weight is 0 whatever d_weight holds.
  void (*softmax_gradients)(float* scores, float* d_weights, int key_count, const float* shift,
                            const float* delta);

  // d_scores[k][lane] *= 1 − (capped / cap)², the slope of the soft cap where it gave `capped`; a gradient of 0 stays 0.
  void (*softcap_gradients)(float* d_scores, const float* capped, int key_count, float cap);

  // acc[k][d] += Σ_i weights[k][i] · rows[i][d] for lanes i < row_count, a chain from i = 0: what a key receives from the
  // queries of a panel. dim is a multiple of kDimStep.
  void (*weighted_sum_queries)(const float* weights, int key_count, const float* rows,
                               std::int64_t row_stride, int row_count, int dim, float* acc,
                               std::int64_t acc_stride);

  // y[r][o] = bias[o] + Σ_i x[r][i] · w[o][i], a chain from i = 0 that starts at the bias (0 if bias is null).
  // w is packed by pack_queries, panel by panel: packed[o / panel][i][o % panel]. Same tiles as query_dot_keys.
  void (*linear)(const float* packed, const float* bias, const float* x, std::int64_t x_stride,
                 int rows, int in, int out, float* y, std::int64_t y_stride);

  // The same with w stored as IEEE halves: for weights that are halves, the same bits from half the memory.
  void (*linear_half)(const std::uint16_t* packed, const float* bias, const float* x,
                      std::int64_t x_stride, int rows, int in, int out, float* y,
                      std::int64_t y_stride);
};

// The table of the instruction set in use (qkv::isa()); chosen once.
const Kernels& kernels();
// The same without products of bfloat16.
const Kernels& float_kernels();
// By name; null if this build or this CPU lacks it.
const Kernels* kernels_of(const char* name);

}  // namespace qkv::kernels
