// The specification of decode.h, and the "scalar" instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/decode.h"
#include "kernels/half.h"

namespace qkv::kernels::scalar {

// How one element is stored and what number it is.
struct Float {
  using Stored = float;
  static float widen(float x) { return x; }
};
struct Half {
  using Stored = std::uint16_t;
  static float widen(std::uint16_t x) { return half_to_float(x); }
};
struct Bfloat16 {
  using Stored = std::uint16_t;
  static float widen(std::uint16_t x) { return bfloat16_to_float(x); }
};
struct Int8 {
  using Stored = std::int8_t;
  static float widen(std::int8_t x) { return static_cast<float>(x); }
};

template <class E>
const typename E::Stored* row_of(const StoredRows& rows, std::int64_t r) {
  return static_cast<const typename E::Stored*>(rows.data) + r * rows.stride;
}

// scores[r][k] = Σ_d queries[r][d] · keys[k][d]
template <class E>
void query_dot_keys_rows(const float* queries, int rows, const StoredRows& keys, const RowsAhead&,
                         float* scores) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < keys.count; ++k) {
      float sum = 0;
      for (int d = 0; d < keys.dim; ++d)
        sum += queries[r * keys.dim + d] * E::widen(row_of<E>(keys, k)[d]);
      scores[r * kScoreStride + k] = sum;
    }
}

// acc[d] = acc[d]·alpha + Σ_i weights[i] · values[listed[i]][d]
template <class E>
void weighted_sum_listed_values(const float* weights, const std::int32_t* listed, int count,
                                const StoredRows& values, float alpha, float* acc) {
  for (int d = 0; d < values.dim; ++d) {
    float sum = acc[d] * alpha;
    for (int i = 0; i < count; ++i)
      sum += weights[i] * E::widen(row_of<E>(values, listed == nullptr ? i : listed[i])[d]);
    acc[d] = sum;
  }
}

template <class E>
void weighted_sum_values_rows(const float* weights, int rows, const StoredRows& values,
                              const RowsAhead&, const float* alpha, float* acc) {
  for (int r = 0; r < rows; ++r)
    weighted_sum_listed_values<E>(weights + r * kScoreStride, nullptr, values.count, values,
                                  alpha[r], acc + r * acc_stride(values.dim));
}

template <class E>
bool all_finite_rows(const StoredRows& rows) {
  for (int r = 0; r < rows.count; ++r)
    for (int d = 0; d < rows.dim; ++d)
      if (!std::isfinite(E::widen(row_of<E>(rows, r)[d]))) return false;
  return true;
}

inline void scale_row(float* row, int key_count, const float* factor) {
  for (int k = 0; k < key_count; ++k) row[k] *= factor[k];
}

inline void softcap_row(float* row, int key_count, float cap, float factor) {
  for (int k = 0; k < key_count; ++k) row[k] = cap * factor * std::tanh(row[k] / cap);
}

inline void add_alibi_row(float* row, int key_count, std::int32_t first_key, std::int32_t position,
                          float slope) {
  for (int k = 0; k < key_count; ++k)
    row[k] -= slope * std::fabs(static_cast<float>(position - (first_key + k)));
}

inline void softmax_rows(float* scores, int rows, int key_count, const SoftmaxState& state) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  for (int r = 0; r < rows; ++r) {
    float* row = scores + r * kScoreStride;
    const float before = state.max[r];
    float top = before;
    for (int k = 0; k < key_count; ++k)
      if (row[k] > top) top = row[k];
    const float shift = top == kNone ? 0.0f : top;
    state.alpha[r] = std::exp2(before - shift);
    float sum = state.sum[r] * state.alpha[r];
    float spread = 0;
    for (int k = 0; k < key_count; ++k) {
      const float away = row[k] - shift;
      sum += row[k] = std::exp2(away);
      if (row[k] != 0) spread += row[k] * away;
    }
    if (state.spread != nullptr) {
      const float moved = before == kNone ? 0.0f : before - shift;
      state.spread[r] = (state.spread[r] + moved * state.sum[r]) * state.alpha[r] + spread;
    }
    state.max[r] = top;
    state.sum[r] = sum;
  }
}

// With M = max(total.max, part.max): sum and acc[d] of each side times 2^(its max − M), added; spread too, after it has got
// (its max − M)·sum.
inline void merge_rows(int dim, const SoftmaxState& total, float* total_acc,
                       const SoftmaxState& part, const float* part_acc) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const float both = *total.max > *part.max ? *total.max : *part.max;
  const float shift = both == kNone ? 0.0f : both;
  const float scale_total = std::exp2(*total.max - shift);
  const float scale_part = std::exp2(*part.max - shift);
  if (total.spread != nullptr) {
    const auto moved = [&](const SoftmaxState& side) {
      return *side.spread + (*side.max == kNone ? 0.0f : *side.max - shift) * *side.sum;
    };
    *total.spread = moved(total) * scale_total + moved(part) * scale_part;
  }
  *total.max = both;
  *total.sum = *total.sum * scale_total + *part.sum * scale_part;
  for (int d = 0; d < dim; ++d)
    total_acc[d] = total_acc[d] * scale_total + part_acc[d] * scale_part;
}

template <class E>
constexpr ElementKernels element_kernels() {
  return {.query_dot_keys = query_dot_keys_rows<E>,
          .weighted_sum_values = weighted_sum_values_rows<E>,
          .weighted_sum_listed_values = weighted_sum_listed_values<E>,
          .all_finite = all_finite_rows<E>};
}

}  // namespace qkv::kernels::scalar
