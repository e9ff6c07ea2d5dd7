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

// Computes out for queries [first, first + count), count ≤ kRowBlock, of head h of batch entry b, and fills results[panel].
// Panels are kernel.panel rows wide. `panels` and `packed` (panel after panel, dim × kernel.panel each) come ready.
struct RowBlock {
  const kernels::Kernels& kernel;
  const Problem& problem;
  std::int64_t batch, head, first;
  int count;

  int panels() const { return (count + kernel.panel - 1) / kernel.panel; }
};

// Floats of scratch memory that forward_rows needs.
std::size_t forward_scratch_floats(const kernels::Kernels& kernel, const Problem& p);

// With strips there is an entropy too, and strips[panel] is filled unless its weights are null.
void forward_rows(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                  const MutableRows& out, PanelResult* results, const Strip* strips = nullptr);

// Natural log-sum-exp of one lane.
float lse_of(const PanelResult& result, int lane);

}  // namespace qkv
