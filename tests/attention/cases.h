// One call of attention with everything it needs: made at random from a seed, or by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention/check.h"
#include "attention/problem.h"
#include "attention/reference.h"
#include "qkv/attention.h"
#include "tests/attention/tensors.h"

namespace qkv::tests {

struct Sizes {
  std::int64_t batch = 1, heads_kv = 1, group = 1, queries = 1, keys = 1, dim = 8, dim_v = 8;
  std::int64_t heads() const { return heads_kv * group; }
};

// What a call leaves behind.
struct Result {
  Tensor<float> out;
  std::vector<float> lse;
  Trace trace;
};

struct Case {
  Sizes
      sizes;  // packed or paged: batch counts sequences, queries and keys are those of the longest
  Tensor<float> query, key, value;
  Tensor<float> k_scale, v_scale;                // empty: none
  std::vector<std::int32_t> starts_q, starts_k;  // packed where not empty
  std::vector<std::int32_t> block_table;         // paged where not empty
  Tensor<bool> mask;                             // empty: none
  Tensor<float> bias;                            // empty: none
  std::vector<float> sinks, slopes;
  std::vector<std::int32_t> key_lengths;
  Layout out_layout;
  DType out_type = DType::f32;
  AttentionOptions
      plain;  // scale, causal, window, softcap, threads, trace; the views come from above

  // Dense query, key and value of normal numbers; no option.
  Case(const Sizes& s, std::uint64_t seed);

  AttentionOptions options() const;
  // As attention() itself resolves the call.
  Problem problem() const;
  // Runs the call; threads < 0 takes what `plain` says.
  Result run(bool traced = true, int threads = -1) const;
  Reference<double> reference() const { return reference_attention<double>(problem()); }
  // The same call on the same numbers, every tensor contiguous.
  Case dense() const;
  // The same call with every number as float32; int8 times its scale, rounded.
  Case widened() const;
  // One sequence as a call of its own: no padding, no packing, no pages.
  Case alone(std::int64_t b) const;
  // Whether query q may see key k, read from the documentation of the options and from nothing else.
  bool sees(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const;
  std::string describe() const;
  // A part of the call, dense: these batch entries, key heads (with their query heads), queries and keys. key_lengths are cut
  // to what is left of them; it is up to the caller that the queries keep their positions.
  Case part(Range batch, Range heads_kv, Range queries, Range keys) const;
  Case part_of_queries(Range queries) const {
    return part({0, sizes.batch}, {0, sizes.heads_kv}, queries, {0, sizes.keys});
  }

  // Where things lie, read from the documentation as sees() is.
  bool packed() const { return !starts_q.empty() || !starts_k.empty(); }
  std::int64_t query_length(std::int64_t b) const;
  std::int64_t key_length(std::int64_t b) const;
  Shape4 out_shape() const;
  // Place of a row in lse and the trace, of a key in received and visible.
  std::size_t row(std::int64_t b, std::int64_t h, std::int64_t q) const;
  std::size_t rows() const;
  std::size_t column(std::int64_t b, std::int64_t h, std::int64_t k) const;
  std::size_t columns() const;
  float& query_at(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) const;
  // Of key, value or their scales: a dimension of 1 is repeated.
  float& key_at(const Tensor<float>& of, std::int64_t b, std::int64_t g, std::int64_t k,
                std::int64_t d) const;
  float out_at(const Result& r, std::int64_t b, std::int64_t h, std::int64_t q,
               std::int64_t d) const;
  // Writes NaN and Inf over every key, value and scale, those of pages that nobody uses too, but the ones that seen(b, g, k)
  // names.
  void poison_keys_but(
      const std::function<bool(std::int64_t b, std::int64_t g, std::int64_t k)>& seen);

 private:
  Case() = default;
};

// What a random call may be made of, each with all before it.
enum class Draw {
  floats,  // float32 tensors [batch, heads, tokens, dim]
  types,   // any type of number
  any,     // packed sequences and pages
};

// Any mix of options and shapes; `large` reaches rows of several chunks and stretches of keys.
Case random_case(std::uint64_t seed, bool large = false, Draw draw = Draw::floats);

// How many of `count` rounds to run: QKV_TEST_SCALE times as many, by default all, under a sanitizer or an emulator a tenth.
int scaled(int count);

// Equal bits, with any NaN equal to any other.
bool same_bits(float a, float b);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);
// Index of a row in [B,H,Sq].
inline std::size_t row_index(const Sizes& s, std::int64_t b, std::int64_t h, std::int64_t q) {
  return static_cast<std::size_t>((b * s.heads() + h) * s.queries + q);
}
// A row of a call: everything of the result that belongs to one query.
struct RowAt {
  const Case* call;
  const Result* result;
  std::int64_t b, h, q;
};
// "" or what of two rows differs: out, lse, or one of the trace's numbers for a query.
std::string row_difference(const RowAt& a, const RowAt& b);
// "" or the name of the first array that differs.
std::string difference(const Result& a, const Result& b);
// "" or what of the call's sequences differs from calls of their own.
std::string difference_from_alone(const Case& c, const Result& r);

}  // namespace qkv::tests
