// attention(): checks the call, cuts it into tasks, hands them to threads.
#include "qkv/attention.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "attention/decode.h"
#include "attention/decode_trace.h"
#include "attention/forward.h"
#include "attention/long_rows.h"
#include "attention/panel.h"
#include "attention/parallel.h"
#include "attention/problem.h"
#include "attention/record.h"
#include "attention/traced_rows.h"

namespace qkv {
namespace {

constexpr std::size_t kMaxPanels = kRowBlock / 8;

// A call that is being worked on.
struct Call {
  const kernels::Kernels& kernel;
  const Problem& problem;
  const AttentionOutput& output;
  MutableRows out;
};

// Forward for one block of rows and, if a recorder is given, its trace.
void run_rows(const Call& call, std::int64_t b, std::int64_t h, std::int64_t first, int count,
              const TraceRecorder* recorder = nullptr, TraceRecorder::Sums* sums = nullptr,
              const PackedValues* values = nullptr) {
  const Problem& p = call.problem;
  const bool with_log = recorder != nullptr || call.output.lse.data() != nullptr;
  const RowBlock block{call.kernel, p, b, h, first, count, with_log, values};
  const int width = call.kernel.panel;
  std::array<Panel, kMaxPanels> panels;
  std::array<PanelResult, kMaxPanels> results;
  const std::size_t packed_size = static_cast<std::size_t>(p.dim) * static_cast<std::size_t>(width);
  const std::size_t packed_floats = packed_size * static_cast<std::size_t>(block.panels());
  float* packed = thread_scratch().floats(packed_floats + forward_scratch_floats(call.kernel, p));
  for (int i = 0; i < block.panels(); ++i) {
    Panel& panel = panels[static_cast<std::size_t>(i)];
    panel = Panel(p, b, h, first + std::int64_t{i} * width, std::min(width, count - i * width));
    pack_panel(call.kernel, p, panel, packed + static_cast<std::size_t>(i) * packed_size);
  }
  TraceRecorder::Strips strips;
  if (recorder != nullptr) recorder->make_strips(block, panels.data(), strips);
  forward_rows(block, panels.data(), packed, packed + packed_floats, call.out, results.data(),
               recorder != nullptr ? strips.strips.data() : nullptr);
  if (call.output.lse.data() != nullptr) {
    float* lse = call.output.lse.data() + p.row_index(b, h, first);
    for (int i = 0; i < count; ++i)
      lse[i] = lse_of(row_of(results[static_cast<std::size_t>(i / width)], i % width));
  }
  if (recorder != nullptr) recorder->add_rows(block, panels.data(), results.data(), strips, *sums);
}

// Rows of one task: a whole block, or fewer when there would be too few tasks to share: the last one leaves the other threads
// waiting.
std::int64_t rows_per_task(const Problem& p, int width, int threads) {
  constexpr std::int64_t kTasksEach = 8;
  std::int64_t rows = kRowBlock;
  const auto tasks = [&] { return p.batch * p.heads * ((p.queries + rows - 1) / rows); };
  while (rows > width &&
         tasks() < kTasksEach * std::int64_t{thread_count(threads, tasks() * (rows / width))})
    rows /= 2;
  return rows;
}

// Pieces that the heads of each batch entry are cut into; packed sequences have different numbers of them.
class Pieces {
 public:
  template <class F>
  Pieces(const Problem& p, const F& pieces_of) : heads_(p.heads) {
    starts_.reserve(static_cast<std::size_t>(p.batch) + 1);
    starts_.push_back(0);
    for (std::int64_t b = 0; b < p.batch; ++b)
      starts_.push_back(starts_.back() + p.heads * pieces_of(b));
  }
  std::int64_t count() const { return starts_.back(); }

  // Causal: the last rows see most, so the last piece of a head goes first.
  struct Piece {
    std::int64_t b, h, piece;
  };
  Piece operator[](std::int64_t task) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), task);
    const std::int64_t each = (*after - *(after - 1)) / heads_;
    const std::int64_t rest = task - *(after - 1);
    return {after - starts_.begin() - 1, rest / each, each - 1 - rest % each};
  }

 private:
  std::vector<std::int64_t> starts_;
  std::int64_t heads_;
};

void run(const Call& call, int threads) {
  const Problem& p = call.problem;
  if (is_decode(p)) {
    decode(p, call.out, call.output.lse.data(), threads, bf16_dots_of(p));
    return;
  }
  // multiply-adds below which waking another thread costs more than it brings: a few microseconds of one
  constexpr double kWorthAThread = 1 << 20;
  if (static_cast<double>(p.batch * p.heads * p.queries) * static_cast<double>(p.keys) *
          (p.dim + p.dim_v) <
      kWorthAThread)
    threads = 1;
  const std::int64_t rows = rows_per_task(p, call.kernel.panel, threads);
  const Pieces pieces(p, [&](std::int64_t b) { return (p.queries_of(b) + rows - 1) / rows; });
  parallel_for(threads, pieces.count(), [&](std::int64_t task) {
    const Pieces::Piece at = pieces[task];
    const std::int64_t first = at.piece * rows;
    run_rows(call, at.b, at.h, first, static_cast<int>(std::min(rows, p.queries_of(at.b) - first)));
  });
}

}  // namespace

// A trace keeps the weights of the rows at work: as many rows as the second cache holds, or one panel's. Narrower panels, whose
// tiles are slower, pay only where a strip would leave the third cache too (8192 keys: 10% more time with panels of 64, 30%
// of 16); they also bound the memory. Longer rows keep no weights (long_rows.h). Every bit of a row is the same.
TracedRows traced_rows(const Problem& p, const kernels::Kernels& widest) {
  constexpr std::int64_t kStripBytes = std::int64_t{512} << 10;
  constexpr std::int64_t kMostStripBytes = std::int64_t{4} << 20;
  std::int64_t keys = p.keys;
  if (p.window.left >= 0 && (p.window.right >= 0 || p.causal != Causal::no))
    keys = std::min(keys, p.window.left + std::max<std::int64_t>(p.window.right, 0) + kRowBlock);
  const std::int64_t row_bytes = std::max<std::int64_t>(keys, 1) * std::int64_t{sizeof(float)};
  const kernels::Kernels* kernel = &widest;
  while (kernel->narrow != nullptr && kernel->panel * row_bytes > kMostStripBytes)
    kernel = kernel->narrow;
  if (kernel->panel * row_bytes > kMostStripBytes) return {&widest, widest.panel, true};
  const std::int64_t panels = kStripBytes / (kernel->panel * row_bytes);
  return {kernel, std::clamp<std::int64_t>(panels * kernel->panel, kernel->panel, kRowBlock),
          false};
}

void attention_traced(const Problem& p, const AttentionOptions& options,
                      const AttentionOutput& output, const TracedRows& rows) {
  const Call call{*rows.kernel, p, output, out_rows(p, output.out)};
  TraceRecorder recorder(p, options.trace, *output.trace);
  const Pieces pieces(p, [&](std::int64_t b) { return recorder.cut(b).groups; });
  // threads share the heads and their rows, or the keys of long rows
  parallel_for(rows.are_long ? 1 : options.threads, pieces.count(), [&](std::int64_t task) {
    const auto [b, h, group] = pieces[task];
    const TraceCut& cut = recorder.cut(b);
    const Range units = cut.units_of(group);
    TraceRecorder::Sums sums = recorder.begin_group(b);
    // rows are fewer at a time than without a trace: values would be packed more often
    std::optional<PackedValues> values;
    if (!rows.are_long)
      values.emplace(
          call.kernel, p, b, p.kv_head(h),
          Range{units.begin * cut.unit, std::min(units.end * cut.unit, p.queries_of(b))});
    for (std::int64_t unit = units.begin; unit < units.end; ++unit) {
      const std::int64_t begin = unit * cut.unit;
      const std::int64_t end = std::min(begin + cut.unit, p.queries_of(b));
      recorder.begin_unit(b, begin, sums);
      for (std::int64_t first = begin; first < end; first += rows.count) {
        const int count = static_cast<int>(std::min(rows.count, end - first));
        if (rows.are_long)
          trace_long_rows({call.kernel, p, b, h, first, count, true}, options.threads, call.out,
                          call.output.lse.data() == nullptr
                              ? nullptr
                              : call.output.lse.data() + p.row_index(b, h, first),
                          recorder, sums);
        else
          run_rows(call, b, h, first, count, &recorder, &sums,
                   values->empty() ? nullptr : &*values);
      }
      recorder.end_unit(b, h, sums);
    }
    recorder.end_group(b, h, group, std::move(sums));
  });
}

namespace {

void decode_traced(const Problem& p, const AttentionOptions& options,
                   const AttentionOutput& output) {
  DecodeTrace trace(p, options.trace, *output.trace);
  decode(p, out_rows(p, output.out), output.lse.data(), options.threads, bf16_dots_of(p), &trace);
  trace.record(options.threads);
}

}  // namespace

void attention(const TensorView& query, const TensorView& key, const TensorView& value,
               const AttentionOptions& options, const AttentionOutput& output) {
  const Problem problem = attention_problem(query, key, value, options, output);
  const kernels::Kernels& kernel = narrowest_panel(kernels::kernels(), problem.queries);
  if (output.trace != nullptr && is_decode(problem) && DecodeTrace::fits(problem))
    decode_traced(problem, options, output);
  else if (output.trace != nullptr)
    attention_traced(problem, options, output, traced_rows(problem, kernel));
  else
    run({kernel, problem, output, out_rows(problem, output.out)}, options.threads);
}

}  // namespace qkv
