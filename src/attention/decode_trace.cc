#include "attention/decode_trace.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "attention/parallel.h"

namespace qkv {
namespace {

// What is kept stays in the last cache, and with the thread between calls.
constexpr std::int64_t kMostBytes = std::int64_t{16} << 20;
// Weights below which waking another thread costs more than it brings.
constexpr std::int64_t kWorthAThread = 1 << 15;

constexpr std::int64_t whole(std::int64_t count, std::int64_t of) {
  return (count + of - 1) / of * of;
}
// Whole cache lines; whole panels of chunks, as their maxima are looked at a panel at a time.
std::int64_t floats_for_keys(const Problem& p) { return whole(p.keys, 16); }
std::int64_t floats_for_chunks(const Problem& p) {
  return whole((p.keys + kChunk - 1) / kChunk, kernels::kMaxPanel);
}

}  // namespace

bool DecodeTrace::fits(const Problem& p) {
  const std::int64_t row =
      (floats_for_keys(p) + floats_for_chunks(p)) * std::int64_t{sizeof(float)};
  return p.row_count() <= kMostBytes / std::max<std::int64_t>(row, 1);
}

DecodeTrace::DecodeTrace(const Problem& p, const TraceOptions& options, Trace& trace)
    : p_(p),
      recorder_(p, options, trace),
      keys_(floats_for_keys(p)),
      chunks_(floats_for_chunks(p)),
      results_(static_cast<std::size_t>(p.row_count()),
               {-std::numeric_limits<float>::infinity(), 0, 0,
                -std::numeric_limits<float>::infinity(), 0}) {
  if (!recorder_.reads_weights()) return;
  weights_ = thread_scratch(ScratchUse::strip)
                 .floats(static_cast<std::size_t>(p.row_count() * (keys_ + chunks_)));
  for (std::int64_t row = 0; row < p.row_count(); ++row)
    std::fill_n(max_of(row), chunks_, -std::numeric_limits<float>::infinity());
}

void DecodeTrace::keep(std::int64_t row, Range keys, const float* weights, float max) {
  if (weights_ == nullptr) return;
  std::copy_n(weights, keys.end - keys.begin, weights_of(row) + keys.begin);
  max_of(row)[keys.begin / kChunk] = max;
}

void DecodeTrace::record(int threads) {
  const bool few = weights_ == nullptr || p_.row_count() * p_.keys < kWorthAThread;
  parallel_for(few ? 1 : threads, p_.batch * p_.heads,
               [&](std::int64_t head) { record_head(head / p_.heads, head % p_.heads); });
}

void DecodeTrace::record_head(std::int64_t b, std::int64_t h) {
  const std::int64_t queries = p_.queries_of(b);
  if (queries == 0) return;
  TraceRecorder::Sums sums = recorder_.begin_group(b);
  recorder_.begin_unit(b, 0, sums);
  if (queries == 1 || recorder_.reads_only_top()) {
    for (std::int64_t q = 0; q < queries; ++q) record_row({b, h, q, p_.visible(b, q)}, sums);
  } else {
    const kernels::Kernels& kernel = narrowest_panel(kernels::kernels(), p_.queries);
    for (std::int64_t q = 0; q < queries; q += kernel.panel)
      record_panel(
          kernel,
          Panel(p_, b, h, q, static_cast<int>(std::min<std::int64_t>(kernel.panel, queries - q))),
          sums);
  }
  recorder_.end_unit(b, h, sums);
  recorder_.end_group(b, h, 0, std::move(sums));
}

void DecodeTrace::record_row(const TracedRow& row, TraceRecorder::Sums& sums) const {
  const std::int64_t index = p_.row_index(row.batch, row.head, row.query);
  const RowResult& result = results_[static_cast<std::size_t>(index)];
  float* const weights = weights_ == nullptr ? nullptr : weights_of(index);
  if (weights != nullptr) normalise(row, result, weights, max_of(index));
  recorder_.add_row(row, weights, result, sums);
}

void DecodeTrace::record_panel(const kernels::Kernels& kernel, const Panel& panel,
                               TraceRecorder::Sums& sums) const {
  const std::int64_t width = kernel.panel;
  const Range keys = strip_keys(panel);
  const std::int64_t chunks = chunks_of(keys);
  const std::int64_t floats = whole(keys.end - keys.begin, kernels::kKeyGroup) * width;
  float* const memory = thread_scratch().floats(static_cast<std::size_t>(
      TraceRecorder::strip_floats(keys.end - keys.begin, kernel.panel) + chunks * width));
  const Strip strip{memory, memory + floats, keys.begin};
  float* const largest = strip.max + chunks * width;
  std::fill_n(memory, floats + chunks * width, 0.0f);
  PanelResult result{};
  for (int lane = 0; lane < panel.count; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    const std::int64_t index = p_.row_index(panel.batch, panel.head, panel.first + lane);
    set_row(result, lane, results_[static_cast<std::size_t>(index)]);
    for (std::int64_t k = panel.begin[i]; k < panel.end[i]; ++k)
      strip.at(k, kernel.panel)[lane] = weights_of(index)[k];
    for (std::int64_t c = 0; c < chunks; ++c)
      strip.max[c * width + lane] = max_of(index)[keys.begin / kChunk + c];
  }
  if (chunks > 0) {
    chunk_factors(kernel, result, chunks, strip.max, strip.max);
    recorder_.add_keys(
        {kernel, panel, result, strip, keys, largest, largest + floats / kernels::kKeyGroup}, sums,
        recorder_.top_of(panel));
  }
  recorder_.end_rows(panel, result, sums);
}

// The numbers of chunks lie over the lanes: all of them are relative to one shift. A row that met a NaN has NaN for weights, but
// hidden keys weigh 0 even there.
void DecodeTrace::normalise(const TracedRow& row, const RowResult& result, float* weights,
                            float* max) const {
  const std::int64_t begin = row.seen.begin - row.seen.begin % kAlign;
  if (std::isnan(result.factor)) {
    for (std::int64_t k = begin; k < row.seen.end; ++k)
      weights[k] = p_.hidden(row.batch, row.head, row.query, k)
                       ? 0.0f
                       : std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const kernels::Kernels& kernel = kernels::kernels();
  LaneFloats shift, factor;
  shift.fill(result.shift);
  factor.fill(result.factor);
  kernel.normalise(max, static_cast<int>(chunks_ / kernel.panel), shift.data(), factor.data(), max);
  for (std::int64_t k = begin, end = 0; k < row.seen.end; k = end) {
    end = std::min(k - k % kChunk + kChunk, row.seen.end);
    const float by = max[k / kChunk];
    for (std::int64_t i = k; i < end; ++i) weights[i] *= by;
  }
}

}  // namespace qkv
