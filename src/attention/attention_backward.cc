// attention_backward(): checks the call, cuts it into tasks, hands them to threads.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/backward.h"
#include "attention/check.h"
#include "attention/overlap.h"
#include "attention/parallel.h"
#include "qkv/attention.h"

namespace qkv {
namespace {

constexpr const char* kName = "attention_backward";

// The shape of key or value with its own last dimension.
Shape4 key_shape(const Problem& p, std::int64_t dim) {
  return p.key.starts != nullptr ? Shape4{1, p.heads_kv, p.packed_keys, dim}
                                 : Shape4{p.batch, p.heads_kv, p.keys, dim};
}

void check_entries(const char* name, std::span<const float> values, std::int64_t expected,
                   const char* of_what) {
  if (std::ssize(values) != expected)
    fail(kName, std::string(name) + " has " + std::to_string(values.size()) +
                    " entries; expected " + of_what + " = " + std::to_string(expected));
  check_aligned(kName, name, values.data(), sizeof(float));
}

MutableRows gradient_rows(const char* name, const MutableTensorView& t, const Shape4& shape,
                          const std::int32_t* starts) {
  if (!t && t.shape == Shape4{}) return {};  // nobody asks
  check_output(kName, name, t, shape);
  MutableRows rows = rows_of<std::byte>(t);
  rows.starts = starts;
  return rows;
}

BiasGradient bias_gradient(const AttentionOptions& options, const MutableTensorView& d_bias) {
  BiasGradient to;
  if (!d_bias && d_bias.shape == Shape4{}) return to;
  if (!options.bias) fail(kName, "d_bias is given but the call has no bias; expected both");
  check_output(kName, "d_bias", d_bias, options.bias.shape);
  if (d_bias.dtype != DType::f32)
    fail(kName, "d_bias has elements of type " + std::string(name_of(d_bias.dtype)) +
                    "; expected float32");
  to.data = static_cast<float*>(d_bias.data);
  for (std::size_t i = 0; i < 4; ++i) to.strides[i] = d_bias.shape[i] == 1 ? 0 : d_bias.strides[i];
  to.one_key = d_bias.shape[3] == 1;
  return to;
}

Problem backward_problem(const TensorView& query, const TensorView& key, const TensorView& value,
                         const AttentionOptions& options) {
  if (options.block_table.data() != nullptr)
    fail(kName, "block_table is given; expected keys and values that lie in no pages");
  const auto refuse_int8 = [](const char* name, const TensorView& t) {
    if (t.dtype == DType::i8)
      fail(kName,
           std::string(name) + " has elements of type int8; expected float32, float16 or bfloat16");
  };
  refuse_int8("key", key);
  refuse_int8("value", value);
  return value_problem(kName, query, key, value, options);
}

// Gradients of heads that are not at work.
class Pool {
 public:
  std::unique_ptr<HeadGradients> take() {
    const std::scoped_lock lock(mutex_);
    if (free_.empty()) return std::make_unique<HeadGradients>();
    std::unique_ptr<HeadGradients> heads = std::move(free_.back());
    free_.pop_back();
    return heads;
  }
  void give(std::unique_ptr<HeadGradients> heads) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(std::move(heads));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<HeadGradients>> free_;
};

// One key head with all threads, or, with one, in the caller alone.
void run_heads(const BackwardCall& call, HeadGradients& heads, std::int64_t unit, int threads) {
  const Problem& p = call.problem;
  heads.set(call, unit / p.heads_kv, unit % p.heads_kv, threads);
  parallel_for(threads, heads.panels(), [&](std::int64_t i) { heads.prepare(i); });
  const std::int64_t blocks = call.needs_weights() ? heads.blocks() : 0;
  const bool shared = thread_count(threads, blocks) > 1;
  parallel_for(threads, blocks, [&](std::int64_t j) { heads.run_block(j, shared); });
  parallel_for(threads, heads.panels(), [&](std::int64_t i) { heads.finish(i); });
  heads.finish_terms();
}

// Whole key heads go to a thread each; those that are left over when there is not one for each are shared block by block.
void run(const BackwardCall& call, int threads, bool in_order) {
  const Problem& p = call.problem;
  const std::int64_t units = p.batch * p.heads_kv;
  const std::int64_t workers = thread_count(threads, std::int64_t{1} << 30);
  const std::int64_t whole = in_order || workers == 1 ? 0 : units - units % workers;
  Pool pool;
  parallel_for(threads, whole, [&](std::int64_t unit) {
    std::unique_ptr<HeadGradients> heads = pool.take();
    run_heads(call, *heads, unit, 1);
    pool.give(std::move(heads));
  });
  if (whole == units) return;
  const std::unique_ptr<HeadGradients> heads = pool.take();
  for (std::int64_t unit = whole; unit < units; ++unit) run_heads(call, *heads, unit, threads);
}

void clear(const MutableTensorView& t) {
  for (std::int64_t b = 0; b < t.shape[0]; ++b)
    for (std::int64_t h = 0; h < t.shape[1]; ++h)
      for (std::int64_t q = 0; q < t.shape[2]; ++q)
        std::fill_n(
            static_cast<float*>(t.data) + b * t.strides[0] + h * t.strides[1] + q * t.strides[2],
            t.shape[3], 0.0f);
}

}  // namespace

void attention_backward(const TensorView& query, const TensorView& key, const TensorView& value,
                        const AttentionOptions& options, const AttentionForward& forward,
                        const TensorView& d_out, const AttentionGradients& gradients,
                        std::span<const float> d_lse) {
  const Problem p = backward_problem(query, key, value, options);
  check_tensor(kName, "forward.out", forward.out, query_shape(p, p.dim_v));
  check_tensor(kName, "d_out", d_out, query_shape(p, p.dim_v));
  BackwardCall call{narrowest_panel(gradient_kernels(p, d_out.dtype), p.queries), p};
  check_entries("forward.lse", forward.lse, p.row_count(), "batch·heads_q·queries");
  if (d_lse.data() != nullptr)
    check_entries("d_lse", d_lse, p.row_count(), "batch·heads_q·queries");
  call.out = rows_of(forward.out);
  call.d_out = rows_of(d_out);
  call.out.starts = call.d_out.starts = p.query.starts;
  call.lse = forward.lse.data();
  call.d_lse = d_lse.data();
  call.d_query = gradient_rows("d_query", gradients.d_query, query_shape(p, p.dim), p.query.starts);
  call.d_key = gradient_rows("d_key", gradients.d_key, key_shape(p, p.dim), p.key.starts);
  call.d_value = gradient_rows("d_value", gradients.d_value, key_shape(p, p.dim_v), p.key.starts);
  call.d_bias = bias_gradient(options, gradients.d_bias);
  std::vector<double> d_sinks;
  if (gradients.d_sinks.data() != nullptr) {
    if (p.sinks == nullptr)
      fail(kName, "d_sinks is given but the call has no sinks; expected both");
    check_entries("d_sinks", gradients.d_sinks, p.heads, "query heads");
    d_sinks.assign(static_cast<std::size_t>(p.batch * p.heads), 0);
    call.d_sinks = d_sinks.data();
  }
  Places places;
  places.read("query", query);
  places.read("key", key);
  places.read("value", value);
  places.read(options);
  places.read("forward.out", forward.out);
  places.read("forward.lse", forward.lse);
  places.read("d_out", d_out);
  places.read("d_lse", d_lse);
  places.written("d_query", gradients.d_query);
  places.written("d_key", gradients.d_key);
  places.written("d_value", gradients.d_value);
  places.written("d_bias", gradients.d_bias);
  places.written("d_sinks", gradients.d_sinks);
  places.check(kName);

  if (call.d_bias.data != nullptr) clear(gradients.d_bias);
  // entries that several heads share are summed up head after head
  const bool shares_bias =
      call.d_bias.data != nullptr && ((p.batch > 1 && gradients.d_bias.shape[0] == 1) ||
                                      (p.heads > 1 && gradients.d_bias.shape[1] == 1));
  run(call, options.threads, shares_bias);
  for (std::int64_t h = 0; gradients.d_sinks.data() != nullptr && h < p.heads; ++h) {
    double sum = 0;
    for (std::int64_t b = 0; b < p.batch; ++b)
      sum += d_sinks[static_cast<std::size_t>(b * p.heads + h)];
    gradients.d_sinks[static_cast<std::size_t>(h)] = static_cast<float>(sum);
  }
}

}  // namespace qkv
