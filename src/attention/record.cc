#include "attention/record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLn2 = 0.6931471805599453;
constexpr float kLog2e =
    1.4426950408889634f;  // rounded as in the forward pass: a lone sink's share is exactly 1
constexpr std::int64_t kEntropyRun =
    32;  // keys added up in fp32 before fp64 takes over: equal terms round one way
constexpr std::int64_t kMaxGroups =
    8;  // enough for the threads of one head to share its received mass

std::int64_t blocks_of(std::int64_t tokens, std::int64_t block) {
  return (tokens + block - 1) / block;
}

}  // namespace

TraceCut::TraceCut(const Problem& p, const TraceOptions& options, std::int64_t b) {
  // a unit holds whole blocks of the map, so that no two tasks add to the same one
  if (options.block > 0)
    unit = options.block >= kRowBlock ? options.block : kRowBlock - kRowBlock % options.block;
  units = blocks_of(p.queries_of(b), unit);
  groups = options.received ? std::min(kMaxGroups, units) : units;
}

TraceRecorder::TraceRecorder(const Problem& p, const TraceOptions& options, Trace& trace)
    : p_(p), options_(options), trace_(trace) {
  for (std::int64_t b = 0; b < p.batch; ++b) cuts_.emplace_back(p, options, b);
  const auto rows = static_cast<std::size_t>(p.row_count());
  const auto top = static_cast<std::size_t>(options.top);
  const auto keys = static_cast<std::size_t>(p.column_count());
  trace = Trace{};
  trace.batch = p.batch;
  trace.heads = p.heads;
  trace.queries = p.queries;
  trace.keys = p.keys;
  trace.top = options.top;
  trace.block = options.block;
  trace.lse.assign(rows, -kInfinity);
  trace.max.assign(rows, -kInfinity);
  trace.entropy.assign(rows, 0);
  trace.remainder.assign(rows, 0);
  trace.top_keys.assign(rows * top, -1);
  trace.top_weights.assign(rows * top, 0);
  if (options.received) {
    trace.received.assign(keys, 0);
    trace.visible.assign(keys, 0);
    group_received_.resize(static_cast<std::size_t>(p.batch * p.heads * kMaxGroups));
    group_visible_.resize(group_received_.size());
  }
  if (options.block > 0) {
    query_blocks_ = blocks_of(p.queries, options.block);
    key_blocks_ = blocks_of(p.keys, options.block);
    const auto blocks = static_cast<std::size_t>(p.batch * p.heads * query_blocks_ * key_blocks_);
    trace.block_mass.assign(blocks, 0);
    trace.block_max.assign(blocks, 0);
  }
}

void TraceRecorder::begin_unit(std::int64_t b, std::int64_t first_query, Sums& sums) const {
  if (options_.received && sums.received.empty()) {
    sums.received.assign(static_cast<std::size_t>(p_.keys_of(b)), 0);
    sums.visible.assign(static_cast<std::size_t>(p_.keys_of(b)), 0);
  }
  if (options_.block > 0) {
    sums.first_query_block = first_query / options_.block;
    const std::int64_t blocks =
        blocks_of(std::min(cut(b).unit, p_.queries_of(b) - first_query), options_.block);
    sums.block_mass.assign(static_cast<std::size_t>(blocks * key_blocks_), 0);
  }
}

void TraceRecorder::add_rows(const RowBlock& block, const Panel* panels, const float* packed,
                             const PanelResult* results, Sums& sums) const {
  const std::int64_t packed_size = std::int64_t{p_.dim} * block.kernel.panel;
  for (int i = 0; i < block.panels(); ++i)
    add_panel(panels[i], block.kernel, packed + i * packed_size, results[i], sums);
}

void TraceRecorder::add_panel(const Panel& panel, const kernels::Kernels& kernel,
                              const float* packed, const PanelResult& result, Sums& sums) const {
  std::array<float, kernels::kMaxPanel * kChunk> scores;
  std::array<float, kernels::kMaxPanel * kChunk> weights;
  LaneDoubles entropy_bits{};
  const std::int64_t kv_head = p_.kv_head(panel.head);
  float* const key_scratch =
      thread_scratch(ScratchUse::rows).floats(key_scratch_floats(kernel, p_));
  begin_rows(panel, result);
  for (std::int64_t chunk = panel.outer.begin - panel.outer.begin % kChunk; chunk < panel.outer.end;
       chunk += kChunk) {
    const Range keys = panel.keys_in(chunk);
    const int count = static_cast<int>(keys.end - keys.begin);
    panel_scores(kernel, p_, panel, packed,
                 load_keys(kernel, p_, panel.batch, kv_head, keys, key_scratch), scores.data());
    kernel.normalise(scores.data(), count, result.shift.data(), result.factor.data(),
                     weights.data());
    for (std::int64_t k = keys.begin, next = 0; k < keys.end; k = next) {
      next = std::min(k - k % kEntropyRun + kEntropyRun, keys.end);
      const std::int64_t at = (k - keys.begin) * kernel.panel;
      LaneFloats bits{};
      kernel.add_entropy(scores.data() + at, weights.data() + at, static_cast<int>(next - k),
                         result.shift.data(), result.log2_sum.data(), bits.data());
      for (std::size_t i = 0; i < bits.size(); ++i) entropy_bits[i] += static_cast<double>(bits[i]);
    }
    if (options_.top > 0) offer_top(panel, keys, kernel.panel, scores.data(), weights.data());
    if (options_.received)
      add_received(panel, keys, kernel.panel, scores.data(), weights.data(), sums);
    if (options_.block > 0) add_blocks(panel, keys, kernel.panel, weights.data(), sums);
  }
  end_rows(panel, result, entropy_bits);
}

void TraceRecorder::begin_rows(const Panel& panel, const PanelResult& result) const {
  for (int lane = 0; lane < panel.count; ++lane) {
    const std::size_t row = row_index(panel, lane);
    trace_.lse[row] = lse_of(result, lane);
    trace_.max[row] =
        static_cast<float>(static_cast<double>(result.max[static_cast<std::size_t>(lane)]) * kLn2);
  }
}

// Insertion into each row's short sorted list. Keys come in rising order and equal weights stay behind, so ties go to the
// lower index.
void TraceRecorder::offer_top(const Panel& panel, Range keys, int width, const float* scores,
                              const float* weights) const {
  const auto top = static_cast<std::size_t>(options_.top);
  for (int lane = 0; lane < panel.count; ++lane) {
    float* best = trace_.top_weights.data() + row_index(panel, lane) * top;
    std::int32_t* best_keys = trace_.top_keys.data() + row_index(panel, lane) * top;
    for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
      const float weight = weights[k * width + lane];
      const bool full = best_keys[top - 1] >= 0;
      if (full ? !(weight > best[top - 1])
               : scores[k * width + lane] == -kInfinity || std::isnan(weight))
        continue;
      std::size_t place = top - 1;
      while (place > 0 && (best_keys[place - 1] < 0 || weight > best[place - 1])) {
        best[place] = best[place - 1];
        best_keys[place] = best_keys[place - 1];
        --place;
      }
      best[place] = weight;
      best_keys[place] = static_cast<std::int32_t>(keys.begin + k);
    }
  }
}

void TraceRecorder::add_received(const Panel& panel, Range keys, int width, const float* scores,
                                 const float* weights, Sums& sums) const {
  for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
    double mass = 0;
    std::int32_t seen = 0;
    for (int lane = 0; lane < panel.count; ++lane) {
      mass += static_cast<double>(weights[k * width + lane]);
      seen += scores[k * width + lane] != -kInfinity ? 1 : 0;
    }
    sums.received[static_cast<std::size_t>(keys.begin + k)] += mass;
    sums.visible[static_cast<std::size_t>(keys.begin + k)] += seen;
  }
}

void TraceRecorder::add_blocks(const Panel& panel, Range keys, int width, const float* weights,
                               Sums& sums) const {
  for (int lane = 0; lane < panel.count; ++lane) {
    const std::int64_t query_block = (panel.first + lane) / options_.block;
    double* mass = sums.block_mass.data() + (query_block - sums.first_query_block) * key_blocks_;
    float* largest =
        trace_.block_max.data() +
        ((panel.batch * p_.heads + panel.head) * query_blocks_ + query_block) * key_blocks_;
    for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
      const float weight = weights[k * width + lane];
      const std::int64_t key_block = (keys.begin + k) / options_.block;
      mass[key_block] += static_cast<double>(weight);
      if (weight > largest[key_block]) largest[key_block] = weight;
    }
  }
}

void TraceRecorder::end_rows(const Panel& panel, const PanelResult& result,
                             const LaneDoubles& entropy_bits) const {
  const auto top = static_cast<std::size_t>(options_.top);
  for (int lane = 0; lane < panel.count; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    const std::size_t row = row_index(panel, lane);
    if (result.factor[i] == 0) continue;  // nothing visible: what the constructor filled in stays
    double bits = entropy_bits[i];
    if (p_.sinks != nullptr) {
      const double log2_share = static_cast<double>(p_.sinks[panel.head] * kLog2e) -
                                static_cast<double>(result.shift[i]) -
                                static_cast<double>(result.log2_sum[i]);
      const double share = std::exp2(log2_share);
      if (share > 0) bits -= share * log2_share;
    }
    // a single key of weight 1 may leave a rounding error below 0
    const double nats = bits * kLn2;
    trace_.entropy[row] = static_cast<float>(nats < 0 ? 0 : nats);
    double rest = 1;
    for (std::size_t t = 0; t < top; ++t)
      rest -= static_cast<double>(trace_.top_weights[row * top + t]);
    trace_.remainder[row] = std::isnan(bits) ? std::numeric_limits<float>::quiet_NaN()
                                             : static_cast<float>(std::max(rest, 0.0));
  }
}

void TraceRecorder::end_unit(std::int64_t b, std::int64_t h, Sums& sums) const {
  float* mass = trace_.block_mass.data() +
                ((b * p_.heads + h) * query_blocks_ + sums.first_query_block) * key_blocks_;
  for (std::size_t i = 0; i < sums.block_mass.size(); ++i)
    mass[i] = static_cast<float>(sums.block_mass[i]);
}

std::size_t TraceRecorder::group_index(std::int64_t b, std::int64_t h, std::int64_t group) const {
  return static_cast<std::size_t>((b * p_.heads + h) * kMaxGroups + group);
}

void TraceRecorder::end_group(std::int64_t b, std::int64_t h, std::int64_t group, Sums& sums) {
  if (!options_.received) return;
  group_received_[group_index(b, h, group)] = std::move(sums.received);
  group_visible_[group_index(b, h, group)] = std::move(sums.visible);
}

void TraceRecorder::finish() {
  if (!options_.received) return;
  for (std::int64_t b = 0; b < p_.batch; ++b) {
    const auto keys = static_cast<std::size_t>(p_.keys_of(b));
    for (std::int64_t h = 0; h < p_.heads && cut(b).groups > 0; ++h) {
      const auto column = static_cast<std::size_t>(p_.column_index(b, h, 0));
      for (std::size_t k = 0; k < keys; ++k) {
        double mass = 0;
        for (std::int64_t g = 0; g < cut(b).groups; ++g) {
          mass += group_received_[group_index(b, h, g)][k];
          trace_.visible[column + k] += group_visible_[group_index(b, h, g)][k];
        }
        trace_.received[column + k] = static_cast<float>(mass);
      }
    }
  }
}

}  // namespace qkv
