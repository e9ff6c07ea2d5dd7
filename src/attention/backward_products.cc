#include "attention/backward_products.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace qkv {
namespace {

using kernels::Pair;

// Rows as floats, one every padded(dim), zeros beyond dim: where they lie if they lie so, else copied to `to`. Rows far apart
// share few cache sets, and are read many times.
const float* dense_rows(const Rows& rows, std::int64_t b, std::int64_t h, Range range, int dim,
                        float* to) {
  if (is_in_place(rows) && rows.stride_in<float>() == dim && padded(dim) == dim)
    return rows.row_as<float>(b, h, range.begin);
  float* next = to;
  for (std::int64_t r = range.begin; r < range.end; ++r, next += padded(dim)) {
    const float* row = float_rows(rows, b, h, {r, r + 1}, dim, next).data;
    if (row != next) std::memcpy(next, row, static_cast<std::size_t>(dim) * sizeof(float));
    std::fill(next + dim, next + padded(dim), 0.0f);
  }
  return to;
}

// The same of halves.
const std::uint16_t* dense_halves(const Rows& rows, std::int64_t b, std::int64_t h, Range range,
                                  int dim, std::uint16_t* to) {
  if (rows.stride_in<std::uint16_t>() == dim && padded(dim) == dim)
    return rows.row_as<std::uint16_t>(b, h, range.begin);
  std::uint16_t* next = to;
  for (std::int64_t r = range.begin; r < range.end; ++r, next += padded(dim)) {
    std::memcpy(next, rows.row(b, h, r), static_cast<std::size_t>(dim) * sizeof *next);
    std::fill(next + dim, next + padded(dim), std::uint16_t{0});
  }
  return to;
}

// Lanes that may see some of these keys, as far as order, window and lengths say.
struct LaneRange {
  int begin, end;
};
LaneRange lanes_of(const Panel& panel, Range keys) {
  LaneRange lanes = {0, panel.count};
  const auto sees = [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    return panel.begin[i] < keys.end && panel.end[i] > keys.begin;
  };
  while (lanes.begin < lanes.end && !sees(lanes.begin)) ++lanes.begin;
  while (lanes.begin < lanes.end && !sees(lanes.end - 1)) --lanes.end;
  return lanes;
}

// Σ over some lanes for some keys of a QuerySum, from the k-th on.
struct PartOfSum {
  const QuerySum& sum;
  const GradientTile& tile;
  const PanelRows& rows;
  int dim;
  float* acc;

  void add(std::int64_t k, int count, LaneRange lanes) const {
    const std::int64_t stride = padded(dim);
    const std::int64_t first = k * sum.kernel.panel + lanes.begin;
    if (rows.pairs == nullptr)
      return sum.kernel.weighted_sum_queries(
          tile.floats + first, count, rows.rows + lanes.begin * stride, stride,
          lanes.end - lanes.begin, static_cast<int>(stride), acc + k * stride, stride);
    sum.kernel.pairs->weighted_sum_queries(
        tile.halves + first, count, rows.pairs + lanes.begin / 2 * stride, stride,
        (lanes.end - lanes.begin) / 2, static_cast<int>(stride), acc + k * stride, stride);
  }

  // One key; the lanes that are hidden from it count as 0, whatever bits their rows hold.
  void add_visible(std::int64_t k, kernels::LaneBits hidden) const {
    const auto sees = [&](int lane) { return (hidden >> lane & 1) == 0; };
    if (rows.pairs == nullptr) {
      for (int lane = 0; lane < sum.panel.count; ++lane)
        if (sees(lane)) add(k, 1, {lane, lane + 1});
      return;
    }
    for (int lane = 0; lane < sum.panel.count; lane += 2) {
      if (sees(lane) && sees(lane + 1)) add(k, 1, {lane, lane + 2});
      if (sees(lane) == sees(lane + 1)) continue;
      const std::int64_t stride = padded(dim);
      std::array<Pair, 1024> row;
      for (std::int64_t d = 0; d < stride; ++d)
        row[static_cast<std::size_t>(d)] =
            rows.pairs[lane / 2 * stride + d] & (sees(lane) ? 0x0000ffffu : 0xffff0000u);
      sum.kernel.pairs->weighted_sum_queries(tile.halves + k * sum.kernel.panel + lane, 1,
                                             row.data(), stride, 1, static_cast<int>(stride),
                                             acc + k * stride, stride);
    }
  }
};

}  // namespace

const kernels::Kernels& gradient_kernels(const Problem& p, DType d_out) {
  const kernels::Kernels& kernel = kernels::kernels();
  const bool pairs =
      scores_in_pairs(kernel, p) && values_in_pairs(kernel, p) && d_out == DType::bf16;
  return pairs ? kernel : kernels::float_kernels();
}

std::size_t panel_rows_floats(const kernels::Kernels& kernel, int dim) {
  const auto lanes = static_cast<std::size_t>(kernel.panel);
  const auto width = static_cast<std::size_t>(padded(dim));
  return kernel.pairs != nullptr ? lanes * width : 2 * lanes * width;
}

PanelRows load_panel_rows(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                          const Rows& from, int dim, bool queries, float* memory) {
  const Range range = {panel.first, panel.first + panel.count};
  const std::int64_t stride = padded(dim);
  PanelRows to;
  to.packed = memory;
  if (queries) pack_panel(kernel, p, panel, memory);
  if (kernel.pairs == nullptr) {
    to.rows = dense_rows(from, panel.batch, panel.head, range, dim, memory + kernel.panel * stride);
    if (!queries) kernel.pack_queries(to.rows, stride, panel.count, dim, 1, memory);
    to.finite = kernel.all_finite(to.rows, stride, panel.count, dim);
    return to;
  }
  const std::size_t scratch = static_cast<std::size_t>(panel.count * (stride / 2));
  const std::uint16_t* halves = dense_halves(
      from, panel.batch, panel.head, range, dim,
      reinterpret_cast<std::uint16_t*>(thread_scratch(ScratchUse::rows).floats(scratch)));
  if (!queries)
    kernel.pairs->pack_queries(halves, stride, panel.count, dim, false,
                               reinterpret_cast<Pair*>(memory));
  auto* const pairs = reinterpret_cast<Pair*>(memory + kernel.panel * (stride / 2));
  kernel.pairs->pack_values(halves, stride, panel.count, static_cast<int>(stride), pairs);
  to.pairs = pairs;
  to.finite = kernel.pairs->all_finite(halves, stride, panel.count, dim);
  return to;
}

std::size_t block_rows_floats(std::size_t count, int dim) {
  return (count + count % 2) * static_cast<std::size_t>(padded(dim));
}

BlockRows load_block_rows(const kernels::Kernels& kernel, const Rows& from, std::int64_t b,
                          std::int64_t kv_head, Range range, int dim, bool with_pairs,
                          float* memory) {
  const int count = static_cast<int>(range.end - range.begin);
  const std::int64_t stride = padded(dim);
  BlockRows to;
  to.rows.range = range;
  to.rows.stride = stride;
  if (kernel.pairs == nullptr) {
    to.rows.floats = dense_rows(from, b, kv_head, range, dim, memory);
    to.finite = kernel.all_finite(to.rows.floats, stride, count, dim);
    return to;
  }
  // halves take half of the memory, pairs of two rows each the other half
  to.rows.halves =
      dense_halves(from, b, kv_head, range, dim, reinterpret_cast<std::uint16_t*>(memory));
  to.finite = kernel.pairs->all_finite(to.rows.halves, stride, count, dim);
  if (with_pairs) {
    auto* const pairs = reinterpret_cast<Pair*>(memory + (count + count % 2) * (stride / 2));
    kernel.pairs->pack_values(to.rows.halves, stride, count, dim, pairs);
    to.pairs = pairs;
  }
  return to;
}

void value_dots(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                const PanelRows& d_out, const KeyChunk& values, float* d_weights) {
  for (const Run& run : runs_of(kernel, panel, values.range)) {
    const KeyChunk rows = values.part(run.keys);
    const int count = static_cast<int>(run.keys.end - run.keys.begin);
    float* const to = d_weights + (run.keys.begin - values.range.begin) * kernel.panel;
    if (rows.floats != nullptr)
      kernel.query_dot_keys(d_out.packed, rows.floats, rows.stride, count, p.dim_v, run.first_lane,
                            to, nullptr);
    else
      kernel.pairs->query_dot_keys(reinterpret_cast<const Pair*>(d_out.packed), rows.halves,
                                   rows.stride, count, p.dim_v + p.dim_v % 2, 1, run.first_lane, to,
                                   nullptr);
  }
}

void QuerySum::add(const GradientTile& tile, const PanelRows& rows, int dim, float* acc) const {
  const PartOfSum part{*this, tile, rows, dim, acc};
  const std::int64_t count = keys.end - keys.begin;
  if (hidden != nullptr) {
    for (std::int64_t k = 0; k < count; ++k)
      part.add_visible(k, (*hidden)[static_cast<std::size_t>(k)]);
    return;
  }
  const bool all = panel.inner.begin <= keys.begin && keys.end <= panel.inner.end;
  constexpr std::int64_t kStep = 12;  // two tiles' keys: near the diagonal few lanes see them
  const std::int64_t step = all ? count : kStep;
  for (std::int64_t k = 0; k < count; k += step) {
    const Range some = {keys.begin + k, std::min(keys.begin + k + step, keys.end)};
    LaneRange lanes = all ? LaneRange{0, panel.count} : lanes_of(panel, some);
    if (lanes.begin >= lanes.end) continue;
    if (rows.pairs != nullptr)  // whole pairs: weight or row of the partner is 0
      lanes = {lanes.begin - lanes.begin % 2, lanes.end + lanes.end % 2};
    part.add(k, static_cast<int>(some.end - some.begin), lanes);
  }
}

}  // namespace qkv
