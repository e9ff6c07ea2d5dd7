#include "attention/backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "attention/parallel.h"

namespace qkv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.4426950408889634f;

constexpr std::int64_t kBlockFloats = 262144;  // 1 MiB: keys, values and their gradients
constexpr std::int64_t kMaxBlock = 512;

// Floats from one row to the next in this pass's own memory. Rows lie close: the processor foresees what comes next, and an odd
// stride, which would spread them over more cache sets, is 5% slower.
std::int64_t padded(std::int64_t dim) {
  return (dim + kernels::kDimStep - 1) / kernels::kDimStep * kernels::kDimStep;
}

// Rows [range.begin, range.end) as floats, one every padded(dim), zeros beyond dim: where they lie if they lie so, else copied to
// `to`. Rows far apart share few cache sets, and are read many times.
const float* dense_rows(const Rows& rows, std::int64_t b, std::int64_t h, Range range, int dim,
                        float* to) {
  if (is_in_place(rows) && rows.stride_in<float>() == dim && padded(dim) == dim)
    return rows.row_as<float>(b, h, range.begin);
  float* next = to;
  for (std::int64_t r = range.begin; r < range.end; ++r, next += padded(dim)) {
    const float* row = float_rows(rows, b, h, {r, r + 1}, dim, next).data;
    if (row != next) std::memcpy(next, row, static_cast<std::size_t>(dim) * sizeof(float));
    std::fill(next + dim, next + padded(dim), 0.0f);
  }
  return to;
}

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

// Lanes that may see some of these keys, as far as order, window and lengths say.
struct LaneRange {
  int begin, end;
};
LaneRange lanes_of(const Panel& panel, Range keys) {
  LaneRange lanes = {0, panel.count};
  const auto sees = [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    return panel.begin[i] < keys.end && panel.end[i] > keys.begin;
  };
  while (lanes.begin < lanes.end && !sees(lanes.begin)) ++lanes.begin;
  while (lanes.begin < lanes.end && !sees(lanes.end - 1)) --lanes.end;
  return lanes;
}

// acc[k][d] += Σ_q tile[k][q]·rows[q][d]. `hidden` is given where a row that is not finite may be hidden from a key: such pairs
// are left out one by one. Else whole lanes that see none of the keys are.
struct QuerySum {
  const kernels::Kernels& kernel;
  const Panel& panel;
  Range keys;
  const HiddenLanes* hidden;

  void add(const float* tile, const float* rows, int dim, float* acc) const {
    if (hidden != nullptr) return add_visible(tile, rows, dim, acc);
    const bool all = panel.inner.begin <= keys.begin && keys.end <= panel.inner.end;
    constexpr std::int64_t kStep = 12;  // two tiles' keys: near the diagonal few lanes see them
    const std::int64_t step = all ? keys.end - keys.begin : kStep;
    for (std::int64_t k = keys.begin; k < keys.end; k += step) {
      const Range some = {k, std::min(k + step, keys.end)};
      const LaneRange lanes = all ? LaneRange{0, panel.count} : lanes_of(panel, some);
      if (lanes.begin < lanes.end)
        add_part(tile, rows, dim, acc, k - keys.begin, static_cast<int>(some.end - k), lanes);
    }
  }

 private:
  void add_part(const float* tile, const float* rows, int dim, float* acc, std::int64_t k,
                int count, LaneRange lanes) const {
    const std::int64_t stride = padded(dim);
    kernel.weighted_sum_queries(tile + k * kernel.panel + lanes.begin, count,
                                rows + lanes.begin * stride, stride, lanes.end - lanes.begin,
                                static_cast<int>(stride), acc + k * stride, stride);
  }
  void add_visible(const float* tile, const float* rows, int dim, float* acc) const {
    for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
      const kernels::LaneBits bits = (*hidden)[static_cast<std::size_t>(k)];
      const auto is_hidden = [&](int lane) { return (bits >> lane & 1) != 0; };
      for (int lane = 0; lane < panel.count; ++lane)
        if (!is_hidden(lane)) add_part(tile, rows, dim, acc, k, 1, {lane, lane + 1});
    }
  }
};

}  // namespace

// A block of keys with what its task works in.
struct HeadGradients::Block {
  std::int64_t index;
  FloatRows keys, values;
  bool keys_finite;
  float *d_key, *d_value;              // [key][d, padded]
  float *weights, *d_scores, *capped;  // [key][lane] of one panel
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
  const std::size_t query_floats = count * width_ * static_cast<std::size_t>(query_stride_);
  const std::size_t d_out_floats = count * width_ * static_cast<std::size_t>(d_out_stride_);
  packed_query_ = memory_.floats(3 * query_floats + 2 * d_out_floats);
  d_query_ = packed_query_ + query_floats;
  query_rows_ = d_query_ + query_floats;
  packed_d_out_ = query_rows_ + query_floats;
  d_out_rows_ = packed_d_out_ + d_out_floats;
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
  const std::size_t size_v = width_ * static_cast<std::size_t>(p.dim_v);
  pack_panel(kernel, p, panels_[i], packed_query_ + i * size);
  std::fill_n(d_query_ + i * size, size, 0.0f);

  const Range range = {first, first + count};
  Lanes& lanes = lanes_[i];
  lanes.query = dense_rows(p.query, b_, h, range, p.dim,
                           query_rows_ + i * width_ * static_cast<std::size_t>(query_stride_));
  lanes.d_out = dense_rows(call_->d_out, b_, h, range, p.dim_v,
                           d_out_rows_ + i * width_ * static_cast<std::size_t>(d_out_stride_));
  kernel.pack_queries(lanes.d_out, d_out_stride_, count, p.dim_v, 1, packed_d_out_ + i * size_v);

  lanes.query_finite = kernel.all_finite(lanes.query, query_stride_, count, p.dim);
  lanes.d_out_finite = kernel.all_finite(lanes.d_out, d_out_stride_, count, p.dim_v);
  lanes.shift.fill(-kInfinity);
  lanes.delta.fill(0);
  std::array<float, 1024> out;
  for (int lane = 0; lane < count; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    const std::int64_t row = p.row_index(b_, h, first + lane);
    const FloatRows values =
        float_rows(call_->out, b_, h, {first + lane, first + lane + 1}, p.dim_v, out.data());
    double delta = dot(values.data, lanes.d_out + lane * d_out_stride_, p.dim_v);
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
  const std::size_t tile = kChunk * width_;
  const std::size_t key_floats = count * static_cast<std::size_t>(query_stride_);
  const std::size_t value_floats = count * static_cast<std::size_t>(d_out_stride_);
  Block block{};
  try {
    block.weights = thread_scratch().floats(2 * key_floats + 2 * value_floats + 3 * tile);
  } catch (...) {
    if (shared) give_up();
    throw;
  }
  block.index = index;
  block.d_scores = block.weights + tile;
  block.capped = block.d_scores + tile;
  block.d_key = block.capped + tile;
  block.d_value = block.d_key + key_floats;
  float* const copies = block.d_value + value_floats;
  const float* key_rows = dense_rows(p.key, b_, kv_head_, used, p.dim, copies);
  block.keys = {key_rows, query_stride_, used};
  block.values = {dense_rows(p.value, b_, kv_head_, used, p.dim_v, copies + key_floats),
                  d_out_stride_, used};
  block.keys_finite = call_->kernel.all_finite(key_rows, query_stride_,
                                               static_cast<int>(used.end - used.begin), p.dim);
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
  const Range all = block.keys.range;
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
  KeyChunk key_chunk;
  key_chunk.range = keys;
  key_chunk.floats = block.keys.row(keys.begin);
  key_chunk.stride = block.keys.stride;
  const std::size_t size = width_ * static_cast<std::size_t>(p.dim);

  panel_dots(kernel, p, panel, packed_query_ + i * size, key_chunk, block.weights);
  if (p.softcap > 0)
    std::copy_n(block.weights, static_cast<std::size_t>(count) * width_, block.capped);
  const bool some_hidden = panel_options(kernel, p, panel, keys, block.weights);
  const std::int64_t from = keys.begin - block.keys.range.begin;
  HiddenLanes hidden;
  const bool leave_out =
      some_hidden && !(block.keys_finite && lanes.query_finite && lanes.d_out_finite);
  if (leave_out) find_hidden(p, panel, keys, hidden);
  const auto hidden_if = [&](bool finite) { return leave_out && !finite ? &hidden : nullptr; };

  if (call_->needs_scores()) {
    kernel.query_dot_keys(packed_d_out_ + i * width_ * static_cast<std::size_t>(p.dim_v),
                          block.values.row(keys.begin), block.values.stride, count, p.dim_v, 0,
                          block.d_scores, nullptr);
    kernel.softmax_gradients(block.weights, block.d_scores, count, lanes.shift.data(),
                             lanes.delta.data());
  } else {
    LaneFloats ones;
    ones.fill(1);
    kernel.normalise(block.weights, count, lanes.shift.data(), ones.data(), block.weights);
  }
  if (call_->d_value.data != nullptr)
    QuerySum{kernel, panel, keys, hidden_if(lanes.d_out_finite)}.add(
        block.weights, lanes.d_out, p.dim_v, block.d_value + from * d_out_stride_);
  if (!call_->needs_scores()) return;

  const bool bias_rows = call_->d_bias.data != nullptr && call_->d_bias.one_key;
  if (call_->d_bias.data != nullptr && !bias_rows) add_bias_columns(block, panel, keys);
  if (bias_rows) {
    if (shared) take_turn(i, block.index);
    add_bias_rows(block, i, keys);
  }
  if (p.softcap > 0)
    kernel.softcap_gradients(block.d_scores, block.capped, count, p.softcap * kLog2e);
  if (call_->d_key.data != nullptr)
    QuerySum{kernel, panel, keys, hidden_if(lanes.query_finite)}.add(
        block.d_scores, lanes.query, p.dim, block.d_key + from * query_stride_);
  if (call_->d_query.data != nullptr) {
    if (shared) take_turn(i, block.index);
    LaneFloats ones;
    ones.fill(1);
    if (hidden_if(block.keys_finite) != nullptr)
      kernel.weighted_sum_visible_values(block.d_scores, key_chunk.floats, key_chunk.stride, count,
                                         p.dim, ones.data(), d_query_ + i * size, hidden.data());
    else
      kernel.weighted_sum_values(block.d_scores, key_chunk.floats, key_chunk.stride, count, p.dim,
                                 nullptr, 0, d_query_ + i * size, false);
  }
}

// An entry for each key: sums over the queries, if any, are this block's own.
void HeadGradients::add_bias_columns(Block& block, const Panel& panel, Range keys) const {
  const BiasGradient& to = call_->d_bias;
  const std::int64_t from = keys.begin - block.index * block_keys_;
  for (std::int64_t k = 0; k < keys.end - keys.begin; ++k) {
    const float* d_score = block.d_scores + k * static_cast<std::int64_t>(width_);
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
      sums[lane] += double{block.d_scores[k * static_cast<std::int64_t>(width_) + lane]};
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
  // copies of the query's rows, if there are any, are no longer needed
  float* const rows = query_rows_ + i * width_ * static_cast<std::size_t>(query_stride_);
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
