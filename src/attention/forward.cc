#include "attention/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/pairs.h"

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLn2 = 0.6931471805599453;
constexpr float kLog2e = 1.4426950408889634f;

// The weights of one panel and chunk: floats, or where values come in pairs, pairs.
struct Weights {
  const float* floats;
  const kernels::Pair* pairs;
};

// acc = acc·alpha + Σ_k weights[k]·values[k]. A weight of 0 times a value that is not finite would be NaN: hidden values that may
// do so are left out one by one.
void weighted_sum_values(const RowBlock& block, const Panel& panel, const Weights& weights,
                         const ValueChunk& values, bool some_hidden, PanelSums& sums) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const int count = static_cast<int>(values.range.end - values.range.begin);
  const bool leave_out = some_hidden && !is_finite(kernel, values);
  HiddenLanes hidden;
  if (leave_out) find_hidden(p, panel, values.range, hidden);
  const float* alpha = sums.alpha.data();
  const Runs runs = runs_of(kernel, panel, values.range);
  if (leave_out || runs.begin()->first_lane > 0) sums.fill_zeros();
  if (values.pairs != nullptr) {
    if (leave_out) {
      if (count % 2 == 1) hidden[static_cast<std::size_t>(count)] = 0;
      kernel.pairs->weighted_sum_visible_values(weights.pairs, values.pairs, (count + 1) / 2,
                                                p.dim_v, alpha, sums.acc, hidden.data());
      return;
    }
    for (const Run& run : runs) {
      const std::int64_t from = (run.keys.begin - values.range.begin) / 2;
      const int pair_count = static_cast<int>(run.keys.end - run.keys.begin + 1) / 2;
      kernel.pairs->weighted_sum_values(weights.pairs + from * kernel.panel,
                                        values.pairs + from * p.dim_v, pair_count, p.dim_v, alpha,
                                        run.first_lane, sums.acc, sums.fresh);
      alpha = nullptr;  // the chain goes on with the next run
      sums.fresh = false;
    }
    return;
  }
  if (leave_out) {
    kernel.weighted_sum_visible_values(weights.floats, values.floats, values.stride, count, p.dim_v,
                                       alpha, sums.acc, hidden.data());
    return;
  }
  for (const Run& run : runs) {
    const std::int64_t from = run.keys.begin - values.range.begin;
    kernel.weighted_sum_values(weights.floats + from * kernel.panel,
                               values.floats + from * values.stride, values.stride,
                               static_cast<int>(run.keys.end - run.keys.begin), p.dim_v, alpha,
                               run.first_lane, sums.acc, sums.fresh);
    alpha = nullptr;
    sums.fresh = false;
  }
}

// scores[k][lane] of one panel and chunk → weights, added to the panel's sums.
void add_chunk(const RowBlock& block, const Panel& panel, const float* packed, const KeyChunk& keys,
               const ValueChunk& values, float* scratch, const Strip* strip, PanelSums& sums) {
  const kernels::Kernels& kernel = block.kernel;
  const int count = static_cast<int>(keys.range.end - keys.range.begin);
  // what a trace keeps is made where it stays
  float* scores = strip == nullptr ? scratch : strip->at(keys.range.begin, kernel.panel);
  LaneFloats top;
  const auto [some_hidden, top_known] =
      panel_scores(kernel, block.problem, panel, packed, keys, scores, top.data());
  kernels::SoftmaxState state = sums.state();
  if (top_known) state.top = top.data();
  alignas(64) std::array<kernels::Pair, kernels::kMaxPanel * kChunk / 2> pairs;
  if (values.pairs == nullptr)
    (sums.traced ? kernel.softmax_traced : kernel.softmax)(scores, count, state);
  else if (sums.traced)
    kernel.pairs->softmax_traced(scores, count, state, pairs.data());
  else
    kernel.pairs->softmax(scores, count, state, pairs.data());
  if (strip != nullptr)  // a trace keeps the maximum that the weights are relative to as well
    std::copy_n(sums.max.begin(), kernel.panel, strip->max_at(keys.range.begin, kernel.panel));
  if (values.scale != nullptr) {
    if (strip != nullptr) std::copy_n(scores, count * kernel.panel, scratch);
    scores = scratch;
    kernel.scale_rows(scores, count, values.scale);
  }
  weighted_sum_values(block, panel, {scores, pairs.data()}, values, some_hidden, sums);
}

// Σ 2^(score − shift)·(score − shift) of one row, the sink's term included.
float spread_of(const RowState& state, float sink, float sink_weight, float shift) {
  float spread = state.spread;
  if (shift != state.max)  // the sink is above every key
    spread = state.max == -kInfinity
                 ? 0.0f
                 : (spread + (state.max - shift) * state.sum) * std::exp2(state.max - shift);
  return sink_weight > 0 ? spread + sink_weight * (sink - shift) : spread;
}

// A logarithm for each lane takes as long as a chunk of keys: `with_log` says whether somebody asks for it.
void finish(const Problem& p, const Panel& panel, int width, const PanelSums& sums, bool with_log,
            PanelResult& r, LaneFloats& out_factor) {
  if (p.sinks == nullptr && !with_log && !sums.traced) {  // nobody asks for more than the output
    for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i)
      out_factor[i] = sums.max[i] == -kInfinity && sums.sum[i] == 0 ? 0.0f : 1.0f / sums.sum[i];
    return;
  }
  const float sink = sink_of(p, panel.head);
  for (int lane = 0; lane < width; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    set_row(r, lane,
            finish_row({sums.max[i], sums.sum[i], sums.spread[i]}, sink, with_log, sums.traced,
                       out_factor[i]));
  }
}

// The part of a chunk that any of the panels looks at.
Range keys_of(const Panel* panels, int count, std::int64_t chunk) {
  Range all = {chunk + kChunk, chunk};
  for (int i = 0; i < count; ++i) {
    const Range here = panels[i].keys_in(chunk);
    if (here.begin < here.end) all = {std::min(all.begin, here.begin), std::max(all.end, here.end)};
  }
  return all;
}

// Scores of one panel and chunk.
std::size_t scores_floats(const kernels::Kernels& kernel) {
  return static_cast<std::size_t>(kernel.panel) * static_cast<std::size_t>(kChunk);
}

// out[lane][d] = factor[lane]·acc[d][lane], in the type of out.
void write_panel(const RowBlock& block, const Panel& panel, const float* acc, const float* factor,
                 const MutableRows& out) {
  const kernels::Kernels& kernel = block.kernel;
  const int dim = block.problem.dim_v;
  if (out.dtype == DType::f32)
    return kernel.write_outputs(acc, factor, panel.count, dim,
                                out.row_as<float>(block.batch, block.head, panel.first),
                                out.stride_in<float>());
  (out.dtype == DType::f16 ? kernel.write_outputs_half : kernel.write_outputs_bfloat16)(
      acc, factor, panel.count, dim,
      out.row_as<std::uint16_t>(block.batch, block.head, panel.first),
      out.stride_in<std::uint16_t>());
}

}  // namespace

void PanelSums::clear() {
  max.fill(-kInfinity);
  sum.fill(0);
  spread.fill(0);
  fresh = true;
}

void PanelSums::fill_zeros() {
  if (fresh) std::fill(acc, acc + acc_floats, 0.0f);
  fresh = false;
}

void merge_sums(const kernels::Kernels& kernel, int dim, PanelSums& total, PanelSums& part) {
  if (part.fresh) return;  // merging nothing changes no bit
  total.fill_zeros();
  kernel.merge_states(dim, total.state(), total.acc, part.state(), part.acc);
}

std::size_t stretch_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  return scores_floats(kernel) + key_scratch_floats(kernel, p) + value_scratch_floats(kernel, p);
}

std::size_t forward_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  const auto acc = static_cast<std::size_t>(p.dim_v) * kRowBlock;
  return 2 * acc + stretch_scratch_floats(kernel, p);
}

void add_stretch(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                 std::int64_t stretch, Range keys, const Strip* strips, PanelSums* sums) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const int panel_count = block.panels();
  const std::int64_t kv_head = p.kv_head(block.head);
  const auto packed_size = static_cast<std::size_t>(p.dim) * static_cast<std::size_t>(kernel.panel);
  float* const key_scratch = scratch + scores_floats(kernel);
  float* const value_scratch = key_scratch + key_scratch_floats(kernel, p);
  for (std::int64_t chunk = stretch; chunk < std::min(stretch + kStretch, keys.end);
       chunk += kChunk) {
    const Range seen = keys_of(panels, panel_count, chunk);
    if (seen.begin >= seen.end) continue;
    const KeyChunk key_chunk = load_keys(kernel, p, block.batch, kv_head, seen, key_scratch);
    const ValueChunk value_chunk =
        block.values != nullptr ? block.values->chunk(seen)
                                : load_values(kernel, p, block.batch, kv_head, seen, value_scratch);
    for (std::size_t i = 0; i < static_cast<std::size_t>(panel_count); ++i) {
      const Range here = panels[i].keys_in(chunk);
      if (here.begin < here.end)
        add_chunk(block, panels[i], packed + i * packed_size, key_chunk.part(here),
                  value_chunk.part(here), scratch,
                  strips == nullptr || strips[i].weights == nullptr ? nullptr : strips + i,
                  sums[i]);
    }
  }
}

void finish_rows(const RowBlock& block, const Panel* panels, PanelSums* totals,
                 const MutableRows& out, PanelResult* results) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(block.panels()); ++i) {
    LaneFloats factor;
    totals[i].fill_zeros();
    finish(block.problem, panels[i], block.kernel.panel, totals[i], block.with_log, results[i],
           factor);
    write_panel(block, panels[i], totals[i].acc, factor.data(), out);
  }
}

void forward_rows(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                  const MutableRows& out, PanelResult* results, const Strip* strips) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const auto panel_count = static_cast<std::size_t>(block.panels());
  const auto acc_size = static_cast<std::size_t>(p.dim_v) * static_cast<std::size_t>(kernel.panel);
  constexpr std::size_t kMaxPanels = kRowBlock / 8;  // no panel is narrower than 8
  std::array<PanelSums, kMaxPanels> totals;
  std::array<PanelSums, kMaxPanels> parts;
  float* const acc = scratch + stretch_scratch_floats(kernel, p);
  Range keys = {p.keys, 0};
  for (std::size_t i = 0; i < panel_count; ++i) {
    totals[i].acc = acc + 2 * i * acc_size;
    parts[i].acc = acc + (2 * i + 1) * acc_size;
    totals[i].traced = parts[i].traced = strips != nullptr;
    totals[i].acc_floats = parts[i].acc_floats = acc_size;
    totals[i].clear();
    keys = {std::min(keys.begin, panels[i].outer.begin), std::max(keys.end, panels[i].outer.end)};
  }

  bool first_stretch =
      true;  // goes straight into the totals: merging into nothing would copy the same bits
  for (std::int64_t stretch = keys.begin - keys.begin % kStretch; stretch < keys.end;
       stretch += kStretch) {
    for (std::size_t i = 0; !first_stretch && i < panel_count; ++i) parts[i].clear();
    add_stretch(block, panels, packed, scratch, stretch, keys, strips,
                (first_stretch ? totals : parts).data());
    for (std::size_t i = 0; !first_stretch && i < panel_count; ++i)
      merge_sums(kernel, p.dim_v, totals[i], parts[i]);
    first_stretch = false;
  }
  finish_rows(block, panels, totals.data(), out, results);
}

RowResult row_of(const PanelResult& result, int lane) {
  const auto i = static_cast<std::size_t>(lane);
  return {result.shift[i], result.log2_sum[i], result.factor[i], result.max[i], result.entropy[i]};
}

void set_row(PanelResult& result, int lane, const RowResult& row) {
  const auto i = static_cast<std::size_t>(lane);
  result.shift[i] = row.shift;
  result.log2_sum[i] = row.log2_sum;
  result.factor[i] = row.factor;
  result.max[i] = row.max;
  result.entropy[i] = row.entropy;
}

float sink_of(const Problem& p, std::int64_t head) {
  return p.sinks != nullptr ? p.sinks[head] * kLog2e : -kInfinity;
}

RowResult finish_row(const RowState& state, float sink, bool with_log, bool traced,
                     float& out_factor) {
  float shift = state.max;
  float sum = state.sum;
  float rescale = 1;
  if (sink > shift) {
    rescale = std::exp2(shift - sink);
    shift = sink;
  }
  const float sink_weight = sink == -kInfinity ? 0.0f : std::exp2(sink - shift);
  if (sink != -kInfinity) sum = sum * rescale + sink_weight;
  const bool nothing = shift == -kInfinity && !(sum != 0);  // a NaN sum is something
  const float log2_sum = nothing || !with_log ? 0.0f : std::log2(sum);
  out_factor = nothing ? 0.0f : rescale / sum;
  return {shift, log2_sum, nothing ? 0.0f : 1.0f / sum, state.max,
          nothing || !traced ? 0.0f : log2_sum - spread_of(state, sink, sink_weight, shift) / sum};
}

float lse_of(const RowResult& result) {
  return static_cast<float>(
      (static_cast<double>(result.shift) + static_cast<double>(result.log2_sum)) * kLn2);
}

}  // namespace qkv
