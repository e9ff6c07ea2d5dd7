#include "attention/long_rows.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "attention/parallel.h"

namespace qkv {
namespace {

// Stretches whose sums wait to be merged in order. Each wave of them ends with idle threads, and needs memory.
constexpr std::int64_t kWave = 64;
// Pieces that the keys are cut into when weights are made again, each with lists of its own.
constexpr std::int64_t kMostPieces = 64;

class LongRows {
 public:
  LongRows(const RowBlock& block, int threads, const TraceRecorder& recorder)
      : block_(block),
        kernel_(block.kernel),
        p_(block.problem),
        threads_(threads),
        recorder_(recorder),
        panel_(p_, block.batch, block.head, block.first, block.count),
        keys_(strip_keys(panel_)),
        first_(keys_.begin / kStretch),
        end_((keys_.end + kStretch - 1) / kStretch) {
    const auto width = static_cast<std::size_t>(kernel_.panel);
    const std::size_t packed_size = static_cast<std::size_t>(p_.dim) * width;
    const std::size_t chunks_size =
        static_cast<std::size_t>((end_ - first_) * (kStretch / kChunk)) * width;
    acc_size_ = static_cast<std::size_t>(p_.dim_v) * width;
    parts_.resize(static_cast<std::size_t>(std::min(kWave, end_ - first_)));
    packed_ = memory_.floats(packed_size + 2 * chunks_size + (1 + parts_.size()) * acc_size_);
    max_ = packed_ + packed_size;
    factor_ = max_ + chunks_size;
    std::fill_n(max_, chunks_size, -std::numeric_limits<float>::infinity());
    float* acc = factor_ + chunks_size;
    const auto prepare = [&](PanelSums& sums) {
      sums.traced = true;
      sums.acc = acc;
      sums.acc_floats = acc_size_;
      acc += acc_size_;
    };
    prepare(total_);
    for (PanelSums& part : parts_) prepare(part);
    pack_panel(kernel_, p_, panel_, packed_);
  }

  // The forward pass. What is kept of the keys are the maxima of chunks, which become their factors.
  void sum_up(const MutableRows& out, float* lse) {
    total_.clear();
    for (std::int64_t wave = first_; wave < end_; wave += kWave) {
      const std::int64_t count = std::min(kWave, end_ - wave);
      parallel_for(threads_, count, [&](std::int64_t i) {
        const Strip strip = strip_of(wave + i, max_);
        PanelSums& part = parts_[static_cast<std::size_t>(i)];
        part.clear();
        add_stretch(block_, &panel_, packed_, work_memory(), strip.first, keys_, &strip, &part);
      });
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        merge_sums(kernel_, p_.dim_v, total_, parts_[i]);
    }
    finish_rows(block_, &panel_, &total_, out, &result_);
    for (int i = 0; lse != nullptr && i < panel_.count; ++i) lse[i] = lse_of(row_of(result_, i));
    chunk_factors(kernel_, result_, (end_ - first_) * (kStretch / kChunk), max_, factor_);
  }

  void record(TraceRecorder::Sums& sums) {
    if (recorder_.reads_weights() && first_ < end_) record_weights(sums);
    recorder_.end_rows(panel_, result_, sums);
  }

 private:
  float* work_memory() const {
    return thread_scratch().floats(stretch_scratch_floats(kernel_, p_));
  }

  // Room in this thread's memory for the weights of one stretch; the numbers of its chunks are the panel's own.
  Strip strip_of(std::int64_t stretch, float* of_chunks) const {
    const std::int64_t floats = TraceRecorder::strip_floats(kStretch, kernel_.panel);
    return {thread_scratch(ScratchUse::strip).floats(static_cast<std::size_t>(floats)),
            of_chunks + (stretch - first_) * (kStretch / kChunk) * kernel_.panel,
            stretch * kStretch};
  }

  void record_weights(TraceRecorder::Sums& sums) {
    // whole blocks of the map, so that no two pieces add to the same one
    const std::int64_t block = std::max(recorder_.options().block, 1);
    const std::int64_t whole = std::lcm(kStretch, block) / kStretch;
    const std::int64_t piece = ((end_ - first_) / kMostPieces / whole + 1) * whole;
    const std::int64_t first = first_ / piece;
    const auto pieces = static_cast<std::size_t>((end_ + piece - 1) / piece - first);
    const std::vector<bool> needed = needed_stretches();
    const auto top = static_cast<std::size_t>(recorder_.options().top);
    const std::size_t list = static_cast<std::size_t>(panel_.count) * top;
    std::vector<float> weights(pieces * list, 0.0f);
    std::vector<std::int32_t> keys(pieces * list, -1);
    parallel_for(threads_, static_cast<std::int64_t>(pieces), [&](std::int64_t i) {
      const std::size_t at = static_cast<std::size_t>(i) * list;
      const std::int64_t begin = (first + i) * piece;
      for (std::int64_t s = std::max(begin, first_); s < std::min(begin + piece, end_); ++s)
        if (needed[static_cast<std::size_t>(s - first_)])
          record_stretch(s, sums, {top, weights.data() + at, keys.data() + at});
    });
    const TopLists best = recorder_.top_of(panel_);
    for (std::size_t i = 0; i < keys.size(); ++i)
      best.offer(static_cast<int>(i % list / top), weights[i], keys[i]);
  }

  // The stretches of which something is told. A row's largest weights lie where a chunk's factor, which no weight of the chunk
  // exceeds, is at least the n-th largest among the stretches' largest weights: the last chunk's factors, as each stretch has a
  // key that is its own maximum.
  std::vector<bool> needed_stretches() const {
    const std::int64_t count = end_ - first_;
    std::vector<bool> needed(static_cast<std::size_t>(count), !recorder_.reads_only_top());
    const std::int64_t n = recorder_.options().top;
    constexpr std::int64_t kChunks = kStretch / kChunk;
    const std::int64_t last_chunk = (keys_.end - 1) / kChunk - first_ * kChunks;
    std::vector<float> largest(static_cast<std::size_t>(count));
    for (int lane = 0; lane < panel_.count && recorder_.reads_only_top(); ++lane) {
      if (!(result_.factor[static_cast<std::size_t>(lane)] > 0)) continue;  // lists nothing
      const auto factor = [&](std::int64_t chunk) { return factor_[chunk * kernel_.panel + lane]; };
      for (std::int64_t s = 0; s < count; ++s)
        largest[static_cast<std::size_t>(s)] =
            factor(std::min(s * kChunks + kChunks - 1, last_chunk));
      float least = 0;
      if (n <= count) {
        std::nth_element(largest.begin(), largest.begin() + (n - 1), largest.end(),
                         std::greater<>());
        least = largest[static_cast<std::size_t>(n - 1)];
      }
      for (std::int64_t chunk = 0; chunk <= last_chunk; ++chunk)
        if (factor(chunk) > 0 && factor(chunk) >= least)
          needed[static_cast<std::size_t>(chunk / kChunks)] = true;
    }
    return needed;
  }

  // Makes the weights of one stretch again, the bits of the first time, and records them.
  void record_stretch(std::int64_t stretch, TraceRecorder::Sums& sums, const TopLists& top) const {
    Strip strip = strip_of(stretch, max_);
    float* const key_scratch = work_memory();
    LaneFloats ones, top_scores;
    ones.fill(1);
    const Range keys = {std::max(keys_.begin, stretch * kStretch),
                        std::min(keys_.end, (stretch + 1) * kStretch)};
    for (std::int64_t chunk = keys.begin - keys.begin % kChunk; chunk < keys.end; chunk += kChunk) {
      const Range here = panel_.keys_in(chunk);
      const KeyChunk key_chunk =
          load_keys(kernel_, p_, panel_.batch, p_.kv_head(panel_.head), here, key_scratch);
      float* const weights = strip.at(here.begin, kernel_.panel);
      panel_scores(kernel_, p_, panel_, packed_, key_chunk, weights, top_scores.data());
      kernel_.normalise(weights, static_cast<int>(here.end - here.begin),
                        strip.max_at(here.begin, kernel_.panel), ones.data(), weights);
    }
    strip.max += factor_ - max_;
    float* const largest = strip.at(strip.first + kStretch, kernel_.panel);
    recorder_.add_keys({kernel_, panel_, result_, strip, keys, largest,
                        largest + kStretch / kernels::kKeyGroup * kernel_.panel},
                       sums, top);
  }

  const RowBlock& block_;
  const kernels::Kernels& kernel_;
  const Problem& p_;
  int threads_;
  const TraceRecorder& recorder_;
  Panel panel_;
  Range keys_;
  std::int64_t first_, end_;  // stretches
  Scratch memory_;
  std::size_t acc_size_;
  float *packed_, *max_, *factor_;  // [dim][lane], [chunks][lane], [chunks][lane]
  PanelSums total_;
  std::vector<PanelSums> parts_;
  PanelResult result_;
};

}  // namespace

void trace_long_rows(const RowBlock& block, int threads, const MutableRows& out, float* lse,
                     const TraceRecorder& recorder, TraceRecorder::Sums& sums) {
  LongRows rows(block, threads, recorder);
  rows.sum_up(out, lse);
  rows.record(sums);
}

}  // namespace qkv
