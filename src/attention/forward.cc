#include "attention/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLn2 = 0.6931471805599453;
constexpr float kLog2e = 1.4426950408889634f;

// acc = acc·alpha + Σ_k weights[k]·values[k]. A weight of 0 times a value that is not finite would be NaN: hidden values that may
// do so are left out one by one.
void weighted_sum_values(const RowBlock& block, const Panel& panel, const float* weights,
                         const ValueChunk& values, bool some_hidden, PanelSums& sums) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const int count = static_cast<int>(values.range.end - values.range.begin);
  const bool leave_out = some_hidden && !is_finite(kernel, values);
  HiddenLanes hidden;
  if (leave_out) find_hidden(p, panel, values.range, hidden);
  const float* alpha = sums.alpha.data();
  if (values.pairs != nullptr) {
    alignas(64) std::array<kernels::Pair, kernels::kMaxPanel * kChunk / 2> pairs;
    kernel.pairs->pack_weights(weights, count, pairs.data());
    if (leave_out) {
      if (count % 2 == 1) hidden[static_cast<std::size_t>(count)] = 0;
      kernel.pairs->weighted_sum_visible_values(pairs.data(), values.pairs, (count + 1) / 2,
                                                p.dim_v, alpha, sums.acc, hidden.data());
      return;
    }
    for (const Run& run : runs_of(kernel, panel, values.range)) {
      const std::int64_t from = (run.keys.begin - values.range.begin) / 2;
      const int pair_count = static_cast<int>(run.keys.end - run.keys.begin + 1) / 2;
      kernel.pairs->weighted_sum_values(pairs.data() + from * kernel.panel,
                                        values.pairs + from * p.dim_v, pair_count, p.dim_v, alpha,
                                        run.first_lane, sums.acc);
      alpha = nullptr;  // the chain goes on with the next run
    }
    return;
  }
  if (leave_out) {
    kernel.weighted_sum_visible_values(weights, values.floats, values.stride, count, p.dim_v, alpha,
                                       sums.acc, hidden.data());
    return;
  }
  for (const Run& run : runs_of(kernel, panel, values.range)) {
    const std::int64_t from = run.keys.begin - values.range.begin;
    kernel.weighted_sum_values(weights + from * kernel.panel, values.floats + from * values.stride,
                               values.stride, static_cast<int>(run.keys.end - run.keys.begin),
                               p.dim_v, alpha, run.first_lane, sums.acc);
    alpha = nullptr;
  }
}

// scores[k][lane] of one chunk → weights in place, and for a trace the maximum they are relative to.
void softmax_chunk(const kernels::Kernels& kernel, Range keys, float* scores, const Strip* strip,
                   PanelSums& sums) {
  const int count = static_cast<int>(keys.end - keys.begin);
  if (!sums.traced) return kernel.softmax(scores, count, sums.state());
  kernel.softmax_traced(scores, count, sums.state());
  if (strip != nullptr)
    std::copy_n(sums.max.begin(), kernel.panel, strip->max_at(keys.begin, kernel.panel));
}

// scores[k][lane] of one panel and chunk → weights, added to the panel's sums.
void add_chunk(const RowBlock& block, const Panel& panel, const float* packed, const KeyChunk& keys,
               const ValueChunk& values, float* scratch, const Strip* strip, PanelSums& sums) {
  const kernels::Kernels& kernel = block.kernel;
  const int count = static_cast<int>(keys.range.end - keys.range.begin);
  // what a trace keeps is made where it stays
  float* scores = strip == nullptr ? scratch : strip->at(keys.range.begin, kernel.panel);
  const bool some_hidden = panel_scores(kernel, block.problem, panel, packed, keys, scores);
  softmax_chunk(kernel, keys.range, scores, strip, sums);
  if (values.scale != nullptr) {
    if (strip != nullptr) std::copy_n(scores, count * kernel.panel, scratch);
    scores = scratch;
    kernel.scale_rows(scores, count, values.scale);
  }
  weighted_sum_values(block, panel, scores, values, some_hidden, sums);
}

// Σ 2^(score − shift)·(score − shift) of one lane, the sink's term included.
float spread_of(const PanelSums& sums, std::size_t lane, float sink, float sink_weight,
                float shift) {
  float spread = sums.spread[lane];
  if (shift != sums.max[lane])  // the sink is above every key
    spread = sums.max[lane] == -kInfinity ? 0.0f
                                          : (spread + (sums.max[lane] - shift) * sums.sum[lane]) *
                                                std::exp2(sums.max[lane] - shift);
  return sink_weight > 0 ? spread + sink_weight * (sink - shift) : spread;
}

// The sink joins the denominator; what remains is one factor per lane. A logarithm for each lane takes as long as a chunk of
// keys: `with_log` says whether somebody asks for it.
void finish(const Problem& p, const Panel& panel, int width, const PanelSums& sums, bool with_log,
            PanelResult& r, LaneFloats& out_factor) {
  const float sink = p.sinks != nullptr ? p.sinks[panel.head] * kLog2e : -kInfinity;
  for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
    float shift = sums.max[i];
    float sum = sums.sum[i];
    float rescale = 1;
    if (sink > shift) {
      rescale = std::exp2(shift - sink);
      shift = sink;
    }
    const float sink_weight = sink == -kInfinity ? 0.0f : std::exp2(sink - shift);
    if (sink != -kInfinity) sum = sum * rescale + sink_weight;
    r.max[i] = sums.max[i];
    r.shift[i] = shift;
    const bool nothing = shift == -kInfinity && !(sum != 0);  // a NaN sum is something
    r.log2_sum[i] = nothing || !with_log ? 0.0f : std::log2(sum);
    r.factor[i] = nothing ? 0.0f : 1.0f / sum;
    r.entropy[i] = nothing || !sums.traced
                       ? 0.0f
                       : r.log2_sum[i] - spread_of(sums, i, sink, sink_weight, shift) / sum;
    out_factor[i] = nothing ? 0.0f : rescale / sum;
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

// Scores of one panel and chunk; one panel's outputs take the same place later.
std::size_t scores_floats(const kernels::Kernels& kernel, const Problem& p) {
  const auto rows = static_cast<std::size_t>(std::max(kChunk, std::int64_t{p.dim_v}));
  return static_cast<std::size_t>(kernel.panel) * rows;
}

// out[lane][d] = factor[lane]·acc[d][lane], in the type of out; `scratch` holds the rows as floats where that is another.
void write_panel(const RowBlock& block, const Panel& panel, const float* acc, const float* factor,
                 float* scratch, const MutableRows& out) {
  const int dim = block.problem.dim_v;
  if (out.dtype == DType::f32) {
    block.kernel.write_outputs(acc, factor, panel.count, dim,
                               out.row_as<float>(block.batch, block.head, panel.first),
                               out.stride_in<float>());
    return;
  }
  block.kernel.write_outputs(acc, factor, panel.count, dim, scratch, dim);
  for (int i = 0; i < panel.count; ++i)
    store_row(scratch + i * dim, dim, out, block.batch, block.head, panel.first + i);
}

}  // namespace

void PanelSums::clear(std::size_t acc_floats) {
  max.fill(-kInfinity);
  sum.fill(0);
  spread.fill(0);
  std::fill(acc, acc + acc_floats, 0.0f);
}

std::size_t stretch_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  return scores_floats(kernel, p) + key_scratch_floats(kernel, p) + value_scratch_floats(kernel, p);
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
  float* const key_scratch = scratch + scores_floats(kernel, p);
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

void finish_rows(const RowBlock& block, const Panel* panels, float* scratch,
                 const PanelSums* totals, const MutableRows& out, PanelResult* results) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(block.panels()); ++i) {
    LaneFloats factor;
    finish(block.problem, panels[i], block.kernel.panel, totals[i], block.with_log, results[i],
           factor);
    write_panel(block, panels[i], totals[i].acc, factor.data(), scratch, out);
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
    totals[i].clear(acc_size);
    keys = {std::min(keys.begin, panels[i].outer.begin), std::max(keys.end, panels[i].outer.end)};
  }

  bool first_stretch =
      true;  // goes straight into the totals: merging into nothing would copy the same bits
  for (std::int64_t stretch = keys.begin - keys.begin % kStretch; stretch < keys.end;
       stretch += kStretch) {
    for (std::size_t i = 0; !first_stretch && i < panel_count; ++i) parts[i].clear(acc_size);
    add_stretch(block, panels, packed, scratch, stretch, keys, strips,
                (first_stretch ? totals : parts).data());
    for (std::size_t i = 0; !first_stretch && i < panel_count; ++i)
      kernel.merge_states(p.dim_v, totals[i].state(), totals[i].acc, parts[i].state(),
                          parts[i].acc);
    first_stretch = false;
  }
  finish_rows(block, panels, scratch, totals.data(), out, results);
}

float lse_of(const PanelResult& result, int lane) {
  const auto i = static_cast<std::size_t>(lane);
  return static_cast<float>(
      (static_cast<double>(result.shift[i]) + static_cast<double>(result.log2_sum[i])) * kLn2);
}

}  // namespace qkv
