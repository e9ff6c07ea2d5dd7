// One call of attention with everything it needs: made at random from a seed, or by hand.
#pragma once

#include <cstdint>
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
  Sizes sizes;
  Tensor<float> query, key, value;
  Tensor<bool> mask;   // empty: none
  Tensor<float> bias;  // empty: none
  std::vector<float> sinks, slopes;
  std::vector<std::int32_t> key_lengths;
  Layout out_layout;
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
  // The same numbers, densely packed.
  Case dense() const;
  // Whether query q may see key k, read from the documentation of the options and from nothing else.
  bool sees(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const;
  std::string describe() const;
  // A part of the call, dense: these batch entries, key heads (with their query heads), queries and keys. key_lengths are cut
  // to what is left of them; it is up to the caller that the queries keep their positions.
  Case part(Range batch, Range heads_kv, Range queries, Range keys) const;
  Case part_of_queries(Range queries) const {
    return part({0, sizes.batch}, {0, sizes.heads_kv}, queries, {0, sizes.keys});
  }

 private:
  Case() = default;
};

// Any mix of options and shapes; `large` reaches rows of several chunks and stretches of keys.
Case random_case(std::uint64_t seed, bool large = false);

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

}  // namespace qkv::tests
