#include "attention/panel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.4426950408889634f;

void add_bias(const Problem& p, const Panel& panel, Range keys, int width, float* scores) {
  const std::int64_t step = p.bias.strides[3];
  for (int lane = 0; lane < panel.count; ++lane) {
    const float* bias = p.bias.row(panel.batch, panel.head, panel.first + lane) + keys.begin * step;
    for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
      // −inf hides the key, even one whose score is NaN
      float& score = scores[k * width + lane];
      score = bias[k * step] == -kInfinity ? -kInfinity : score + kLog2e * bias[k * step];
    }
  }
}

void apply_mask(const Problem& p, const Panel& panel, Range keys, int width, float* scores) {
  const std::int64_t step = p.mask.strides[3];
  for (int lane = 0; lane < panel.count; ++lane) {
    const bool* mask = p.mask.row(panel.batch, panel.head, panel.first + lane) + keys.begin * step;
    for (std::int64_t k = 0; k < keys.end - keys.begin; ++k)
      if (!mask[k * step]) scores[k * width + lane] = -kInfinity;
  }
}

// Only the keys that some lane may not see are looked at.
bool mask_edges(const kernels::Kernels& kernel, const Panel& panel, Range keys, float* scores) {
  const std::int64_t seen_from = std::clamp(panel.inner.begin, keys.begin, keys.end);
  const std::int64_t seen_to = std::clamp(panel.inner.end, seen_from, keys.end);
  const auto mask = [&](std::int64_t begin, std::int64_t end) {
    if (begin < end)
      kernel.mask_outside(scores + (begin - keys.begin) * kernel.panel,
                          static_cast<int>(end - begin), static_cast<std::int32_t>(begin),
                          panel.begin.data(), panel.end.data());
  };
  mask(keys.begin, seen_from);
  mask(seen_to, keys.end);
  return seen_from > keys.begin || seen_to < keys.end;
}

}  // namespace

Panel::Panel(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t first_query,
             int query_count)
    : batch(b), head(h), first(first_query), count(query_count), keys(p.keys_of(b)) {
  inner = {0, p.keys};
  outer = {p.keys, 0};
  const auto at = [&, from = p.position(b, first)](int lane) {
    return from + std::min(lane, count - 1);
  };
  for (int lane = 0; lane < kernels::kMaxPanel; ++lane)
    position[static_cast<std::size_t>(lane)] = static_cast<std::int32_t>(at(lane));
  if (p.causal == Causal::no && p.window.left < 0 && p.window.right < 0) {
    begin.fill(0);
    end.fill(static_cast<std::int32_t>(keys));
    inner = {0, keys};
    if (keys > 0) outer = inner;
    return;
  }
  for (int lane = 0; lane < kernels::kMaxPanel; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    const Range seen = p.visible_from(at(lane), keys);
    begin[i] = static_cast<std::int32_t>(seen.begin);
    end[i] = static_cast<std::int32_t>(seen.end);
    inner = {std::max(inner.begin, seen.begin), std::min(inner.end, seen.end)};
    if (seen.begin < seen.end)
      outer = {std::min(outer.begin, seen.begin), std::max(outer.end, seen.end)};
  }
}

Range Panel::keys_in(std::int64_t chunk) const {
  const std::int64_t begin_here = std::max(chunk, outer.begin);
  // an even end: the partner of a last key is looked at, hidden, with it (chunks are even)
  const std::int64_t end_here = std::min(outer.end + outer.end % 2, keys);
  return {begin_here - (begin_here - chunk) % kAlign, std::min(chunk + kChunk, end_here)};
}

void pack_panel(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                float* packed) {
  if (scores_in_pairs(kernel, p)) {
    kernel.pairs->pack_queries(p.query.row_as<std::uint16_t>(panel.batch, panel.head, panel.first),
                               p.query.stride_in<std::uint16_t>(), panel.count, p.dim, p.scale < 0,
                               reinterpret_cast<kernels::Pair*>(packed));
    return;
  }
  float* const scratch =
      is_in_place(p.query)
          ? nullptr
          : thread_scratch(ScratchUse::rows).floats(static_cast<std::size_t>(panel.count * p.dim));
  const FloatRows rows = float_rows(p.query, panel.batch, panel.head,
                                    {panel.first, panel.first + panel.count}, p.dim, scratch);
  kernel.pack_queries(rows.data, rows.stride, panel.count, p.dim, factor_of(p), packed);
}

const kernels::Kernels& narrowest_panel(const kernels::Kernels& widest, std::int64_t queries) {
  const kernels::Kernels* kernel = &widest;
  while (kernel->narrow != nullptr && queries <= kernel->narrow->panel) kernel = kernel->narrow;
  return *kernel;
}

void find_hidden(const Problem& p, const Panel& panel, Range keys, HiddenLanes& hidden) {
  for (std::int64_t k = keys.begin; k < keys.end; ++k) {
    kernels::LaneBits bits = 0;
    for (int lane = 0; lane < panel.count; ++lane)
      bits |= kernels::LaneBits{p.hidden(panel.batch, panel.head, panel.first + lane, k)} << lane;
    hidden[static_cast<std::size_t>(k - keys.begin)] = bits;
  }
}

Runs runs_of(const kernels::Kernels& kernel, const Panel& panel, Range keys) {
  Runs runs;
  std::int64_t begin = keys.begin;
  const auto add = [&](std::int64_t end, int first_lane) {
    if (begin >= end) return;
    runs.run[static_cast<std::size_t>(runs.count++)] = {{begin, end}, first_lane};
    begin = end;
  };
  const bool stairs = panel.inner.end < keys.end;
  std::int64_t reach = 0;  // no lane so far sees a key from here on
  for (int lane = 0; stairs && lane < kernel.panel - kernel.step; ++lane) {
    reach = std::max<std::int64_t>(reach, panel.end[static_cast<std::size_t>(lane)]);
    if ((lane + 1) % kernel.step == 0)
      add(std::min(reach + (reach - keys.begin) % 2, keys.end), lane + 1 - kernel.step);
  }
  add(keys.end, stairs ? kernel.panel - kernel.step : 0);
  return runs;
}

void panel_dots(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                const float* packed, const KeyChunk& chunk, float* scores, float* top) {
  const int count = static_cast<int>(chunk.range.end - chunk.range.begin);
  for (const Run& run : runs_of(kernel, panel, chunk.range)) {
    const KeyChunk keys = chunk.part(run.keys);
    const int key_count = static_cast<int>(run.keys.end - run.keys.begin);
    float* const to = scores + (run.keys.begin - chunk.range.begin) * kernel.panel;
    if (keys.halves != nullptr)
      kernel.pairs->query_dot_keys(reinterpret_cast<const kernels::Pair*>(packed), keys.halves,
                                   keys.stride, key_count, p.dim + p.dim % 2,
                                   std::fabs(factor_of(p)), run.first_lane, to, top);
    else
      kernel.query_dot_keys(packed, keys.floats, keys.stride, key_count, p.dim, run.first_lane, to,
                            top);
  }
  if (chunk.scale != nullptr) kernel.scale_rows(scores, count, chunk.scale);
  if (p.softcap > 0) kernel.softcap(scores, count, p.softcap, kLog2e);
}

bool panel_options(const kernels::Kernels& kernel, const Problem& p, const Panel& panel, Range keys,
                   float* scores) {
  if (p.bias.data != nullptr) add_bias(p, panel, keys, kernel.panel, scores);
  if (p.alibi_slopes != nullptr)
    kernel.add_alibi(scores, static_cast<int>(keys.end - keys.begin),
                     static_cast<std::int32_t>(keys.begin), panel.position.data(),
                     p.alibi_slopes[panel.head] * kLog2e);
  if (p.mask.data != nullptr) apply_mask(p, panel, keys, kernel.panel, scores);
  const bool edges = mask_edges(kernel, panel, keys, scores);
  return edges || p.mask.data != nullptr || p.bias.data != nullptr;
}

ScoresSeen panel_scores(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                        const float* packed, const KeyChunk& keys, float* scores, float* top) {
  const bool plain = keys.scale == nullptr && p.softcap == 0 && p.bias.data == nullptr &&
                     p.alibi_slopes == nullptr && p.mask.data == nullptr &&
                     panel.inner.begin <= keys.range.begin && keys.range.end <= panel.inner.end;
  panel_dots(kernel, p, panel, packed, keys, scores, plain ? top : nullptr);
  return {panel_options(kernel, p, panel, keys.range, scores), plain};
}

}  // namespace qkv
