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

// Running sums of one panel: maximum, sum and acc[d][lane].
struct PanelSums {
  LaneFloats max, sum, alpha;
  float* acc;

  void clear(std::size_t acc_floats) {
    max.fill(-kInfinity);
    sum.fill(0);
    std::fill(acc, acc + acc_floats, 0.0f);
  }
  kernels::SoftmaxState state() { return {max.data(), sum.data(), alpha.data()}; }
};

// hidden[k] gets the bit of each lane that may not see key keys.begin + k.
void find_hidden(const Problem& p, const Panel& panel, Range keys, kernels::LaneBits* hidden) {
  for (std::int64_t k = keys.begin; k < keys.end; ++k) {
    kernels::LaneBits bits = 0;
    for (int lane = 0; lane < panel.count; ++lane)
      bits |= kernels::LaneBits{p.hidden(panel.batch, panel.head, panel.first + lane, k)} << lane;
    hidden[k - keys.begin] = bits;
  }
}

// scores[k][lane] of one panel and chunk → weights, added to the panel's sums.
void add_chunk(const RowBlock& block, const Panel& panel, const float* packed, Range keys,
               float* scores, PanelSums& sums) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const int count = static_cast<int>(keys.end - keys.begin);
  const float* values = p.value.row(panel.batch, p.kv_head(panel.head), keys.begin);

  const bool some_hidden = panel_scores(kernel, p, panel, packed, keys, scores);
  // a weight of 0 times a value that is not finite would be NaN: hidden values that may do so are left out one by one
  const bool leave_out =
      some_hidden && !kernel.all_finite(values, p.value.token_stride, count, p.dim_v);
  std::array<kernels::LaneBits, kChunk> hidden;
  if (leave_out) find_hidden(p, panel, keys, hidden.data());
  kernel.softmax(scores, count, sums.state());
  if (leave_out)
    kernel.weighted_sum_visible_values(scores, values, p.value.token_stride, count, p.dim_v,
                                       sums.alpha.data(), sums.acc, hidden.data());
  else
    kernel.weighted_sum_values(scores, values, p.value.token_stride, count, p.dim_v,
                               sums.alpha.data(), sums.acc);
}

// The sink joins the denominator; what remains is one factor per lane.
PanelResult finish(const Problem& p, const Panel& panel, int width, const PanelSums& sums,
                   LaneFloats& out_factor) {
  PanelResult r;
  const float sink = p.sinks != nullptr ? p.sinks[panel.head] * kLog2e : -kInfinity;
  for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
    float shift = sums.max[i];
    float sum = sums.sum[i];
    float rescale = 1;
    if (sink > shift) {
      rescale = std::exp2(shift - sink);
      shift = sink;
    }
    if (sink != -kInfinity) sum = sum * rescale + std::exp2(sink - shift);
    r.max[i] = sums.max[i];
    r.shift[i] = shift;
    const bool nothing = shift == -kInfinity && !(sum != 0);  // a NaN sum is something
    r.log2_sum[i] = nothing ? 0.0f : std::log2(sum);
    r.factor[i] = nothing ? 0.0f : 1.0f / sum;
    out_factor[i] = nothing ? 0.0f : rescale / sum;
  }
  return r;
}

}  // namespace

std::size_t forward_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  const auto acc = static_cast<std::size_t>(p.dim_v) * kRowBlock;
  return 2 * acc + static_cast<std::size_t>(kernel.panel) * kChunk;
}

void forward_rows(const RowBlock& block, const Panel* panels, const float* packed, float* scratch,
                  const Rows<float>& out, PanelResult* results) {
  const kernels::Kernels& kernel = block.kernel;
  const Problem& p = block.problem;
  const int panel_count = block.panels();
  const auto packed_size = static_cast<std::size_t>(p.dim) * static_cast<std::size_t>(kernel.panel);
  const auto acc_size = static_cast<std::size_t>(p.dim_v) * static_cast<std::size_t>(kernel.panel);
  constexpr std::size_t kMaxPanels = kRowBlock / 8;  // no panel is narrower than 8
  std::array<PanelSums, kMaxPanels> totals;
  std::array<PanelSums, kMaxPanels> parts;
  float* const scores = scratch;
  float* acc = scratch + static_cast<std::size_t>(kernel.panel) * kChunk;
  Range keys = {p.keys, 0};
  for (std::size_t i = 0; i < static_cast<std::size_t>(panel_count); ++i) {
    totals[i].acc = acc + 2 * i * acc_size;
    parts[i].acc = acc + (2 * i + 1) * acc_size;
    totals[i].clear(acc_size);
    keys = {std::min(keys.begin, panels[i].outer.begin), std::max(keys.end, panels[i].outer.end)};
  }

  bool first_stretch =
      true;  // goes straight into the totals: merging into nothing would copy the same bits
  for (std::int64_t stretch = keys.begin - keys.begin % kStretch; stretch < keys.end;
       stretch += kStretch) {
    auto& sums = first_stretch ? totals : parts;
    for (std::size_t i = 0; !first_stretch && i < static_cast<std::size_t>(panel_count); ++i)
      parts[i].clear(acc_size);
    for (std::int64_t chunk = stretch; chunk < std::min(stretch + kStretch, keys.end);
         chunk += kChunk) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(panel_count); ++i) {
        const Range here = panels[i].keys_in(chunk);
        if (here.begin < here.end)
          add_chunk(block, panels[i], packed + i * packed_size, here, scores, sums[i]);
      }
    }
    for (std::size_t i = 0; !first_stretch && i < static_cast<std::size_t>(panel_count); ++i)
      kernel.merge_states(p.dim_v, totals[i].state(), totals[i].acc, parts[i].state(),
                          parts[i].acc);
    first_stretch = false;
  }

  for (std::size_t i = 0; i < static_cast<std::size_t>(panel_count); ++i) {
    LaneFloats factor;
    results[i] = finish(p, panels[i], kernel.panel, totals[i], factor);
    kernel.write_outputs(totals[i].acc, factor.data(), panels[i].count, p.dim_v,
                         out.row(block.batch, block.head, panels[i].first), out.token_stride);
  }
}

float lse_of(const PanelResult& result, int lane) {
  const auto i = static_cast<std::size_t>(lane);
  return static_cast<float>(
      (static_cast<double>(result.shift[i]) + static_cast<double>(result.log2_sum[i])) * kLn2);
}

}  // namespace qkv
