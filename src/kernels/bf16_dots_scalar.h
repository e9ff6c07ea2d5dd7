// The specification of bf16_dots.h.
#pragma once

#include <cstdint>

#include "kernels/bf16_dots.h"
#include "kernels/pairs_scalar.h"

namespace qkv::kernels::scalar {

inline const std::uint16_t* bf16_row(const StoredRows& rows, int r) {
  return static_cast<const std::uint16_t*>(rows.data) + r * rows.stride;
}

inline void bf16_query_dot_keys(const std::uint32_t* queries, int rows, const StoredRows& keys,
                                const RowsAhead&, float factor, float* scores) {
  const int pairs = (keys.dim + 1) / 2;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < keys.count; ++k) {
      const std::uint16_t* key = bf16_row(keys, k);
      float sum = 0;
      for (int i = 0; i < pairs; ++i) {
        const std::uint16_t second = 2 * i + 1 < keys.dim ? key[2 * i + 1] : std::uint16_t{0};
        sum = dot(sum, pair_of(key[2 * i], second), queries[r * pairs + i]);
      }
      scores[r * kScoreStride + k] = factor * sum;
    }
}

inline void narrow_weights(const float* scores, int rows, int key_count, std::uint16_t* narrow) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < (key_count + 15) / 16 * 16; ++k)
      narrow[r * kScoreStride + k] = rounded_weight(scores[r * kScoreStride + k]);
}

inline void bf16_weighted_sum_values(const std::uint16_t* weights, int rows,
                                     const StoredRows& values, const RowsAhead&, const float* alpha,
                                     float* acc) {
  for (int r = 0; r < rows; ++r)
    for (int d = 0; d < values.dim; ++d) {
      const std::uint16_t* weight = weights + r * kScoreStride;
      float& sum = acc[r * acc_stride(values.dim) + d];
      sum *= alpha[r];
      for (int k = 0; k < values.count; k += 2) {
        const std::uint16_t second =
            k + 1 < values.count ? bf16_row(values, k + 1)[d] : std::uint16_t{0};
        sum = dot(sum, pair_of(bf16_row(values, k)[d], second), pair_of(weight[k], weight[k + 1]));
      }
    }
}

}  // namespace qkv::kernels::scalar
