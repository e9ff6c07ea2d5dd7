// One call of attention, checked and resolved: what the rest of the room works on. Wrong arguments are caught here, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "qkv/attention.h"

namespace qkv {

// Where the rows of a tensor [batch, heads, tokens, dim] lie: padded, packed or in pages. Strides in bytes; the elements
// of a row are contiguous. Byte is const std::byte for an input.
template <class Byte>
struct BasicRows {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t batch_stride = 0, head_stride = 0, token_stride = 0;
  const std::int32_t* starts = nullptr;  // packed: entry b begins at token starts[b]
  const std::int32_t* table =
      nullptr;  // paged: [batch, table_width] pages; batch_stride leads to the next page
  std::int64_t table_width = 0, page = 0;

  Byte* row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    if (table != nullptr)
      return data + table[b * table_width + t / page] * batch_stride + h * head_stride +
             t % page * token_stride;
    if (starts != nullptr) return data + h * head_stride + (starts[b] + t) * token_stride;
    return data + b * batch_stride + h * head_stride + t * token_stride;
  }
  // The end of the rows from t on that lie token_stride apart, at most `end`.
  std::int64_t run_end(std::int64_t t, std::int64_t end) const {
    if (table == nullptr) return end;
    const std::int64_t next = (t / page + 1) * page;
    return next < end ? next : end;
  }
  // Row stride in elements of T.
  template <class T>
  std::int64_t stride_in() const {
    return token_stride / static_cast<std::int64_t>(sizeof(T));
  }
  // The row as elements of T, const where the bytes are.
  template <class T>
  auto* row_as(std::int64_t b, std::int64_t h, std::int64_t t) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(row(b, h, t));
  }
};
using Rows = BasicRows<const std::byte>;
using MutableRows = BasicRows<std::byte>;

// mask or bias: [batch, heads_q, Sq, Sk] in which a dimension of 1 has stride 0.
template <class T>
struct ScoreTerm {
  const T* data = nullptr;
  Shape4 strides{};

  const T* row(std::int64_t b, std::int64_t h, std::int64_t q) const {
    return data + b * strides[0] + h * strides[1] + q * strides[2];
  }
};

struct Problem {
  // With packed sequences batch counts them, and queries and keys are those of the longest.
  std::int64_t batch = 0, heads = 0, heads_kv = 0, queries = 0, keys = 0;
  int dim = 0, dim_v = 0;
  Rows query, key, value;  // value stays empty for weights()
  Rows k_scale, v_scale;   // float32 rows of one; empty where there are none
  float scale = 1;
  Causal causal = Causal::no;
  Window window;
  ScoreTerm<bool> mask;
  ScoreTerm<float> bias;
  float softcap = 0;
  const float* sinks = nullptr;
  const float* alibi_slopes = nullptr;
  const std::int32_t* key_lengths = nullptr;
  std::int64_t packed_queries = 0, packed_keys = 0;  // rows of all sequences together

  std::int64_t kv_head(std::int64_t h) const { return h / (heads / heads_kv); }
  std::int64_t queries_of(std::int64_t b) const {
    return query.starts != nullptr ? query.starts[b + 1] - query.starts[b] : queries;
  }
  std::int64_t keys_of(std::int64_t b) const {
    if (key_lengths != nullptr) return key_lengths[b];
    return key.starts != nullptr ? key.starts[b + 1] - key.starts[b] : keys;
  }
  // Place of a query's row in lse and the trace, and how many there are.
  std::int64_t row_index(std::int64_t b, std::int64_t h, std::int64_t q) const {
    return query.starts != nullptr ? h * packed_queries + query.starts[b] + q
                                   : (b * heads + h) * queries + q;
  }
  std::int64_t row_count() const {
    return query.starts != nullptr ? heads * packed_queries : batch * heads * queries;
  }
  // Place of a key in the trace's columns, and how many there are.
  std::int64_t column_index(std::int64_t b, std::int64_t h, std::int64_t k) const {
    return key.starts != nullptr ? h * packed_keys + key.starts[b] + k : (b * heads + h) * keys + k;
  }
  std::int64_t column_count() const {
    return key.starts != nullptr ? heads * packed_keys : batch * heads * keys;
  }
  // Where query q stands among the keys of batch entry b.
  std::int64_t position(std::int64_t b, std::int64_t q) const {
    return causal == Causal::top_left ? q : q + keys_of(b) - queries_of(b);
  }
  // The keys that order, window and key_lengths let query q see; begin = end = 0 where there are none.
  Range visible(std::int64_t b, std::int64_t q) const;
  // Whether query q may not see key k: for its place, by the mask, or by a bias of −inf.
  bool hidden(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const;
};

// The problem of weights(query, key, …); `function` is named in errors.
Problem score_problem(const char* function, const TensorView& query, const TensorView& key,
                      const AttentionOptions& options);
// The problem of attention(query, key, value, …), its output not yet looked at.
Problem value_problem(const char* function, const TensorView& query, const TensorView& key,
                      const TensorView& value, const AttentionOptions& options);
// The same, with its output checked too.
Problem attention_problem(const TensorView& query, const TensorView& key, const TensorView& value,
                          const AttentionOptions& options, const AttentionOutput& output);
// What the caller wants traced, against a checked problem.
void check_trace(const char* function, const TraceOptions& trace, const Problem& p);
// Shape of the query's tensor with another last dimension: that of out and of gradients.
Shape4 query_shape(const Problem& p, std::int64_t dim);
// Where the rows of out lie, packed as the query's are.
MutableRows out_rows(const Problem& p, const MutableTensorView& out);

}  // namespace qkv
