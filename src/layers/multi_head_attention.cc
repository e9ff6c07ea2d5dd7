#include "layers/multi_head_attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

namespace qkv::layers {
namespace {

// Multiply-adds of an attention that are worth threads; see linear.cc.
constexpr std::int64_t kWorthThreads = 10'000'000;

AttentionShape with_scale(AttentionShape shape) {
  if (shape.scale == 0) shape.scale = 1 / std::sqrt(static_cast<float>(shape.dim_k));
  return shape;
}

// Heads side by side in rows of `stride` floats, as a tensor [count, heads, tokens, dim].
TensorView heads_of(const float* rows, std::int64_t count, std::int64_t tokens,
                    std::int64_t row_stride, int heads, std::int64_t dim,
                    std::int64_t sentence_stride = 0) {
  if (sentence_stride == 0) sentence_stride = tokens * row_stride;
  return {rows, {count, heads, tokens, dim}, {sentence_stride, dim, row_stride, 1}};
}

template <class View>
std::vector<float> dense(const View& view) {
  std::vector<float> values;
  const auto* data = static_cast<const float*>(view.data);
  for (std::int64_t h = 0; h < view.shape[1]; ++h)
    for (std::int64_t t = 0; t < view.shape[2]; ++t) {
      const float* row = data + h * view.strides[1] + t * view.strides[2];
      values.insert(values.end(), row, row + view.shape[3]);
    }
  return values;
}

void write_tape(const TapePlace& place, const AttentionShape& shape, const TensorView& q,
                const TensorView& k, const TensorView& v, bool causal,
                const AttentionOutput& output) {
  assert(q.shape[0] == 1);
  AttentionRecord& record = place.tape->emplace_back();
  record.where = place.where;
  record.heads = shape.heads;
  record.queries = q.shape[2];
  record.keys = k.shape[2];
  record.dim_k = shape.dim_k;
  record.dim_v = shape.dim_v;
  record.scale = shape.scale;
  record.causal = causal;
  record.q = dense(q);
  record.k = dense(k);
  record.v = dense(v);
  record.lse.assign(output.lse.begin(), output.lse.end());
  record.out = dense(output.out);
}

// The weights of one head, exactly as the call that gave this lse had them.
void head_weights(const TensorView& q, const TensorView& k, const AttentionOptions& options,
                  const float* lse, int head, float* out, Buffer& head_lse) {
  const std::int64_t count = q.shape[0], heads = q.shape[1], queries = q.shape[2],
                     keys = k.shape[2];
  const auto one_head = [head](const TensorView& all) {
    TensorView one = all;
    one.data = static_cast<const float*>(all.data) + head * all.strides[1];
    one.shape[1] = 1;
    return one;
  };
  float* own = at_least(head_lse, count * queries);
  for (std::int64_t s = 0; s < count; ++s)
    std::copy_n(lse + (s * heads + head) * queries, queries, own + s * queries);
  weights(one_head(q), one_head(k), options,
          std::span(own, static_cast<std::size_t>(count * queries)), {0, queries}, {0, keys},
          MutableTensorView(out, {count, 1, queries, keys}));
}

// Mean over all heads where the probe names none.
void probe_weights(const WeightsProbe& probe, const TensorView& q, const TensorView& k,
                   const AttentionOptions& options, const float* lse, AttentionScratch& scratch) {
  const std::int64_t count = q.shape[0], heads = q.shape[1], queries = q.shape[2],
                     keys = k.shape[2];
  if (probe.head >= 0) {
    head_weights(q, k, options, lse, probe.head, probe.weights, scratch.weights);
    return;
  }
  const std::int64_t size = count * queries * keys;
  Buffer one(static_cast<std::size_t>(size));
  std::fill_n(probe.weights, size, 0.0f);
  for (int head = 0; head < heads; ++head) {
    head_weights(q, k, options, lse, head, one.data(), scratch.weights);
    for (std::int64_t i = 0; i < size; ++i)
      probe.weights[i] += one[static_cast<std::size_t>(i)] / static_cast<float>(heads);
  }
}

// Attention of every head, then W_O. q [count, heads, queries, dim_k] → y [count·queries, out].
void attend(const AttentionShape& shape, const TensorView& q, const TensorView& k,
            const TensorView& v, const Linear& project_out, AttentionOptions& options, float* y,
            AttentionScratch& scratch, const TapePlace& tape, const WeightsProbe& probe) {
  const int threads = options.threads;
  const std::int64_t count = q.shape[0], queries = q.shape[2];
  options.scale = shape.scale;
  float* context = at_least(scratch.context, count * queries * shape.width_v());
  const bool wants_lse = tape.tape != nullptr || probe.weights != nullptr;
  AttentionOutput output;
  output.out = {context,
                {count, shape.heads, queries, shape.dim_v},
                {queries * shape.width_v(), shape.dim_v, shape.width_v(), 1}};
  if (wants_lse) {
    const std::int64_t size = count * shape.heads * queries;
    output.lse = {at_least(scratch.lse, size), static_cast<std::size_t>(size)};
  }
  const std::int64_t work = count * queries * k.shape[2] * (shape.width_k() + shape.width_v());
  if (work < kWorthThreads) options.threads = 1;
  attention(q, k, v, options, output);
  if (tape.tape != nullptr) write_tape(tape, shape, q, k, v, options.causal != Causal::no, output);
  if (probe.weights != nullptr) probe_weights(probe, q, k, options, output.lse.data(), scratch);
  project_out.forward(context, shape.width_v(), count * queries, y, project_out.out(), threads);
}

}  // namespace

void KeyValueCache::grow(std::int64_t rows, std::int64_t capacity) {
  const auto moved = [&](Buffer& old, std::int64_t width) {
    Buffer grown(static_cast<std::size_t>(rows * capacity * width));
    for (std::int64_t r = 0; r < rows_; ++r)
      std::copy_n(old.data() + r * capacity_ * width, tokens_ * width,
                  grown.data() + r * capacity * width);
    old.swap(grown);
  };
  moved(keys_, shape_.width_k());
  moved(values_, shape_.width_v());
  rows_ = rows;
  capacity_ = capacity;
}

void KeyValueCache::append(const float* key, const float* value, std::int64_t stride,
                           std::int64_t rows) {
  if (rows > rows_ || tokens_ == capacity_)
    grow(std::max(rows, rows_),
         tokens_ == capacity_ ? std::max<std::int64_t>(32, 2 * capacity_) : capacity_);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t place = r * capacity_ + tokens_;
    std::copy_n(key + r * stride, shape_.width_k(), keys_.data() + place * shape_.width_k());
    std::copy_n(value + r * stride, shape_.width_v(), values_.data() + place * shape_.width_v());
  }
  ++tokens_;
}

void KeyValueCache::copy_row(std::int64_t from, std::int64_t to) {
  if (to >= rows_) grow(to + 1, capacity_);
  const auto copy = [&](Buffer& all, std::int64_t width) {
    std::copy_n(all.data() + from * capacity_ * width, tokens_ * width,
                all.data() + to * capacity_ * width);
  };
  copy(keys_, shape_.width_k());
  copy(values_, shape_.width_v());
}

SelfAttention::SelfAttention(const AttentionShape& shape, std::int64_t width,
                             const LinearPart& query, const LinearPart& key,
                             const LinearPart& value, const LinearPart& out)
    : shape_(with_scale(shape)),
      project_(width, std::array{query, key, value}),
      out_(shape.width_v(), out) {
  assert(query.out == shape.width_k() && key.out == shape.width_k() &&
         value.out == shape.width_v());
}

void SelfAttention::forward(const float* x, const Sentences& sentences, Causal causal, float* y,
                            AttentionScratch& scratch, int threads, const TapePlace& tape) const {
  const std::int64_t rows = sentences.count * sentences.tokens, stride = project_.out();
  float* projected = at_least(scratch.projected, rows * stride);
  project_.forward(x, project_.in(), rows, projected, stride, threads);
  const auto heads = [&](const float* first, std::int64_t dim) {
    return heads_of(first, sentences.count, sentences.tokens, stride, shape_.heads, dim);
  };
  AttentionOptions options;
  options.causal = causal;
  options.key_lengths = sentences.lengths;
  options.threads = threads;
  attend(shape_, heads(projected, shape_.dim_k), heads(projected + shape_.width_k(), shape_.dim_k),
         heads(projected + 2 * shape_.width_k(), shape_.dim_v), out_, options, y, scratch, tape,
         {});
}

void SelfAttention::step(const float* x, std::int64_t rows, KeyValueCache& cache, float* y,
                         AttentionScratch& scratch, int threads) const {
  const std::int64_t stride = project_.out();
  float* projected = at_least(scratch.projected, rows * stride);
  project_.forward(x, project_.in(), rows, projected, stride, threads);
  cache.append(projected + shape_.width_k(), projected + 2 * shape_.width_k(), stride, rows);
  const auto cached = [&](const float* first, std::int64_t width, std::int64_t dim) {
    return heads_of(first, rows, cache.tokens(), width, shape_.heads, dim,
                    cache.capacity() * width);
  };
  AttentionOptions options;
  options.threads = threads;
  attend(shape_, heads_of(projected, rows, 1, stride, shape_.heads, shape_.dim_k),
         cached(cache.keys(), shape_.width_k(), shape_.dim_k),
         cached(cache.values(), shape_.width_v(), shape_.dim_v), out_, options, y, scratch, {}, {});
}

CrossAttention::CrossAttention(const AttentionShape& shape, std::int64_t width,
                               std::int64_t memory_width, const LinearPart& query,
                               const LinearPart& key, const LinearPart& value,
                               const LinearPart& out)
    : shape_(with_scale(shape)),
      query_(width, query),
      key_value_(memory_width, std::array{key, value}),
      out_(shape.width_v(), out) {
  assert(query.out == shape.width_k() && key.out == shape.width_k() &&
         value.out == shape.width_v());
}

void CrossAttention::remember(const float* memory, std::int64_t rows, float* remembered,
                              int threads) const {
  key_value_.forward(memory, key_value_.in(), rows, remembered, remembered_width(), threads);
}

void CrossAttention::forward(const float* x, std::int64_t queries, const float* remembered,
                             const Sentences& memory, float* y, AttentionScratch& scratch,
                             int threads, const TapePlace& tape, const WeightsProbe& probe) const {
  const std::int64_t rows = memory.count * queries;
  float* projected = at_least(scratch.projected, rows * query_.out());
  query_.forward(x, query_.in(), rows, projected, query_.out(), threads);
  AttentionOptions options;
  options.key_lengths = memory.lengths;
  options.threads = threads;
  const auto remembered_heads = [&](const float* first, std::int64_t dim) {
    return heads_of(first, memory.count, memory.tokens, remembered_width(), shape_.heads, dim);
  };
  attend(shape_,
         heads_of(projected, memory.count, queries, query_.out(), shape_.heads, shape_.dim_k),
         remembered_heads(remembered, shape_.dim_k),
         remembered_heads(remembered + shape_.width_k(), shape_.dim_v), out_, options, y, scratch,
         tape, probe);
}

}  // namespace qkv::layers
