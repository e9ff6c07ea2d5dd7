#include "attention/few.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "attention/forward.h"
#include "attention/panel.h"
#include "kernels/rows.h"

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.4426950408889634f;

struct RowSums {
  float max = -kInfinity, sum = 0, alpha = 0;
};

// One query's factor and log-sum-exp, as forward.cc finishes a lane without a sink.
float finish(const RowSums& sums, float* lse) {
  const bool nothing = sums.max == -kInfinity && !(sums.sum != 0);  // a NaN sum is something
  if (lse != nullptr) {
    PanelResult result;
    result.shift[0] = sums.max;
    result.log2_sum[0] = nothing ? 0.0f : std::log2(sums.sum);
    *lse = lse_of(result, 0);
  }
  return nothing ? 0.0f : 1.0f / sums.sum;
}

}  // namespace

bool is_few(const Problem& p) {
  return p.queries <= kernels::kFewQueries && p.keys <= kStretch && p.window.left < 0 &&
         p.window.right < 0 && p.mask.data == nullptr && p.bias.data == nullptr && p.softcap == 0 &&
         p.sinks == nullptr && p.alibi_slopes == nullptr && is_in_place(p.query) &&
         is_in_place(p.key) && is_in_place(p.value);
}

void attend_few(const Problem& p, std::int64_t b, std::int64_t h, const MutableRows& out,
                float* lse) {
  const kernels::RowKernels& kernel = kernels::row_kernels();
  const int count = static_cast<int>(p.queries_of(b));
  if (count == 0) return;
  constexpr std::size_t kFew = kernels::kFewQueries;
  float* queries =
      thread_scratch().floats(kFew * static_cast<std::size_t>(p.dim + p.dim_v + kChunk));
  float* acc = queries + count * p.dim;
  float* scores = acc + count * p.dim_v;
  std::array<RowSums, kFew> sums;
  std::array<std::int64_t, kFew> ends{};  // no window: query q sees keys [0, end)
  std::int64_t last = 0;
  const float factor = p.scale * kLog2e;
  for (int q = 0; q < count; ++q) {
    const float* query = p.query.row_as<float>(b, h, q);
    for (int d = 0; d < p.dim; ++d) queries[q * p.dim + d] = factor * query[d];
    ends[static_cast<std::size_t>(q)] = p.visible(b, q).end;
    last = std::max(last, ends[static_cast<std::size_t>(q)]);
  }
  std::fill_n(acc, count * p.dim_v, 0.0f);
  const std::int64_t kv_head = p.kv_head(h);
  for (std::int64_t chunk = 0; chunk < last; chunk += kChunk) {
    const int keys = static_cast<int>(std::min(kChunk, last - chunk));
    kernel.query_dot_keys(queries, count, p.key.row_as<float>(b, kv_head, chunk),
                          p.key.stride_in<float>(), keys, p.dim, scores);
    for (int q = 0; q < count; ++q) {
      RowSums& row = sums[static_cast<std::size_t>(q)];
      const int seen =
          static_cast<int>(std::min<std::int64_t>(keys, ends[static_cast<std::size_t>(q)] - chunk));
      if (seen <= 0) continue;
      float* weights = scores + q * kChunk;
      kernel.softmax(weights, seen, {&row.max, &row.sum, &row.alpha});
      kernel.weighted_sum_values(weights, p.value.row_as<float>(b, kv_head, chunk),
                                 p.value.stride_in<float>(), seen, p.dim_v, row.alpha,
                                 acc + q * p.dim_v);
    }
  }
  for (int q = 0; q < count; ++q) {
    float* to = lse == nullptr ? nullptr : lse + p.row_index(b, h, q);
    const float scale = finish(sums[static_cast<std::size_t>(q)], to);
    float* row = acc + q * p.dim_v;
    for (int d = 0; d < p.dim_v; ++d) row[d] = scale * row[d] + 0.0f;  // −0 becomes 0
    store_row(row, p.dim_v, out, b, h, q);
  }
}

}  // namespace qkv
