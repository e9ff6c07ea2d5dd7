// Multi-head attention (Vaswani et al. 2017, §3.2.2): Q = x·W_Qᵀ + b_Q, K and V likewise from x (self) or from a memory
// (cross), every head attends with its own slice of them, the heads side by side are multiplied with W_O.
//
// Keys and values may have different widths: with x of width 512, W_K [512, 64] and W_V [512, 512] are one head of
// dim_k = 64 and dim_v = 512.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "layers/buffer.h"
#include "layers/linear.h"
#include "layers/tape.h"
#include "qkv/attention.h"

namespace qkv::layers {

struct AttentionShape {
  int heads = 1;
  std::int64_t dim_k = 0;  // of one head
  std::int64_t dim_v = 0;  // of one head
  float scale = 0;         // multiplies query·key; 0 (default): 1/√dim_k

  std::int64_t width_k() const { return heads * dim_k; }
  std::int64_t width_v() const { return heads * dim_v; }
};

// Sentences one below the other, each padded to `tokens` rows; of sentence s the first lengths[s] rows count. Or packed, with
// nothing between them: then count is 1, tokens all rows, and `starts` (0, rising, tokens) says where each begins and ends.
struct Sentences {
  std::int64_t count = 0;
  std::int64_t tokens = 0;
  std::span<const std::int32_t> lengths;      // [count]; empty: all are full
  std::span<const std::int32_t> starts = {};  // [packed sentences + 1]; empty: not packed
};

// Where to write down what a layer used: nowhere by default. For one sentence at a time.
struct TapePlace {
  AttentionTape* tape = nullptr;
  std::string_view where;
};

// Asks for the weights of one head, or (head −1) of the mean over the heads.
struct WeightsProbe {
  int head = -1;
  float* weights = nullptr;  // [sentences, queries, keys] dense; a padded key has weight 0
};

struct AttentionScratch {
  Buffer projected;
  Buffer context;
  Buffer lse;
  Buffer weights;
};

// Keys and values of the tokens that a decoder has written so far, row by row of its batch.
class KeyValueCache {
 public:
  KeyValueCache() = default;
  explicit KeyValueCache(const AttentionShape& shape) : shape_(shape) {}

  std::int64_t tokens() const { return tokens_; }
  std::int64_t capacity() const { return capacity_; }
  const float* keys() const { return keys_.data(); }      // [rows, capacity, width_k]
  const float* values() const { return values_.data(); }  // [rows, capacity, width_v]

  // Adds one token to each of `rows` rows: key of row r at key + r·stride, value likewise.
  void append(const float* key, const float* value, std::int64_t stride, std::int64_t rows);
  // Row `to`, which may be a new one, becomes a copy of row `from`.
  void copy_row(std::int64_t from, std::int64_t to);

 private:
  void grow(std::int64_t rows, std::int64_t capacity);

  AttentionShape shape_;
  Buffer keys_;
  Buffer values_;
  std::int64_t rows_ = 0;
  std::int64_t capacity_ = 0;
  std::int64_t tokens_ = 0;
};

class SelfAttention {
 public:
  SelfAttention() = default;
  // query [heads·dim_k, width], key likewise, value [heads·dim_v, width]; out: [any, heads·dim_v].
  SelfAttention(const AttentionShape& shape, std::int64_t width, const LinearPart& query,
                const LinearPart& key, const LinearPart& value, const LinearPart& out);

  const AttentionShape& shape() const { return shape_; }

  // x [count·tokens, width] dense → y [count·tokens, out] dense.
  void forward(const float* x, const Sentences& sentences, Causal causal, float* y,
               AttentionScratch& scratch, int threads, const TapePlace& tape = {}) const;

  // The next token of every row: x [rows, width] → y [rows, out]; the cache grows by one token. The same bits as the last
  // row of a causal forward over all tokens so far.
  void step(const float* x, std::int64_t rows, KeyValueCache& cache, float* y,
            AttentionScratch& scratch, int threads) const;

 private:
  AttentionShape shape_;
  Linear project_;  // query, key, value side by side
  Linear out_;
};

class CrossAttention {
 public:
  CrossAttention() = default;
  // key and value read rows of memory_width.
  CrossAttention(const AttentionShape& shape, std::int64_t width, std::int64_t memory_width,
                 const LinearPart& query, const LinearPart& key, const LinearPart& value,
                 const LinearPart& out);

  const AttentionShape& shape() const { return shape_; }
  std::int64_t remembered_width() const { return shape_.width_k() + shape_.width_v(); }

  // Keys and values of a memory, to be computed once: memory [rows, memory_width] → [rows, remembered_width()].
  void remember(const float* memory, std::int64_t rows, float* remembered, int threads) const;

  // x [count·queries, width] asks the memory of its own sentence; remembered [count·tokens, remembered_width()].
  void forward(const float* x, std::int64_t queries, const float* remembered,
               const Sentences& memory, float* y, AttentionScratch& scratch, int threads,
               const TapePlace& tape = {}, const WeightsProbe& probe = {}) const;

 private:
  AttentionShape shape_;
  Linear query_;
  Linear key_value_;  // key, value side by side
  Linear out_;
};

}  // namespace qkv::layers
