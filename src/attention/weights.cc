// weights(): any exact tile of the attention matrix, from query, key and the rows' log-sum-exp.
#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "attention/check.h"
#include "attention/overlap.h"
#include "attention/panel.h"
#include "attention/parallel.h"
#include "attention/problem.h"
#include "qkv/attention.h"

namespace qkv {
namespace {

constexpr float kLog2e = 1.4426950408889634f;

void check_range(const char* name, Range range, std::int64_t size) {
  if (range.begin < 0 || range.begin > range.end || range.end > size)
    fail("weights", std::string(name) + " is [" + std::to_string(range.begin) + ", " +
                        std::to_string(range.end) + "); expected a range within [0, " +
                        std::to_string(size) + ")");
}

// weights[k][lane] of one panel, written to out[lane][k]. Keys that the batch entry does not have weigh 0 and are not looked
// at: pages may end before them.
void write_panel(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                 const float* lse, Range keys, float* out, std::int64_t out_stride) {
  float* packed = thread_scratch().floats(static_cast<std::size_t>(p.dim) *
                                          static_cast<std::size_t>(kernel.panel));
  std::array<float, kernels::kMaxPanel * kChunk> scores;
  LaneFloats shift{};
  LaneFloats factor{};
  for (int lane = 0; lane < panel.count; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    shift[i] = lse[lane] * kLog2e;
    factor[i] = lse[lane] == -std::numeric_limits<float>::infinity() ? 0.0f : 1.0f;
  }
  pack_panel(kernel, p, panel, packed);
  std::vector<float> key_scratch(key_scratch_floats(kernel, p));
  const std::int64_t end = std::clamp(p.keys_of(panel.batch), keys.begin, keys.end);
  for (int lane = 0; lane < panel.count; ++lane)
    std::fill(out + lane * out_stride + (end - keys.begin),
              out + lane * out_stride + (keys.end - keys.begin), 0.0f);
  for (std::int64_t first = keys.begin; first < end; first += kChunk) {
    const Range here = {first, std::min(first + kChunk, end)};
    const int count = static_cast<int>(here.end - here.begin);
    panel_scores(kernel, p, panel, packed,
                 load_keys(kernel, p, panel.batch, p.kv_head(panel.head), here, key_scratch.data()),
                 scores.data(), nullptr);
    kernel.normalise(scores.data(), count, shift.data(), factor.data(), scores.data());
    for (int lane = 0; lane < panel.count; ++lane)
      for (int k = 0; k < count; ++k)
        out[lane * out_stride + (first - keys.begin) + k] =
            scores[static_cast<std::size_t>(k * kernel.panel + lane)];
  }
}

}  // namespace

void weights(const TensorView& query, const TensorView& key, const AttentionOptions& options,
             std::span<const float> lse, Range queries, Range keys, const MutableTensorView& out) {
  const Problem p = score_problem("weights", query, key, options);
  if (p.query.starts != nullptr || p.key.starts != nullptr)
    fail("weights", "packed sequences have no common matrix; call it for one of them");
  check_range("queries", queries, p.queries);
  check_range("keys", keys, p.keys);
  if (static_cast<std::int64_t>(lse.size()) != p.batch * p.heads * p.queries)
    fail("weights", "lse has " + std::to_string(lse.size()) +
                        " entries; expected batch·heads_q·queries = " +
                        std::to_string(p.batch * p.heads * p.queries));
  check_output("weights", "out", out,
               {p.batch, p.heads, queries.end - queries.begin, keys.end - keys.begin});
  const kernels::Kernels& kernel = kernels::kernels();
  if (out.dtype != DType::f32)
    fail("weights",
         "out has elements of type " + std::string(name_of(out.dtype)) + "; expected float32");
  check_aligned("weights", "lse", lse.data(), sizeof(float));
  Places places;
  places.read("query", query);
  places.read("key", key);
  places.read("lse", lse);
  AttentionOptions looked_at = options;
  looked_at.v_scale = {};  // may be anything: values have no part in this
  places.read(looked_at);
  places.written("out", out);
  places.check("weights");
  const MutableRows rows = rows_of<std::byte>(out);
  const std::int64_t panels = (queries.end - queries.begin + kernel.panel - 1) / kernel.panel;
  parallel_for(options.threads, p.batch * p.heads * panels, [&](std::int64_t task) {
    const std::int64_t b = task / panels / p.heads;
    const std::int64_t h = task / panels % p.heads;
    const std::int64_t first = queries.begin + task % panels * kernel.panel;
    const Panel panel(p, b, h, first,
                      static_cast<int>(std::min<std::int64_t>(kernel.panel, queries.end - first)));
    write_panel(kernel, p, panel, lse.data() + (b * p.heads + h) * p.queries + first, keys,
                rows.row_as<float>(b, h, first - queries.begin), rows.stride_in<float>());
  });
}

}  // namespace qkv
