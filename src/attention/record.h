// Fills a Trace, row block by row block, right after the block's forward pass: the weights are computed once more from the
// packed queries and the finished softmax, a chunk at a time, and counted while they are in cache.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "attention/forward.h"
#include "qkv/trace.h"

namespace qkv {

// How the rows of one head are cut when a trace is recorded. It depends on shapes and options only, never on threads.
struct TraceCut {
  std::int64_t unit = kRowBlock;  // rows whose share of the block map is added up by one task
  std::int64_t units = 0;         // units of one head
  std::int64_t groups = 1;        // runs of units; each has its own sums of received mass

  // For batch entry b, whose rows may be fewer than another's.
  TraceCut(const Problem& p, const TraceOptions& options, std::int64_t b);
  // Units of group g: [begin, end).
  Range units_of(std::int64_t g) const { return {g * units / groups, (g + 1) * units / groups}; }
};

class TraceRecorder {
 public:
  // Sizes the trace's arrays and fills in what a row without visible keys has.
  TraceRecorder(const Problem& p, const TraceOptions& options, Trace& trace);

  const TraceCut& cut(std::int64_t b) const { return cuts_[static_cast<std::size_t>(b)]; }

  // What one task adds up before it is written: rows of one group of one head.
  struct Sums {
    std::vector<double> received;       // [Sk]
    std::vector<std::int32_t> visible;  // [Sk]
    std::vector<double> block_mass;     // [query blocks of a unit, key blocks]
    std::int64_t first_query_block = 0;
  };
  void begin_unit(std::int64_t b, std::int64_t first_query, Sums& sums) const;
  void add_rows(const RowBlock& block, const Panel* panels, const float* packed,
                const PanelResult* results, Sums& sums) const;
  void end_unit(std::int64_t b, std::int64_t h, Sums& sums) const;
  void end_group(std::int64_t b, std::int64_t h, std::int64_t group, Sums& sums);
  // Adds up the groups, in order.
  void finish();

 private:
  using LaneDoubles = std::array<double, kernels::kMaxPanel>;
  void add_panel(const Panel& panel, const kernels::Kernels& kernel, const float* packed,
                 const PanelResult& result, Sums& sums) const;
  void begin_rows(const Panel& panel, const PanelResult& result) const;
  void offer_top(const Panel& panel, Range keys, int width, const float* scores,
                 const float* weights) const;
  void add_received(const Panel& panel, Range keys, int width, const float* scores,
                    const float* weights, Sums& sums) const;
  void add_blocks(const Panel& panel, Range keys, int width, const float* weights,
                  Sums& sums) const;
  void end_rows(const Panel& panel, const PanelResult& result,
                const LaneDoubles& entropy_bits) const;

  std::size_t group_index(std::int64_t b, std::int64_t h, std::int64_t group) const;
  std::size_t row_index(const Panel& panel, int lane) const {
    return static_cast<std::size_t>(p_.row_index(panel.batch, panel.head, panel.first + lane));
  }

  const Problem& p_;
  TraceOptions options_;
  Trace& trace_;
  std::vector<TraceCut> cuts_;  // [B]
  std::int64_t query_blocks_ = 0, key_blocks_ = 0;
  std::vector<std::vector<double>> group_received_;  // [B·H·kMaxGroups][keys of b]
  std::vector<std::vector<std::int32_t>> group_visible_;
};

}  // namespace qkv
