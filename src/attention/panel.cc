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
    : batch(b), head(h), first(first_query), count(query_count) {
  keys = p.keys_of(b);
  inner = {0, p.keys};
  outer = {p.keys, 0};
  for (int lane = 0; lane < kernels::kMaxPanel; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    const std::int64_t q = first + std::min(lane, count - 1);
    const Range seen = p.visible(b, q);
    position[i] = static_cast<std::int32_t>(p.position(b, q));
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

void panel_dots(const kernels::Kernels& kernel, const Problem& p, const float* packed,
                const KeyChunk& chunk, float* scores) {
  const int count = static_cast<int>(chunk.range.end - chunk.range.begin);
  if (chunk.halves != nullptr)
    kernel.pairs->query_dot_keys(reinterpret_cast<const kernels::Pair*>(packed), chunk.halves,
                                 chunk.stride, count, p.dim + p.dim % 2, std::fabs(factor_of(p)),
                                 scores);
  else
    kernel.query_dot_keys(packed, chunk.floats, chunk.stride, count, p.dim, scores);
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

bool panel_scores(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                  const float* packed, const KeyChunk& keys, float* scores) {
  panel_dots(kernel, p, packed, keys, scores);
  return panel_options(kernel, p, panel, keys.range, scores);
}

}  // namespace qkv
