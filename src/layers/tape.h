// What every attention layer of one run used, so that whoever looks afterwards gets the exact weights from
// qkv::weights over these very numbers, never from another computation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qkv::layers {

// One call of one attention layer, for one sentence.
struct AttentionRecord {
  std::string where;  // "encoder.0.self", "decoder.2.self", "decoder.2.cross"
  int heads = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t dim_k = 0;
  std::int64_t dim_v = 0;
  float scale = 0;  // what multiplied query·key
  bool causal = false;

  std::vector<float> q;    // [heads, queries, dim_k]
  std::vector<float> k;    // [heads, keys, dim_k]
  std::vector<float> v;    // [heads, keys, dim_v]
  std::vector<float> lse;  // [heads, queries]
  std::vector<float> out;  // [heads, queries, dim_v], what each head gave, before W_O
};

// In the order in which the layers ran.
using AttentionTape = std::vector<AttentionRecord>;

}  // namespace qkv::layers
