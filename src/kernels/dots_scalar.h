// The specification of dots.h, and the "scalar" instruction set.
#pragma once

#include "kernels/dots.h"

namespace qkv::kernels::scalar {

inline void query_dot_rows(const float* query, const float* rows, int count, int dim,
                           double* dots) {
  constexpr int kSegment = kDotChains * kDotLinks;
  for (int k = 0; k < count; ++k) {
    const float* row = rows + std::int64_t{k} * dim;
    dots[k] = 0;
    for (int begin = 0; begin < dim; begin += kSegment) {
      const int end = dim - begin < kSegment ? dim : begin + kSegment;
      float sum[kDotChains] = {};
      for (int d = begin; d < end; ++d) sum[(d - begin) % kDotChains] += query[d] * row[d];
      for (int half = kDotChains / 2; half > 0; half /= 2)
        for (int c = 0; c < half; ++c) sum[c] += sum[c + half];
      dots[k] += double{sum[0]};
    }
  }
}

inline void query_dot_codes(const std::int16_t* query, const std::int8_t* codes, int count, int dim,
                            std::int32_t* dots) {
  for (int k = 0; k < count; ++k) {
    dots[k] = 0;
    for (int d = 0; d < dim; ++d)
      dots[k] += std::int32_t{query[d]} * codes[std::int64_t{k} * dim + d];
  }
}

}  // namespace qkv::kernels::scalar
