#include "attention/record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/rows.h"

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLn2 = 0.6931471805599453;
constexpr std::int64_t kMaxGroups =
    8;  // enough for the threads of one head to share its received mass

constexpr std::int64_t kGroup = kernels::kKeyGroup;
static_assert(kAlign % kGroup == 0);
// Above it the largest weights are sought one by one.
constexpr int kMaxSlots = 16;

int slots_for(int top) { return top <= 4 ? 4 : top <= 8 ? 8 : kMaxSlots; }

std::int64_t groups_of(Range keys) { return (keys.end - keys.begin + kGroup - 1) / kGroup; }
// In a fixed order: eight chains, as one would wait for each addition.
double sum_of(const float* numbers, std::int64_t count) {
  std::array<double, kGroup> sums{};
  std::int64_t i = 0;
  for (; i + kGroup <= count; i += kGroup)
    for (std::int64_t j = 0; j < kGroup; ++j)
      sums[static_cast<std::size_t>(j)] += static_cast<double>(numbers[i + j]);
  for (; i < count; ++i) sums[0] += static_cast<double>(numbers[i]);
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

std::int64_t blocks_of(std::int64_t tokens, std::int64_t block) {
  return (tokens + block - 1) / block;
}

}  // namespace

Range strip_keys(const Panel& panel) {
  if (panel.outer.begin >= panel.outer.end) return {0, 0};
  return {panel.outer.begin - panel.outer.begin % kAlign, panel.outer.end};
}

std::int64_t chunks_of(Range keys) {
  return keys.begin == keys.end ? 0 : (keys.end - 1) / kChunk - keys.begin / kChunk + 1;
}

void chunk_factors(const kernels::Kernels& kernel, const PanelResult& result, std::int64_t chunks,
                   const float* max, float* factor) {
  kernel.normalise(max, static_cast<int>(chunks), result.shift.data(), result.factor.data(),
                   factor);
}

float TopLists::least(int lane) const {
  return weights[(static_cast<std::size_t>(lane) + 1) * top - 1];
}

void TopLists::offer(int lane, float weight, std::int32_t key) const {
  float* const best = weights + static_cast<std::size_t>(lane) * top;
  std::int32_t* const best_keys = keys + static_cast<std::size_t>(lane) * top;
  if (!(weight > best[top - 1])) return;  // unused places weigh 0
  std::size_t place = top - 1;
  for (; place > 0 && weight > best[place - 1]; --place) {
    best[place] = best[place - 1];
    best_keys[place] = best_keys[place - 1];
  }
  best[place] = weight;
  best_keys[place] = key;
}

TraceCut::TraceCut(const Problem& p, const TraceOptions& options, std::int64_t b) {
  // a unit holds whole blocks of the map, so that no two tasks add to the same one
  if (options.block > 0)
    unit = options.block >= kRowBlock ? options.block : kRowBlock - kRowBlock % options.block;
  units = blocks_of(p.queries_of(b), unit);
  groups = options.received ? std::min(kMaxGroups, units) : units;
}

TraceRecorder::TraceRecorder(const Problem& p, const TraceOptions& options, Trace& trace)
    : p_(p),
      options_(options),
      trace_(trace),
      by_ranges_(p.mask.data == nullptr && p.bias.data == nullptr) {
  for (std::int64_t b = 0; b < p.batch; ++b) cuts_.emplace_back(p, options, b);
  const auto rows = static_cast<std::size_t>(p.row_count());
  const auto top = static_cast<std::size_t>(options.top);
  const auto keys = static_cast<std::size_t>(p.column_count());
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
  trace.received.assign(options.received ? keys : 0, 0);
  trace.visible.assign(options.received ? keys : 0, 0);
  if (options.received) waiting_.resize(static_cast<std::size_t>(p.batch * p.heads));
  if (options.block > 0) {
    query_blocks_ = blocks_of(p.queries, options.block);
    key_blocks_ = blocks_of(p.keys, options.block);
  }
  const auto blocks = static_cast<std::size_t>(p.batch * p.heads * query_blocks_ * key_blocks_);
  trace.block_mass.assign(blocks, 0);
  trace.block_max.assign(blocks, 0);
}

TraceRecorder::Sums TraceRecorder::begin_group(std::int64_t b) {
  Sums sums;
  if (!options_.received) return sums;
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      sums = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  sums.received.assign(static_cast<std::size_t>(p_.keys_of(b)), 0);
  sums.visible.assign(static_cast<std::size_t>(p_.keys_of(b)) + 1, 0);
  return sums;
}

void TraceRecorder::begin_unit(std::int64_t b, std::int64_t first_query, Sums& sums) const {
  if (options_.block == 0) return;
  sums.first_query_block = first_query / options_.block;
  const std::int64_t blocks =
      blocks_of(std::min(cut(b).unit, p_.queries_of(b) - first_query), options_.block);
  sums.block_mass.assign(static_cast<std::size_t>(blocks * key_blocks_), 0);
}

std::int64_t TraceRecorder::strip_floats(std::int64_t keys, int width) {
  const std::int64_t groups = groups_of({0, keys});
  return groups * kGroup * width + groups * (width + kGroup);
}

void TraceRecorder::make_strips(const RowBlock& block, const Panel* panels, Strips& strips) const {
  if (!reads_weights()) return;
  const std::int64_t width = block.kernel.panel;
  std::int64_t most_groups = 0;
  std::int64_t floats = 0;
  for (int i = 0; i < block.panels(); ++i) {
    const Range keys = strip_keys(panels[i]);
    floats += (groups_of(keys) * kGroup + chunks_of(keys)) * width;
    most_groups = std::max(most_groups, groups_of(keys));
  }
  float* memory = thread_scratch(ScratchUse::strip)
                      .floats(static_cast<std::size_t>(floats + most_groups * (width + kGroup)));
  for (int i = 0; i < block.panels(); ++i) {
    const Range keys = strip_keys(panels[i]);
    strips.strips[static_cast<std::size_t>(i)] = {memory, memory + groups_of(keys) * kGroup * width,
                                                  keys.begin};
    memory += (groups_of(keys) * kGroup + chunks_of(keys)) * width;
  }
  strips.largest = memory;
  strips.mass = memory + most_groups * width;
}

void TraceRecorder::add_rows(const RowBlock& block, const Panel* panels, const PanelResult* results,
                             const Strips& strips, Sums& sums) const {
  for (int i = 0; i < block.panels(); ++i) {
    const Weighed w{block.kernel,
                    panels[i],
                    results[i],
                    strips.strips[static_cast<std::size_t>(i)],
                    strip_keys(panels[i]),
                    strips.largest,
                    strips.mass};
    if (reads_weights()) {
      chunk_factors(w.kernel, w.result, chunks_of(w.keys), w.strip.max, w.strip.max);
      add_keys(w, sums, top_of(panels[i]));
    }
    end_rows(panels[i], results[i], sums);
  }
}

void TraceRecorder::add_keys(const Weighed& w, Sums& sums, const TopLists& top) const {
  if (w.keys.begin >= w.keys.end) return;
  make_safe(w);
  weigh(w);
  if (options_.received)
    for (std::int64_t k = w.keys.begin; k < w.keys.end; ++k)
      sums.received[static_cast<std::size_t>(k)] += static_cast<double>(w.mass[k - w.keys.begin]);
  if (options_.block > 0) add_blocks(w, sums);
  if (options_.top > kMaxSlots)
    insert_top(w, top);
  else if (options_.top > 0)
    find_top(w, top);
}

// Makes the strip safe to be multiplied by its factors: lanes without a row weigh 0; of a row that met a NaN all weights are
// NaN, but hidden keys weigh 0 even there.
void TraceRecorder::make_safe(const Weighed& w) const {
  const int width = w.kernel.panel;
  const Panel& panel = w.panel;
  float* const factor = w.strip.max_at(w.keys.begin, width);
  const std::int64_t chunks = chunks_of(w.keys);
  std::fill(w.strip.at(w.keys.end, width),
            w.strip.at(w.keys.begin + groups_of(w.keys) * kGroup, width), 0.0f);
  for (int lane = 0; lane < width; ++lane) {
    const bool row = lane < panel.count;
    const bool poisoned = std::isnan(w.result.factor[static_cast<std::size_t>(lane)]);
    if (row && !poisoned) continue;
    for (std::int64_t c = 0; c < chunks; ++c) factor[c * width + lane] = row ? 1.0f : 0.0f;
    for (std::int64_t k = w.keys.begin; poisoned && k < w.keys.end; ++k)
      w.strip.at(k, width)[lane] = row && !p_.hidden(panel.batch, panel.head, panel.first + lane, k)
                                       ? std::numeric_limits<float>::quiet_NaN()
                                       : 0.0f;
  }
}

// From the last chunk back: the first ones may have left the second cache, and would drive the others out.
void TraceRecorder::weigh(const Weighed& w) const {
  const int width = w.kernel.panel;
  std::int64_t end = w.keys.begin + groups_of(w.keys) * kGroup;
  while (end > w.keys.begin) {
    const std::int64_t k = std::max((end - 1) / kChunk * kChunk, w.keys.begin);
    const std::int64_t at = k - w.keys.begin;
    w.kernel.weigh_keys(w.strip.at(k, width), static_cast<int>(end - k), w.strip.max_at(k, width),
                        w.largest + at / kGroup * width, w.mass + at);
    end = k;
  }
}

void TraceRecorder::add_visible(const TracedRow& row, Sums& sums) const {
  std::int32_t* const visible = sums.visible.data();
  if (by_ranges_) {
    ++visible[row.seen.begin];
    --visible[row.seen.end];
    return;
  }
  const bool* mask =
      p_.mask.data != nullptr ? p_.mask.row(row.batch, row.head, row.query) : nullptr;
  const float* bias =
      p_.bias.data != nullptr ? p_.bias.row(row.batch, row.head, row.query) : nullptr;
  for (std::int64_t k = row.seen.begin; k < row.seen.end; ++k)
    visible[k] += (mask == nullptr || mask[k * p_.mask.strides[3]]) &&
                          (bias == nullptr || bias[k * p_.bias.strides[3]] != -kInfinity)
                      ? 1
                      : 0;
}

// A panel mostly lies in one row of blocks, and blocks hold whole groups of keys: what was read off for the panel is enough.
void TraceRecorder::add_blocks(const Weighed& w, Sums& sums) const {
  const std::int64_t block = options_.block;
  const std::int64_t query_block = w.panel.first / block;
  if (query_block != (w.panel.first + w.panel.count - 1) / block || block % kGroup != 0)
    return add_blocks_one_by_one(w, sums);
  const int width = w.kernel.panel;
  double* const mass = block_mass_of(sums, query_block);
  float* const largest = block_max_of(w.panel.batch, w.panel.head, query_block);
  for (std::int64_t k = w.keys.begin, next = 0; k < w.keys.end; k = next) {
    next = std::min(k - k % block + block, w.keys.end);
    mass[k / block] += sum_of(w.mass + (k - w.keys.begin), next - k);
    const std::int64_t group = (k - w.keys.begin) / kGroup;
    const std::int64_t numbers = (groups_of({w.keys.begin, next}) - group) * width;
    largest[k / block] = std::max(
        largest[k / block],
        kernels::row_kernels().largest(w.largest + group * width, static_cast<int>(numbers)));
  }
}

void TraceRecorder::add_blocks_one_by_one(const Weighed& w, Sums& sums) const {
  for (std::int64_t k = w.keys.begin; k < w.keys.end; ++k)
    for (int lane = 0; lane < w.panel.count; ++lane) {
      const std::int64_t query_block = (w.panel.first + lane) / options_.block;
      const std::int64_t key_block = k / options_.block;
      const float weight = w.weight(k, lane);
      block_mass_of(sums, query_block)[key_block] += static_cast<double>(weight);
      float& largest = block_max_of(w.panel.batch, w.panel.head, query_block)[key_block];
      if (weight > largest) largest = weight;
    }
}

TopLists TraceRecorder::top_from(std::int64_t row) const {
  const auto top = static_cast<std::size_t>(options_.top);
  const std::size_t at = static_cast<std::size_t>(row) * top;
  return {top, trace_.top_weights.data() + at, trace_.top_keys.data() + at};
}

void TraceRecorder::find_top(const Weighed& w, const TopLists& top) const {
  constexpr std::size_t kList = std::size_t{kMaxSlots} * kernels::kMaxPanel;
  std::array<float, kList> weights;
  std::array<std::int32_t, kList> keys;
  const int width = w.kernel.panel;
  w.kernel.best_keys(w.strip.at(w.keys.begin, width), w.strip.max_at(w.keys.begin, width),
                     static_cast<int>(w.keys.begin % kChunk), w.largest,
                     static_cast<int>(groups_of(w.keys)), slots_for(options_.top), weights.data(),
                     keys.data());
  for (int lane = 0; lane < w.panel.count; ++lane) {
    const std::size_t row = static_cast<std::size_t>(lane) * top.top;
    const bool first = top.keys[row] < 0;  // a list that is empty takes this one as it is
    for (std::size_t t = 0; t < top.top; ++t) {
      const std::size_t i = t * static_cast<std::size_t>(width) + static_cast<std::size_t>(lane);
      if (keys[i] < 0) break;
      const auto key = static_cast<std::int32_t>(w.keys.begin) + keys[i];
      if (!first) {
        top.offer(lane, weights[i], key);
        continue;
      }
      top.weights[row + t] = weights[i];
      top.keys[row + t] = key;
    }
  }
}

// Chunk by chunk, so that the lanes share cache lines.
void TraceRecorder::insert_top(const Weighed& w, const TopLists& top) const {
  for (std::int64_t chunk = w.keys.begin, next = 0; chunk < w.keys.end; chunk = next) {
    next = std::min(chunk - chunk % kChunk + kChunk, w.keys.end);
    for (int lane = 0; lane < w.panel.count; ++lane)
      for (std::int64_t k = chunk; k < next; ++k)
        top.offer(lane, w.weight(k, lane), static_cast<std::int32_t>(k));
  }
}

// Fills what is free of a row's list, where all keys that weigh anything stand, with visible keys that weigh 0.
void TraceRecorder::list_weightless(const TracedRow& row) const {
  const auto top = static_cast<std::size_t>(options_.top);
  std::int32_t* const keys = trace_.top_keys.data() + row_index(row) * top;
  std::int32_t* next = std::find(keys, keys + top, -1);
  const std::vector<std::int32_t> heavy(keys, next);
  for (auto k = static_cast<std::int32_t>(row.seen.begin); k < row.seen.end && next < keys + top;
       ++k)
    if ((by_ranges_ || !p_.hidden(row.batch, row.head, row.query, k)) &&
        std::find(heavy.begin(), heavy.end(), k) == heavy.end())
      *next++ = k;
}

void TraceRecorder::end_rows(const Panel& panel, const PanelResult& result, Sums& sums) const {
  for (int lane = 0; lane < panel.count; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    end_row({panel.batch, panel.head, panel.first + lane, {panel.begin[i], panel.end[i]}},
            row_of(result, lane), sums);
  }
}

void TraceRecorder::end_row(const TracedRow& row, const RowResult& result, Sums& sums) const {
  const auto top = static_cast<std::size_t>(options_.top);
  const std::size_t at = row_index(row);
  if (options_.received && row.seen.begin < row.seen.end) add_visible(row, sums);
  trace_.lse[at] = lse_of(result);
  trace_.max[at] = static_cast<float>(static_cast<double>(result.max) * kLn2 + 0.0);  // no −0
  if (result.factor == 0) return;  // nothing visible: what the constructor filled in stays
  const double nats = static_cast<double>(result.entropy) * kLn2;
  trace_.entropy[at] = static_cast<float>(nats < 0 ? 0 : nats);
  double rest = 1;
  for (std::size_t t = 0; t < top; ++t)
    rest -= static_cast<double>(trace_.top_weights[at * top + t]);
  trace_.remainder[at] = std::isnan(nats) ? std::numeric_limits<float>::quiet_NaN()
                                          : static_cast<float>(std::max(rest, 0.0));
  const bool poisoned = std::isnan(result.factor);
  if (top > 0 && !poisoned && trace_.top_keys[at * top + top - 1] < 0) list_weightless(row);
}

void TraceRecorder::add_row(const TracedRow& row, const float* weights, const RowResult& result,
                            Sums& sums) const {
  const Range seen = row.seen;
  if (options_.received)
    for (std::int64_t k = seen.begin; k < seen.end; ++k)
      sums.received[static_cast<std::size_t>(k)] += static_cast<double>(weights[k]);
  if (options_.block > 0) add_blocks_of(row, weights, sums);
  const TopLists top = top_from(static_cast<std::int64_t>(row_index(row)));
  // most keys weigh less than those that are listed: a stretch of them is looked at together
  constexpr std::int64_t kTogether = 64;
  for (std::int64_t k = seen.begin; options_.top > 0 && k < seen.end; k += kTogether) {
    const std::int64_t end = std::min(k + kTogether, seen.end);
    if (kernels::row_kernels().largest(weights + k, end - k) > top.least(0))
      for (std::int64_t i = k; i < end; ++i) top.offer(0, weights[i], static_cast<std::int32_t>(i));
  }
  end_row(row, result, sums);
}

void TraceRecorder::add_blocks_of(const TracedRow& row, const float* weights, Sums& sums) const {
  const std::int64_t block = options_.block;
  double* const mass = block_mass_of(sums, row.query / block);
  float* const largest = block_max_of(row.batch, row.head, row.query / block);
  const std::int64_t begin = row.seen.begin - row.seen.begin % kAlign;
  for (std::int64_t k = begin, next = 0; k < row.seen.end; k = next) {
    next = std::min(k - k % block + block, row.seen.end);
    if (block % kGroup == 0)
      mass[k / block] += sum_of(weights + k, next - k);
    else
      for (std::int64_t i = k; i < next; ++i) mass[k / block] += static_cast<double>(weights[i]);
    largest[k / block] =
        std::max(largest[k / block], kernels::row_kernels().largest(weights + k, next - k));
  }
}

void TraceRecorder::end_unit(std::int64_t b, std::int64_t h, Sums& sums) const {
  float* mass = trace_.block_mass.data() +
                ((b * p_.heads + h) * query_blocks_ + sums.first_query_block) * key_blocks_;
  for (std::size_t i = 0; i < sums.block_mass.size(); ++i)
    mass[i] = static_cast<float>(sums.block_mass[i]);
}

void TraceRecorder::end_group(std::int64_t b, std::int64_t h, std::int64_t group, Sums sums) {
  if (!options_.received) return;
  if (by_ranges_) std::partial_sum(sums.visible.begin(), sums.visible.end(), sums.visible.begin());
  const auto groups = static_cast<std::size_t>(cut(b).groups);
  std::vector<Sums> all;
  {
    const std::lock_guard lock(mutex_);
    Head& head = waiting_[static_cast<std::size_t>(b * p_.heads + h)];
    head.groups.resize(groups);
    head.groups[static_cast<std::size_t>(group)] = std::move(sums);
    if (++head.done < groups) return;
    all = std::move(head.groups);
  }
  const auto column = static_cast<std::size_t>(p_.column_index(b, h, 0));
  std::vector<double>& mass = all.front().received;
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t k = 0; k < mass.size(); ++k) trace_.visible[column + k] += all[g].visible[k];
    for (std::size_t k = 0; g > 0 && k < mass.size(); ++k) mass[k] += all[g].received[k];
  }
  for (std::size_t k = 0; k < mass.size(); ++k)
    trace_.received[column + k] = static_cast<float>(mass[k]);
  const std::lock_guard lock(mutex_);
  std::move(all.begin(), all.end(), std::back_inserter(spare_));
}

}  // namespace qkv
