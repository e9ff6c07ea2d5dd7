// The forward pass over a block of query rows of one head.
#pragma once

#include <cstdint>

#include "attention/panel.h"
#include "attention/problem.h"

namespace qkv {

// Rows worked on together while a chunk of keys and values is in cache.
inline constexpr int kRowBlock = 256;

// Keys are summed up in stretches of this many, each from an empty state, and the stretches merged in order: long rows can
// then be split over threads at these places without changing a bit. 1024 keeps the cost of merging below 0.3%.
inline constexpr std::int64_t kStretch = 1024;

// What is left of a panel's softmax when its rows are done: weight = factor·2^(score − shift), in log2 units.
struct PanelResult {
  LaneFloats shift;     // largest score, the sink's among them; −inf where nothing is visible
  LaneFloats log2_sum;  // log2 Σ 2^(score − shift), sink included
  LaneFloats factor;    // 1 / Σ 2^(score − shift), 0 where nothing is visible
  LaneFloats max;       // largest score over keys
  LaneFloats entropy;  // −Σ p·log2 p, sink included, 0 where nothing is visible; only with a strip
};

// The same of one row.
struct RowResult {
  float shift, log2_sum, factor, max, entropy;
};
RowResult row_of(const PanelResult& result, int lane);
void set_row(PanelResult& result, int lane, const RowResult& row);

// What a row's keys add up to, before the sink; spread is Σ weight·(score − max), of a trace.
struct RowState {
  float max, sum, spread = 0;
};
// The sink joins the denominator; −inf for none. `out_factor` is what the weighted sum of values must be multiplied by. log2_sum
// is 0 unless it is asked for, and so is the entropy.
RowResult finish_row(const RowState& state, float sink, bool with_log, bool traced,
                     float& out_factor);
// The sink's logit of a head in log2 units.
float sink_of(const Problem& p, std::int64_t head);

// The weights of one panel's rows as the softmax leaves them, kept for the trace until the rows' sums are known:
// p(lane, k) = factor[k / kChunk][lane]·weights[k][lane], once the maximum of each chunk has been turned into its factor.
struct Strip {
  float* weights = nullptr;  // [keys][lane], from key `first` on
  float* max =
      nullptr;  // [chunks][lane], from the chunk of `first` on: what the chunk's weights are relative to
  std::int64_t first = 0;  // a multiple of kAlign

  float* at(std::int64_t key, int width) const { return weights + (key - first) * width; }
  float* max_at(std::int64_t key, int width) const {
    return max + (key / kChunk - first / kChunk) * width;
  }
};

// Queries [first, first + count), count ≤ kRowBlock, of head h of batch entry b, in panels of kernel.panel rows.
struct RowBlock {
  const kernels::Kernels& kernel;
  const Problem& problem;
  std::int64_t batch, head, first;
  int count;
  bool with_log;                         // whether log2_sum of the results is wanted
  const PackedValues* values = nullptr;  // of the head; null: packed chunk by chunk

  int panels() const { return (count + kernel.panel - 1) / kernel.panel; }
};

// Running sums of one panel: maximum, sum and acc[d][lane]; for a trace Σ weight·(score − max) too.
struct PanelSums {
  LaneFloats max, sum, alpha, spread;
  float* acc;
  std::size_t acc_floats;
  bool traced;
  bool fresh;  // no keys yet: acc stands for zeros, whatever it holds

  void clear();
  // For what does not begin with zeros by itself.
  void fill_zeros();
  kernels::SoftmaxState state() {
    return {max.data(), sum.data(), alpha.data(), traced ? spread.data() : nullptr};
  }
};
void merge_sums(const kernels::Kernels& kernel, int dim, PanelSums& total, PanelSums& part);

// Floats of scratch memory that forward_rows needs, and add_stretch.
std::size_t forward_scratch_floats(const kernels::Kernels& kernel, const Problem& p);
std::size_t stretch_scratch_floats(const kernels::Kernels& kernel, const Problem& p);

// Computes out for the rows of the block and fills results[panel]. `panels` and `packed` (panel after panel, dim × kernel.panel
// each) come ready. With strips there is an entropy too, and strips[panel] is filled unless its weights are null.
// It is add_stretch for every stretch, each into empty sums, their merging in order, and finish_rows.
void forward_rows(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                  const MutableRows& out, PanelResult* results, const Strip* strips = nullptr);

// Adds the keys of `keys` that lie in [stretch, stretch + kStretch) to the sums of each panel.
void add_stretch(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                 std::int64_t stretch, Range keys, const Strip* strips, PanelSums* sums);
void finish_rows(const RowBlock& block, const Panel* panels, PanelSums* totals,
                 const MutableRows& out, PanelResult* results);

// Natural log-sum-exp.
float lse_of(const RowResult& result);

}  // namespace qkv
