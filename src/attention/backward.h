// The backward pass over the queries that share one key head.
//
//   weight[q][k]  = e^(score[q][k] − lse[q])                        recomputed, as Dao et al. 2022, algorithm 4
//   delta[q]      = Σ_d out[q][d]·d_out[q][d] − d_lse[q]
//   d_score[q][k] = weight[q][k] · (Σ_d d_out[q][d]·value[k][d] − delta[q])
//   d_dot[q][k]   = d_score[q][k] · scale · (1 − (capped[q][k] / softcap)²)
//   d_query[q]    = Σ_k d_dot[q][k]·key[k]
//   d_key[k]      = Σ_q d_dot[q][k]·query[q]       d_value[k] = Σ_q weight[q][k]·d_out[q]
//
// Five products for each panel of queries and block of keys, while both tiles are in cache. Every number of a gradient is one
// chain: of d_query over its keys in order, of d_key and d_value over their queries in order (head by head of the group). A
// hidden pair adds fma(0, x, sum) = sum, or is left out where x is not finite. So neither blocks, panels nor threads show
// in the bits. Where products multiply bfloat16 in pairs (backward_products.h), panels and blocks hold whole pairs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/backward_products.h"
#include "attention/chunk.h"
#include "attention/panel.h"
#include "attention/problem.h"
#include "kernels/kernels.h"

namespace qkv {

// Where the gradient of the bias goes. A stride of 0: the entry is repeated and holds the sum.
struct BiasGradient {
  float* data = nullptr;
  Shape4 strides{};
  bool one_key = false;  // a single entry for all keys

  float* row(std::int64_t b, std::int64_t h, std::int64_t q) const {
    return data + b * strides[0] + h * strides[1] + q * strides[2];
  }
};

struct BackwardCall {
  const kernels::Kernels& kernel;
  const Problem& problem;
  Rows out = {}, d_out = {};
  const float* lse = nullptr;
  const float* d_lse = nullptr;                        // may be null
  MutableRows d_query = {}, d_key = {}, d_value = {};  // data is null where nobody asks
  BiasGradient d_bias = {};
  double* d_sinks = nullptr;  // [batch, heads], to be added up over the batch

  // Gradients of scores, beyond the weights.
  bool needs_scores() const {
    return d_query.data != nullptr || d_key.data != nullptr || d_bias.data != nullptr;
  }
  bool needs_weights() const { return needs_scores() || d_value.data != nullptr; }
};

// The queries of batch entry b that share key head `kv_head`, and their keys. Memory: four rows of a query for each.
// Life: set(…); prepare(i) for each panel; run_block(j) for each block of keys; finish(i) for each panel; finish_terms().
// The calls of one kind may run at the same time, run_block(…, true) provided that a lower block is begun before a higher one.
class HeadGradients {
 public:
  // `threads` will work on it.
  void set(const BackwardCall& call, std::int64_t b, std::int64_t kv_head, int threads);
  std::int64_t panels() const { return static_cast<std::int64_t>(panels_.size()); }
  std::int64_t blocks() const;

  void prepare(std::int64_t panel);
  // `shared`: blocks run at the same time, and take turns at a panel's d_query, the lower one first.
  void run_block(std::int64_t block, bool shared);
  void finish(std::int64_t panel);
  // What is known when every block is done: gradients of sinks, and of a bias that all keys share.
  void finish_terms();

 private:
  struct Block;
  struct Lanes {
    LaneFloats shift;  // lse in log2 units
    LaneFloats delta;
    PanelRows query, d_out;
  };
  void run_panel(Block& block, std::size_t i, bool shared);
  void run_chunk(Block& block, std::size_t i, Range keys, bool shared);
  void add_bias_columns(Block& block, const Panel& panel, Range keys) const;
  void add_bias_rows(const Block& block, std::size_t i, Range keys);
  void add_to_query(const Block& block, std::size_t i, Range keys, bool some_hidden);
  void take_turn(std::size_t i, std::int64_t block) const;
  void end_turn(std::size_t i);
  void give_up();

  const BackwardCall* call_ = nullptr;
  std::int64_t b_ = 0, kv_head_ = 0, group_ = 0, queries_ = 0, keys_ = 0;
  std::int64_t block_keys_ = kChunk;  // keys of a block: a multiple of kChunk
  std::size_t width_ = 0, panels_of_head_ = 0;
  std::int64_t query_stride_ = 0, d_out_stride_ = 0;  // padded dims
  std::vector<Panel> panels_;  // those of the group's first head, then the next one's
  std::vector<Lanes> lanes_;
  Scratch memory_;
  float *query_rows_ = nullptr, *d_out_rows_ = nullptr;  // [panel] memory of PanelRows
  float* d_query_ = nullptr;                             // [panel][d][lane]
  std::vector<double> bias_rows_;                        // [head][query] Σ_k d_score
  std::unique_ptr<std::atomic<std::int32_t>[]> turns_;   // [panel] blocks that are done
};

}  // namespace qkv
