// What each query looked at, computed inside the attention call; never N×N in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace qkv {

// Which parts of the trace to compute. Log-sum-exp, maximum and entropy always come.
struct TraceOptions {
  // Keys to report for each query, 0 to 1024. Default 0.
  int top = 0;
  // Per key, the weight it received from all queries. Default no.
  bool received = false;
  // Side of the square blocks of the block map, in tokens; 0 for no map. Default 0.
  int block = 0;
};

// p(q,k) is the weight of key k for query q: softmax of the scores, the sink (if any) in the denominator.
// Arrays are dense and row-major; B = batch, H = query heads. A row with no visible key has lse −inf, max −inf, entropy 0,
// no top keys, remainder 0 (with a sink: lse the sink's logit, remainder 1).
//
// Packed sequences: [B,H,Sq] becomes [H,total] of the queries, [B,H,Sk] [H,total] of the keys; the block map has one entry for each
// sequence, as large as the longest needs. Paged keys: Sk is the longest of key_lengths.
struct Trace {
  std::int64_t batch = 0, heads = 0, queries = 0, keys = 0;
  int top = 0;
  int block = 0;

  std::vector<float> lse;  // [B,H,Sq] ln Σ_k e^score, sink included
  std::vector<float>
      max;  // [B,H,Sq] largest score over keys (natural units, as the softmax saw it)
  std::vector<float>
      entropy;  // [B,H,Sq] −Σ p·ln p in nats, sink's share included; effective keys = e^entropy

  std::vector<std::int32_t>
      top_keys;  // [B,H,Sq,top] largest weight first, ties to the lower index, unused −1
  std::vector<float> top_weights;  // [B,H,Sq,top] their weights, unused 0
  std::vector<float> remainder;    // [B,H,Sq] 1 − Σ top_weights, the sink's share included

  std::vector<float> received;        // [B,H,Sk] Σ_q p(q,k)
  std::vector<std::int32_t> visible;  // [B,H,Sk] how many queries could see the key

  std::vector<float> block_mass;  // [B,H,⌈Sq/block⌉,⌈Sk/block⌉] Σ p over the block
  std::vector<float> block_max;   // [B,H,⌈Sq/block⌉,⌈Sk/block⌉] largest p in the block
};

}  // namespace qkv
