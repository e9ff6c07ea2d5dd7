// The decode kernels for bfloat16 queries, keys and values on a CPU whose dot product takes two bfloat16 at a time
// (vdpbf16ps). Its roundings differ from those of widened numbers: with
//
//   dot(sum, a, b) = fma(a[0], b[0], fma(a[1], b[1], sum)), numbers below 2^−126 taken and left as 0
//
// a score is a chain over pairs of dims, a value sum a chain over pairs of keys. bf16_dots_scalar.h is the specification.
#pragma once

#include <cstdint>

#include "kernels/decode.h"

namespace qkv::kernels {

struct Bf16DotKernels {
  const char* name;

  // scores[r][k] = factor · Σ_d queries[r][d] · keys[k][d]: dots over (0, 1), (2, 3), …, an odd last dim beside a 0; then one
  // multiplication. queries [rows, pairs of dims] as pairs, 0 beyond dim.
  void (*query_dot_keys)(const std::uint32_t* queries, int rows, const StoredRows& keys,
                         const RowsAhead& next, float factor, float* scores);

  // narrow[r][k] = scores[r][k], rounded to nearest even; below 2^−126 it is 0. Rows of both are kScoreStride apart; numbers
  // up to the next multiple of 16 are narrowed too.
  void (*narrow_weights)(const float* scores, int rows, int key_count, std::uint16_t* narrow);

  // acc[r][d] = acc[r][d]·alpha[r], then dots over keys (0, 1), (2, 3), …; an odd last key beside a 0. weights as narrow above.
  void (*weighted_sum_values)(const std::uint16_t* weights, int rows, const StoredRows& values,
                              const RowsAhead& next, const float* alpha, float* acc);
};

// By name, "avx512_bf16" or "scalar" (the specification); null if this build or this CPU lacks it.
const Bf16DotKernels* bf16_dot_kernels_of(const char* name);

}  // namespace qkv::kernels
