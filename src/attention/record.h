// Fills a Trace, row block by row block, right after the block's forward pass, from the weights that the pass kept (Strip,
// in forward.h) while they are in cache.
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
    std::vector<double> received;  // [Sk]
    std::vector<std::int32_t>
        visible;  // [Sk + 1] counts or, if only ranges hide keys, steps of the count
    std::vector<double> block_mass;  // [query blocks of a unit, key blocks]
    std::int64_t first_query_block = 0;
  };
  void begin_unit(std::int64_t b, std::int64_t first_query, Sums& sums) const;
  // Memory of this thread for a block's weights, and for what is read off one panel's.
  struct Strips {
    std::array<Strip, kRowBlock / 8> strips;
    float* largest = nullptr;  // [groups of keys][lane]
    float* mass = nullptr;     // [keys]
  };
  void make_strips(const RowBlock& block, const Panel* panels, Strips& strips) const;
  void add_rows(const RowBlock& block, const Panel* panels, const PanelResult* results,
                const Strips& strips, Sums& sums) const;
  void end_unit(std::int64_t b, std::int64_t h, Sums& sums) const;
  void end_group(std::int64_t b, std::int64_t h, std::int64_t group, Sums& sums);
  // Adds up the groups, in order.
  void finish();

 private:
  // A panel with its finished weights: p(lane, k) = strip.max_at(k)[lane]·strip.at(k)[lane].
  struct Weighed {
    const kernels::Kernels& kernel;
    const Panel& panel;
    const PanelResult& result;
    const Strip& strip;
    Range keys;  // those of the strip; the last group of keys is filled up with zeros
    const float *largest, *mass;

    float weight(std::int64_t k, int lane) const {
      return strip.max_at(k, kernel.panel)[lane] * strip.at(k, kernel.panel)[lane];
    }
  };
  // Log-sum-exp, maximum and entropy alone need none of them.
  bool reads_weights() const { return options_.top > 0 || options_.received || options_.block > 0; }
  void finish_weights(const Weighed& w) const;
  void weigh(const Weighed& w, float* largest, float* mass) const;
  void add_visible(const Panel& panel, Sums& sums) const;
  void add_blocks(const Weighed& w, Sums& sums) const;
  void add_blocks_one_by_one(const Weighed& w, Sums& sums) const;
  void find_top(const Weighed& w) const;
  void insert_top(const Weighed& w) const;
  void list_weightless(const Weighed& w, int lane) const;
  void end_rows(const Panel& panel, const PanelResult& result) const;

  float* block_max_of(const Panel& panel, std::int64_t query_block) const {
    return trace_.block_max.data() +
           ((panel.batch * p_.heads + panel.head) * query_blocks_ + query_block) * key_blocks_;
  }
  std::size_t group_index(std::int64_t b, std::int64_t h, std::int64_t group) const;
  std::size_t row_index(const Panel& panel, int lane) const {
    return static_cast<std::size_t>(p_.row_index(panel.batch, panel.head, panel.first + lane));
  }

  const Problem& p_;
  TraceOptions options_;
  Trace& trace_;
  bool by_ranges_;              // neither mask nor bias hides a key
  std::vector<TraceCut> cuts_;  // [B]
  std::int64_t query_blocks_ = 0, key_blocks_ = 0;
  std::vector<std::vector<double>> group_received_;  // [B·H·kMaxGroups][keys of b]
  std::vector<std::vector<std::int32_t>> group_visible_;
};

}  // namespace qkv
