// The kernels of dots.h over the vectors of one vec_*.h, which is included before this file: lanes are dims, and a few rows go along
// together, so that the query is loaded once for them and one row's chain does not wait alone.
#pragma once

#include <cstdint>

#include "kernels/dots.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

constexpr int kTogether = 4;                 // rows
constexpr int kParts = kDotChains / kLanes;  // vectors that hold the chains

// dots[r] += Σ query[d] · rows[r·dim + d] over `count` dims, at most kDotChains·kDotLinks
template <int kRows>
inline void dot_segment(const float* query, const float* rows, int dim, int count, double* dots) {
  Vec sum[kRows][kParts];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int p = 0; p < kParts; ++p) sum[r][p] = set1(0.0f);
  }
  int d = 0;
  for (; d + kDotChains <= count; d += kDotChains) {
    QKV_UNROLL for (int p = 0; p < kParts; ++p) {
      const Vec q = load(query + d + p * kLanes);
      QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[r][p] =
          fma(q, load(rows + std::int64_t{r} * dim + d + p * kLanes), sum[r][p]);
    }
  }
  QKV_UNROLL for (int p = 0; p < kParts; ++p) {
    const int from = d + p * kLanes;
    const int rest = count - from < kLanes ? count - from : kLanes;
    if (rest <= 0) break;
    const Vec q = load_first(query + from, rest);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[r][p] =
        fma(q, load_first(rows + std::int64_t{r} * dim + from, rest), sum[r][p]);
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    for (int half = kParts / 2; half > 0; half /= 2)
      for (int p = 0; p < half; ++p) sum[r][p] = add(sum[r][p], sum[r][p + half]);
    dots[r] += static_cast<double>(sum_lanes(sum[r][0]));
  }
}

template <int kRows>
inline void dot_whole(const float* query, const float* rows, int dim, double* dots) {
  constexpr int kSegment = kDotChains * kDotLinks;
  QKV_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = 0;
  for (int d = 0; d < dim; d += kSegment)
    dot_segment<kRows>(query + d, rows + d, dim, dim - d < kSegment ? dim - d : kSegment, dots);
}

void query_dot_rows_of(const float* query, const float* rows, int count, int dim, double* dots) {
  int k = 0;
  for (; k + kTogether <= count; k += kTogether)
    dot_whole<kTogether>(query, rows + std::int64_t{k} * dim, dim, dots + k);
  for (; k < count; ++k) dot_whole<1>(query, rows + std::int64_t{k} * dim, dim, dots + k);
}

// sum of kRows rows' codes with the query; products are added in pairs, in lanes of 32 bits
template <int kRows>
inline void dot_codes(const std::int16_t* query, const std::int8_t* codes, int dim,
                      std::int32_t* dots) {
  IVec sum[kRows];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[r] = iset1(0);
  int d = 0;
  for (; d + kCodes <= dim; d += kCodes) {
    const Words q = load_words(query + d);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[r] =
        add_products(sum[r], q, codes + std::int64_t{r} * dim + d);
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    dots[r] = isum_lanes(sum[r]);
    for (int rest = d; rest < dim; ++rest)
      dots[r] += std::int32_t{query[rest]} * codes[std::int64_t{r} * dim + rest];
  }
}

void query_dot_codes_of(const std::int16_t* query, const std::int8_t* codes, int count, int dim,
                        std::int32_t* dots) {
  int k = 0;
  for (; k + kTogether <= count; k += kTogether)
    dot_codes<kTogether>(query, codes + std::int64_t{k} * dim, dim, dots + k);
  for (; k < count; ++k) dot_codes<1>(query, codes + std::int64_t{k} * dim, dim, dots + k);
}

constexpr DotKernels dot_table_of(const char* name) {
  return {.name = name, .query_dot_rows = query_dot_rows_of, .query_dot_codes = query_dot_codes_of};
}

}  // namespace
}  // namespace qkv::kernels
