// Fills a Trace, row block by row block, right after the block's forward pass, from the weights that the pass kept (Strip,
// in forward.h) while they are in cache, or that it makes again (long_rows.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "attention/forward.h"
#include "qkv/trace.h"

namespace qkv {

// A row of a trace.
struct TracedRow {
  std::int64_t batch, head, query;
  Range
      seen;  // keys that order, window and key_lengths let it see; begin = end = 0 where there are none
};

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

// The keys of a panel's strip, from a multiple of kAlign on, and how many chunks they lie in.
Range strip_keys(const Panel& panel);
std::int64_t chunks_of(Range keys);
// The maxima of chunks become what the chunks' weights must be multiplied by: 2^(max − shift) / Σ 2^(score − shift).
void chunk_factors(const kernels::Kernels& kernel, const PanelResult& result, std::int64_t chunks,
                   const float* max, float* factor);

// The largest weights of a panel's rows so far, [lane][top], largest first, unused places 0 and −1.
struct TopLists {
  std::size_t top;
  float* weights;
  std::int32_t* keys;

  float least(int lane) const;
  // Keys come in rising order and equal weights stay behind, so ties go to the lower index.
  void offer(int lane, float weight, std::int32_t key) const;
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
  Sums begin_group(std::int64_t b);
  void begin_unit(std::int64_t b, std::int64_t first_query, Sums& sums) const;
  // Log-sum-exp, maximum and entropy alone need no weights.
  bool reads_weights() const { return options_.top > 0 || options_.received || options_.block > 0; }
  bool reads_only_top() const { return !options_.received && options_.block == 0; }
  const TraceOptions& options() const { return options_; }

  // Weights of a panel's rows for some of the keys: p(lane, k) = strip.max_at(k)[lane]·strip.at(k)[lane], where the strip's
  // maxima have been turned into factors.
  struct Weighed {
    const kernels::Kernels& kernel;
    const Panel& panel;
    const PanelResult& result;
    Strip strip;
    Range keys;      // from a multiple of kAlign on; the last group of keys is filled up with zeros
    float* largest;  // memory for [groups of keys][lane]
    float* mass;     // memory for [keys], in whole groups

    float weight(std::int64_t k, int lane) const {
      return strip.max_at(k, kernel.panel)[lane] * strip.at(k, kernel.panel)[lane];
    }
  };
  // Floats of a strip of at most so many keys, without its maxima, and of what is read off it.
  static std::int64_t strip_floats(std::int64_t keys, int width);

  // Memory of this thread for a block's weights.
  struct Strips {
    std::array<Strip, kRowBlock / 8> strips;
    float* largest = nullptr;
    float* mass = nullptr;
  };
  void make_strips(const RowBlock& block, const Panel* panels, Strips& strips) const;
  // For each panel: its maxima become factors, then add_keys and end_rows.
  void add_rows(const RowBlock& block, const Panel* panels, const PanelResult* results,
                const Strips& strips, Sums& sums) const;
  // What these keys tell goes into the sums, the block map and `top`. Threads may share the sums if no two of them add keys of
  // one block.
  void add_keys(const Weighed& w, Sums& sums, const TopLists& top) const;
  // After all keys of the panel.
  void end_rows(const Panel& panel, const PanelResult& result, Sums& sums) const;
  // All of one row whose weights lie next to each other: weights[k] for the keys that it sees, and 0 from a multiple of kAlign on to
  // the first of them. Only rows that are alone in their head, or of which nothing but the largest weights is told: in what is
  // added up over rows, end_rows has an order of its own.
  void add_row(const TracedRow& row, const float* weights, const RowResult& result,
               Sums& sums) const;
  // The rows' own lists.
  TopLists top_of(const Panel& panel) const {
    return top_from(p_.row_index(panel.batch, panel.head, panel.first));
  }
  void end_unit(std::int64_t b, std::int64_t h, Sums& sums) const;
  // The last of a head's groups adds them all up, in order.
  void end_group(std::int64_t b, std::int64_t h, std::int64_t group, Sums sums);

 private:
  void make_safe(const Weighed& w) const;
  void weigh(const Weighed& w) const;
  void add_visible(const TracedRow& row, Sums& sums) const;
  void add_blocks_of(const TracedRow& row, const float* weights, Sums& sums) const;
  void end_row(const TracedRow& row, const RowResult& result, Sums& sums) const;
  void add_blocks(const Weighed& w, Sums& sums) const;
  void add_blocks_one_by_one(const Weighed& w, Sums& sums) const;
  void find_top(const Weighed& w, const TopLists& top) const;
  void insert_top(const Weighed& w, const TopLists& top) const;
  void list_weightless(const TracedRow& row) const;

  // The lists of rows from this one on.
  TopLists top_from(std::int64_t row) const;
  // Of a row of blocks.
  float* block_max_of(std::int64_t batch, std::int64_t head, std::int64_t query_block) const {
    return trace_.block_max.data() +
           ((batch * p_.heads + head) * query_blocks_ + query_block) * key_blocks_;
  }
  double* block_mass_of(Sums& sums, std::int64_t query_block) const {
    return sums.block_mass.data() + (query_block - sums.first_query_block) * key_blocks_;
  }
  std::size_t row_index(const TracedRow& row) const {
    return static_cast<std::size_t>(p_.row_index(row.batch, row.head, row.query));
  }

  const Problem& p_;
  TraceOptions options_;
  Trace& trace_;
  bool by_ranges_;              // neither mask nor bias hides a key
  std::vector<TraceCut> cuts_;  // [B]
  std::int64_t query_blocks_ = 0, key_blocks_ = 0;

  // Groups that wait for the others of their head, and memory of those that are done.
  struct Head {
    std::vector<Sums> groups;
    std::size_t done = 0;
  };
  std::mutex mutex_;
  std::vector<Head> waiting_;  // [B·H]
  std::vector<Sums> spare_;
};

}  // namespace qkv
