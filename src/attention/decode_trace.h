// The trace of few queries: decode() keeps what the softmax leaves of each row, and when the sums are known every row is read once
// more, from memory that is small beside the keys it came from. A row's bits are those of record.h's other ways.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/forward.h"
#include "attention/record.h"

namespace qkv {

class DecodeTrace {
 public:
  // Whether the weights of all rows may be kept: 4 bytes for each row and key.
  static bool fits(const Problem& p);

  DecodeTrace(const Problem& p, const TraceOptions& options, Trace& trace);

  // Row `row` (Problem::row_index) has these weights 2^(score − max) for the keys of one chunk. Threads may keep different
  // chunks at once.
  void keep(std::int64_t row, Range keys, const float* weights, float max);
  void finish(std::int64_t row, const RowResult& result) {
    results_[static_cast<std::size_t>(row)] = result;
  }
  // After every row: fills the trace.
  void record(int threads);

 private:
  void record_head(std::int64_t b, std::int64_t h);
  void record_row(const TracedRow& row, TraceRecorder::Sums& sums) const;
  // Rows as lanes of a panel, where their weights are added up.
  void record_panel(const kernels::Kernels& kernel, const Panel& panel,
                    TraceRecorder::Sums& sums) const;
  // p(k) = factor·2^(score − shift) over the weights that were kept.
  void normalise(const TracedRow& row, const RowResult& result, float* weights, float* max) const;
  float* weights_of(std::int64_t row) const { return weights_ + row * (keys_ + chunks_); }
  float* max_of(std::int64_t row) const { return weights_of(row) + keys_; }

  const Problem& p_;
  TraceRecorder recorder_;
  std::int64_t keys_, chunks_;  // floats of a row's weights and of its maxima
  float* weights_ = nullptr;    // [row][keys_ + chunks_]; null if none are looked at
  std::vector<RowResult> results_;
};

}  // namespace qkv
