#include "attention/backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "attention/parallel.h"

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.4426950408889634f;

constexpr std::int64_t kBlockFloats = 262144;  // 1 MiB: keys, values and their gradients
constexpr std::int64_t kMaxBlock = 512;

// Σ_d a[d]·b[d] in fp64: products are exact, and eight sums run side by side.
double dot(const float* a, const float* b, int dim) {
  std::array<double, 8> sum{};
  int d = 0;
  for (; d + 8 <= dim; d += 8)
    for (std::size_t i = 0; i < 8; ++i)
      sum[i] += double{a[d + static_cast<int>(i)]} * double{b[d + static_cast<int>(i)]};
  for (; d < dim; ++d) sum[0] += double{a[d]} * double{b[d]};
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

}  // namespace

// A block of keys with what its task works in.
struct HeadGradients::Block {
  std::int64_t index;
  BlockRows keys, values;
  float *d_key, *d_value;          // [key][d, padded]
  GradientTile weights, d_scores;  // [key][lane] of one panel
  kernels::Pair* d_score_pairs;    // [key/2][lane] of d_scores
  float* capped;                   // [key][lane] of one panel
  std::array<double, kMaxBlock> bias_columns{};
};

void HeadGradients::set(const BackwardCall& call, std::int64_t b, std::int64_t kv_head,
                        int threads) {
  const Problem& p = call.problem;
  call_ = &call;
  b_ = b;
  kv_head_ = kv_head;
  group_ = p.heads / p.heads_kv;
  queries_ = p.queries_of(b);
  // keys that key_lengths leaves out have gradients too: 0
  keys_ = p.key.starts != nullptr ? p.keys_of(b) : p.keys;
  width_ = static_cast<std::size_t>(call.kernel.panel);
  panels_of_head_ = (static_cast<std::size_t>(queries_) + width_ - 1) / width_;
  const std::size_t count = static_cast<std::size_t>(group_) * panels_of_head_;
  panels_.assign(count, Panel());
  lanes_.assign(count, Lanes());
  turns_ = std::make_unique<std::atomic<std::int32_t>[]>(count);
  query_stride_ = padded(p.dim);
  d_out_stride_ = padded(p.dim_v);
  // Panels come from far away, once for each block, and fewer blocks fetch them less often (5%). Threads that
  // share a head need several blocks each.
  block_keys_ = kBlockFloats / (2 * (padded(p.dim) + padded(p.dim_v))) / kChunk * kChunk;
  block_keys_ = std::clamp(block_keys_, kChunk, kMaxBlock);
  const int workers = thread_count(threads, keys_ / kChunk);
  while (workers > 1 && block_keys_ > kChunk && keys_ < 4 * workers * block_keys_)
    block_keys_ = block_keys_ / 2 / kChunk * kChunk;
  if (call.d_bias.one_key) bias_rows_.assign(static_cast<std::size_t>(group_ * queries_), 0);
  const std::size_t query_floats = count * panel_rows_floats(call.kernel, p.dim);
  const std::size_t d_out_floats = count * panel_rows_floats(call.kernel, p.dim_v);
  d_query_ = memory_.floats(count * width_ * static_cast<std::size_t>(p.dim) + query_floats +
                            d_out_floats);
  query_rows_ = d_query_ + count * width_ * static_cast<std::size_t>(p.dim);
  d_out_rows_ = query_rows_ + query_floats;
}

std::int64_t HeadGradients::blocks() const { return (keys_ + block_keys_ - 1) / block_keys_; }

void HeadGradients::prepare(std::int64_t index) {
  const Problem& p = call_->problem;
  const kernels::Kernels& kernel = call_->kernel;
  const auto i = static_cast<std::size_t>(index);
  const std::int64_t h = kv_head_ * group_ + static_cast<std::int64_t>(i / panels_of_head_);
  const std::int64_t first = static_cast<std::int64_t>(i % panels_of_head_ * width_);
  const int count = static_cast<int>(std::min<std::int64_t>(kernel.panel, queries_ - first));
  panels_[i] = Panel(p, b_, h, first, count);
  const std::size_t size = width_ * static_cast<std::size_t>(p.dim);
  std::fill_n(d_query_ + i * size, size, 0.0f);
  Lanes& lanes = lanes_[i];
  lanes.query = load_panel_rows(kernel, p, panels_[i], p.query, p.dim, true,
                                query_rows_ + i * panel_rows_floats(kernel, p.dim));
  lanes.d_out = load_panel_rows(kernel, p, panels_[i], call_->d_out, p.dim_v, false,
                                d_out_rows_ + i * panel_rows_floats(kernel, p.dim_v));
  lanes.shift.fill(-kInfinity);
  lanes.delta.fill(0);
  std::array<float, 1024> out;
  std::array<float, 1024> d_out;
  for (int lane = 0; lane < count; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    const std::int64_t row = p.row_index(b_, h, first + lane);
    const Range one = {first + lane, first + lane + 1};
    const FloatRows a = float_rows(call_->out, b_, h, one, p.dim_v, out.data());
    const FloatRows b = float_rows(call_->d_out, b_, h, one, p.dim_v, d_out.data());
    double delta = dot(a.data, b.data, p.dim_v);
    if (call_->d_lse != nullptr) delta -= double{call_->d_lse[row]};
    lanes.delta[l] = static_cast<float>(delta);
    lanes.shift[l] = call_->lse[row] * kLog2e;
  }
}

// Spins first (in the library): a neighbour is at most a part of a panel behind.
void HeadGradients::take_turn(std::size_t i, std::int64_t block) const {
  const auto before = static_cast<std::int32_t>(block - panels_[i].outer.begin / block_keys_);
  for (;;) {
    const std::int32_t done = turns_[i].load(std::memory_order_acquire);
    if (done >= before) return;
    turns_[i].wait(done, std::memory_order_acquire);
  }
}

void HeadGradients::end_turn(std::size_t i) {
  turns_[i].fetch_add(1, std::memory_order_release);
  turns_[i].notify_all();
}

// A block that cannot run must not keep the others waiting: the call fails anyway.
void HeadGradients::give_up() {
  for (std::size_t i = 0; i < panels_.size(); ++i) {
    turns_[i].fetch_add(1 << 28, std::memory_order_release);
    turns_[i].notify_all();
  }
}

void HeadGradients::run_block(std::int64_t index, bool shared) {
  const Problem& p = call_->problem;
  const std::int64_t first = index * block_keys_;
  const Range rows = {first, std::min(first + block_keys_, keys_)};
  // what key_lengths leaves out is not even read
  const Range used = {first, std::clamp(p.keys_of(b_), first, rows.end)};
  const auto count = static_cast<std::size_t>(rows.end - first);
  const kernels::Kernels& kernel = call_->kernel;
  const std::size_t tile = kChunk * width_;
  const std::size_t key_floats = count * static_cast<std::size_t>(query_stride_);
  const std::size_t value_floats = count * static_cast<std::size_t>(d_out_stride_);
  const std::size_t key_rows = block_rows_floats(count, p.dim);
  Block block{};
  try {
    block.weights.floats = thread_scratch().floats(
        5 * tile + key_rows + block_rows_floats(count, p.dim_v) + key_floats + value_floats);
  } catch (...) {
    if (shared) give_up();
    throw;
  }
  block.index = index;
  block.d_scores.floats = block.weights.floats + tile;
  block.capped = block.d_scores.floats + tile;
  if (kernel.pairs != nullptr) {
    block.weights.halves = reinterpret_cast<std::uint16_t*>(block.capped + tile);
    block.d_scores.halves = block.weights.halves + tile;
    block.d_score_pairs = reinterpret_cast<kernels::Pair*>(block.capped + 2 * tile);
  }
  block.d_key = block.weights.floats + 5 * tile;
  block.d_value = block.d_key + key_floats;
  float* const copies = block.d_value + value_floats;
  block.keys = load_block_rows(kernel, p.key, b_, kv_head_, used, p.dim, true, copies);
  block.values =
      load_block_rows(kernel, p.value, b_, kv_head_, used, p.dim_v, false, copies + key_rows);
  std::fill_n(block.d_key, count * static_cast<std::size_t>(query_stride_), 0.0f);
  std::fill_n(block.d_value, count * static_cast<std::size_t>(d_out_stride_), 0.0f);

  for (std::size_t i = 0; i < panels_.size(); ++i) {
    run_panel(block, i, shared);
    const bool head_done = (i + 1) % panels_of_head_ == 0;
    if (head_done && call_->d_bias.data != nullptr && !call_->d_bias.one_key &&
        call_->d_bias.strides[2] == 0) {
      float* to = call_->d_bias.row(b_, panels_[i].head, 0) + first * call_->d_bias.strides[3];
      for (std::size_t k = 0; k < count; ++k, to += call_->d_bias.strides[3])
        *to += static_cast<float>(block.bias_columns[k]);
      block.bias_columns.fill(0);
    }
  }

  // + 0 turns a −0 that an underflow left into the 0 that a key without hidden queries would have
  const auto write = [&](float* sums, std::int64_t stride, int dim, float factor,
                         const MutableRows& to) {
    if (to.data == nullptr) return;
    for (std::int64_t k = rows.begin; k < rows.end; ++k, sums += stride) {
      for (int d = 0; d < dim; ++d) sums[d] = sums[d] * factor + 0.0f;
      store_row(sums, dim, to, b_, kv_head_, k);
    }
  };
  write(block.d_key, query_stride_, p.dim, p.scale, call_->d_key);
  write(block.d_value, d_out_stride_, p.dim_v, 1, call_->d_value);
}

void HeadGradients::run_panel(Block& block, std::size_t i, bool shared) {
  const Panel& panel = panels_[i];
  const Range all = block.keys.rows.range;
  if (std::max(all.begin, panel.outer.begin) >= std::min(all.end, panel.outer.end)) return;
  for (std::int64_t chunk = all.begin; chunk < all.end; chunk += kChunk) {
    const Range keys = panel.keys_in(chunk);
    if (keys.begin < keys.end) run_chunk(block, i, keys, shared);
  }
  if (shared) end_turn(i);
}

void HeadGradients::run_chunk(Block& block, std::size_t i, Range keys, bool shared) {
  const Problem& p = call_->problem;
  const kernels::Kernels& kernel = call_->kernel;
  const Panel& panel = panels_[i];
  const Lanes& lanes = lanes_[i];
  const int count = static_cast<int>(keys.end - keys.begin);
  float* const weights = block.weights.floats;
  float* const d_scores = block.d_scores.floats;

  panel_dots(kernel, p, panel, lanes.query.packed, block.keys.rows.part(keys), weights);
  if (p.softcap > 0) std::copy_n(weights, static_cast<std::size_t>(count) * width_, block.capped);
  const bool some_hidden = panel_options(kernel, p, panel, keys, weights);
  const std::int64_t from = keys.begin - block.keys.rows.range.begin;
  HiddenLanes hidden;
  const bool leave_out = some_hidden && !(lanes.query.finite && lanes.d_out.finite);
  if (leave_out) find_hidden(p, panel, keys, hidden);
  const auto hidden_if = [&](bool finite) { return leave_out && !finite ? &hidden : nullptr; };

  const bool in_one_go = kernel.pairs != nullptr && call_->needs_scores() &&
                         call_->d_bias.data == nullptr && p.softcap == 0;
  if (call_->needs_scores())
    value_dots(kernel, p, panel, lanes.d_out, block.values.rows.part(keys), d_scores);
  if (in_one_go) {
    kernel.pairs->softmax_gradients(weights, d_scores, count, lanes.shift.data(),
                                    lanes.delta.data(), block.weights.halves, block.d_scores.halves,
                                    block.d_score_pairs);
  } else if (call_->needs_scores()) {
    kernel.softmax_gradients(weights, d_scores, count, lanes.shift.data(), lanes.delta.data());
  } else {
    LaneFloats ones;
    ones.fill(1);
    kernel.normalise(weights, count, lanes.shift.data(), ones.data(), weights);
  }
  const auto narrow = [&](const GradientTile& tile) {
    if (kernel.pairs == nullptr) return;
    if (!in_one_go) kernel.pairs->narrow(tile.floats, count, tile.halves);
    // the last query's partner has a row of zeros, and a weight that may be anything
    for (int k = 0; panel.count % 2 == 1 && k < count; ++k)
      tile.halves[k * kernel.panel + panel.count] = 0;
  };
  if (call_->d_value.data != nullptr) {
    narrow(block.weights);
    QuerySum{kernel, panel, keys, hidden_if(lanes.d_out.finite)}.add(
        block.weights, lanes.d_out, p.dim_v, block.d_value + from * d_out_stride_);
  }
  if (!call_->needs_scores()) return;

  const bool bias_rows = call_->d_bias.data != nullptr && call_->d_bias.one_key;
  if (call_->d_bias.data != nullptr && !bias_rows) add_bias_columns(block, panel, keys);
  if (bias_rows) {
    if (shared) take_turn(i, block.index);
    add_bias_rows(block, i, keys);
  }
  if (p.softcap > 0) kernel.softcap_gradients(d_scores, block.capped, count, p.softcap * kLog2e);
  if (call_->d_key.data != nullptr) {
    narrow(block.d_scores);
    QuerySum{kernel, panel, keys, hidden_if(lanes.query.finite)}.add(
        block.d_scores, lanes.query, p.dim, block.d_key + from * query_stride_);
  }
  if (call_->d_query.data == nullptr) return;
  if (kernel.pairs != nullptr && !in_one_go)
    kernel.pairs->pack_weights(d_scores, count, block.d_score_pairs);
  if (shared) take_turn(i, block.index);
  add_to_query(block, i, keys, some_hidden);
}

// d_query[d][lane] += Σ_k d_score[k][lane]·key[k][d]
void HeadGradients::add_to_query(const Block& block, std::size_t i, Range keys, bool some_hidden) {
  const Problem& p = call_->problem;
  const kernels::Kernels& kernel = call_->kernel;
  float* const acc = d_query_ + i * width_ * static_cast<std::size_t>(p.dim);
  const int count = static_cast<int>(keys.end - keys.begin);
  const std::int64_t from = keys.begin - block.keys.rows.range.begin;
  const KeyChunk rows = block.keys.rows.part(keys);
  if (some_hidden && !block.keys.finite) {
    HiddenLanes hidden;
    find_hidden(p, panels_[i], keys, hidden);
    LaneFloats ones;
    ones.fill(1);
    if (kernel.pairs == nullptr)
      return kernel.weighted_sum_visible_values(block.d_scores.floats, rows.floats, rows.stride,
                                                count, p.dim, ones.data(), acc, hidden.data());
    if (count % 2 == 1) hidden[static_cast<std::size_t>(count)] = 0;
    return kernel.pairs->weighted_sum_visible_values(
        block.d_score_pairs, block.keys.pairs + from / 2 * p.dim, (count + 1) / 2, p.dim,
        ones.data(), acc, hidden.data());
  }
  for (const Run& run : runs_of(kernel, panels_[i], keys)) {
    const std::int64_t skipped = run.keys.begin - keys.begin;
    const int run_count = static_cast<int>(run.keys.end - run.keys.begin);
    if (kernel.pairs == nullptr)
      kernel.weighted_sum_values(block.d_scores.floats + skipped * kernel.panel,
                                 rows.floats + skipped * rows.stride, rows.stride, run_count, p.dim,
                                 nullptr, run.first_lane, acc, false);
    else
      kernel.pairs->weighted_sum_values(block.d_score_pairs + skipped / 2 * kernel.panel,
                                        block.keys.pairs + (from + skipped) / 2 * p.dim,
                                        (run_count + 1) / 2, p.dim, nullptr, run.first_lane, acc,
                                        false);
  }
}

// An entry for each key: sums over the queries, if any, are this block's own.
void HeadGradients::add_bias_columns(Block& block, const Panel& panel, Range keys) const {
  const BiasGradient& to = call_->d_bias;
  const std::int64_t from = keys.begin - block.index * block_keys_;
  for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
    const float* d_score = block.d_scores.floats + k * static_cast<std::int64_t>(width_);
    if (to.strides[2] == 0) {
      double& sum = block.bias_columns[static_cast<std::size_t>(from + k)];
      for (int lane = 0; lane < panel.count; ++lane) sum += double{d_score[lane]};
    } else {
      for (int lane = 0; lane < panel.count; ++lane)
        to.row(b_, panel.head, panel.first + lane)[(keys.begin + k) * to.strides[3]] +=
            d_score[lane];
    }
  }
}

// One entry for all keys: Σ_k goes on from block to block, in turn.
void HeadGradients::add_bias_rows(const Block& block, std::size_t i, Range keys) {
  double* sums = bias_rows_.data() + static_cast<std::int64_t>(i / panels_of_head_) * queries_ +
                 panels_[i].first;
  for (std::int64_t k = 0; k < keys.end - keys.begin; ++k)
    for (int lane = 0; lane < panels_[i].count; ++lane)
      sums[lane] += double{block.d_scores.floats[k * static_cast<std::int64_t>(width_) + lane]};
}

void HeadGradients::finish(std::int64_t index) {
  if (call_->d_query.data == nullptr) return;
  const int dim = call_->problem.dim;
  const auto i = static_cast<std::size_t>(index);
  const Panel& panel = panels_[i];
  const MutableRows& to = call_->d_query;
  const float* acc = d_query_ + i * width_ * static_cast<std::size_t>(dim);
  LaneFloats factor;
  factor.fill(call_->problem.scale);
  if (to.dtype == DType::f32) {
    call_->kernel.write_outputs(acc, factor.data(), panel.count, dim,
                                to.row_as<float>(b_, panel.head, panel.first),
                                to.stride_in<float>());
    return;
  }
  float* const rows =
      thread_scratch(ScratchUse::rows).floats(width_ * static_cast<std::size_t>(query_stride_));
  call_->kernel.write_outputs(acc, factor.data(), panel.count, dim, rows, query_stride_);
  for (int lane = 0; lane < panel.count; ++lane)
    store_row(rows + lane * query_stride_, dim, to, b_, panel.head, panel.first + lane);
}

void HeadGradients::finish_terms() {
  const Problem& p = call_->problem;
  for (std::int64_t g = 0; g < group_; ++g) {
    const std::int64_t h = kv_head_ * group_ + g;
    if (call_->d_sinks != nullptr) {
      double sum = 0;
      for (std::int64_t q = 0; q < queries_; ++q) {
        const auto lane = static_cast<std::size_t>(q) % width_;
        const std::size_t i =
            static_cast<std::size_t>(g) * panels_of_head_ + static_cast<std::size_t>(q) / width_;
        // a sink of −inf has no share, even of a row that has nothing else
        if (p.sinks[h] != -kInfinity)
          sum -= std::exp(double{p.sinks[h]} - double{call_->lse[p.row_index(b_, h, q)]}) *
                 double{lanes_[i].delta[lane]};
      }
      call_->d_sinks[b_ * p.heads + h] = sum;
    }
    if (call_->d_bias.one_key) {
      const double* sums = bias_rows_.data() + g * queries_;
      if (call_->d_bias.strides[2] == 0) {
        double sum = 0;
        for (std::int64_t q = 0; q < queries_; ++q) sum += sums[q];
        *call_->d_bias.row(b_, h, 0) += static_cast<float>(sum);
      } else {
        for (std::int64_t q = 0; q < queries_; ++q)
          *call_->d_bias.row(b_, h, q) += static_cast<float>(sums[q]);
      }
    }
  }
}

}  // namespace qkv
