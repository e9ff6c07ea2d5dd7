// One call of attention, checked and resolved: what the rest of the room works on. Wrong arguments are caught here, once.
#pragma once

#include <cstdint>
#include <string>

#include "qkv/attention.h"

namespace qkv {

// A tensor [batch, heads, tokens, dim] of float32 with a contiguous last dimension.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t batch_stride = 0, head_stride = 0, token_stride = 0;

  T* row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return data + b * batch_stride + h * head_stride + t * token_stride;
  }
};

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
  std::int64_t batch = 0, heads = 0, heads_kv = 0, queries = 0, keys = 0;
  int dim = 0, dim_v = 0;
  Rows<const float> query, key, value;  // value stays empty for weights()
  float scale = 1;
  Causal causal = Causal::no;
  Window window;
  ScoreTerm<bool> mask;
  ScoreTerm<float> bias;
  float softcap = 0;
  const float* sinks = nullptr;
  const float* alibi_slopes = nullptr;
  const std::int32_t* key_lengths = nullptr;

  std::int64_t kv_head(std::int64_t h) const { return h / (heads / heads_kv); }
  std::int64_t keys_of(std::int64_t b) const {
    return key_lengths != nullptr ? key_lengths[b] : keys;
  }
  // Where query q stands among the keys of batch entry b.
  std::int64_t position(std::int64_t b, std::int64_t q) const {
    return causal == Causal::top_left ? q : q + keys_of(b) - queries;
  }
  // The keys that order, window and key_lengths let query q see; begin = end = 0 where there are none.
  Range visible(std::int64_t b, std::int64_t q) const;
  // Whether query q may not see key k: for its place, by the mask, or by a bias of −inf.
  bool hidden(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const;
};

// The problem of weights(query, key, …); `function` is named in errors.
Problem score_problem(const char* function, const TensorView& query, const TensorView& key,
                      const AttentionOptions& options);
// The problem of attention(query, key, value, …), with its output checked too.
Problem attention_problem(const TensorView& query, const TensorView& key, const TensorView& value,
                          const AttentionOptions& options, const AttentionOutput& output);

// Throws std::invalid_argument unless t is float32 of this shape with a contiguous last dimension.
void check_tensor(const char* function, const char* name, const TensorView& t, const Shape4& shape);
// The same for a tensor that is written to; no two entries may share a place by a stride of 0.
void check_output(const char* function, const TensorView& out, const Shape4& shape);
[[noreturn]] void fail(const char* function, const std::string& what);
std::string text_of(const Shape4& shape);

template <class T>
Rows<T> rows_of(const TensorView& t) {
  return {static_cast<T*>(const_cast<void*>(t.data)), t.strides[0], t.strides[1], t.strides[2]};
}

}  // namespace qkv
