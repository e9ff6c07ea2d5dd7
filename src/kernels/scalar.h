// The specification of kernels.h: every kernel as a plain loop, one lane after the other.
// It is also the "scalar" instruction set. The whole operator as plain loops, in any precision: attention/reference.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/half.h"
#include "kernels/kernels.h"

namespace qkv::kernels::scalar {

inline constexpr int kPanel = 8;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline void pack_queries(const float* rows, std::int64_t row_stride, int count, int dim,
                         float factor, float* packed) {
  for (int d = 0; d < dim; ++d)
    for (int lane = 0; lane < kPanel; ++lane)
      packed[d * kPanel + lane] = lane < count ? factor * rows[lane * row_stride + d] : 0.0f;
}

// scores[k][lane] = Σ_d packed[d][lane] · keys[k][d]
inline void query_dot_keys(const float* packed, const float* keys, std::int64_t key_stride,
                           int key_count, int dim, int first_lane, float* scores, float* top) {
  if (top != nullptr) std::fill(top + first_lane, top + kPanel, -kInfinity);
  for (int k = 0; k < key_count; ++k)
    for (int lane = first_lane; lane < kPanel; ++lane) {
      float sum = 0;
      for (int d = 0; d < dim; ++d) sum += packed[d * kPanel + lane] * keys[k * key_stride + d];
      scores[k * kPanel + lane] = sum;
      if (top != nullptr && sum > top[lane]) top[lane] = sum;
    }
}

inline void scale_rows(float* scores, int key_count, const float* factor) {
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < kPanel; ++lane) scores[k * kPanel + lane] *= factor[k];
}

inline void softcap(float* scores, int key_count, float cap, float factor) {
  for (int i = 0; i < key_count * kPanel; ++i)
    scores[i] = cap * factor * std::tanh(scores[i] / cap);
}

inline void add_alibi(float* scores, int key_count, std::int32_t first_key,
                      const std::int32_t* position, float slope) {
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < kPanel; ++lane)
      scores[k * kPanel + lane] -=
          slope * std::fabs(static_cast<float>(position[lane] - (first_key + k)));
}

inline void mask_outside(float* scores, int key_count, std::int32_t first_key,
                         const std::int32_t* begin, const std::int32_t* end) {
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < kPanel; ++lane)
      if (first_key + k < begin[lane] || first_key + k >= end[lane])
        scores[k * kPanel + lane] = -kInfinity;
}

// max' = max(max, scores); alpha = 2^(max − max'); weights = 2^(scores − max'); sum' = sum·alpha + Σ weights;
// spread' = (spread + (max − max')·sum)·alpha + Σ weights·(scores − max')
inline void softmax_traced(float* scores, int key_count, const SoftmaxState& state) {
  for (int lane = 0; lane < kPanel; ++lane) {
    const float before = state.max[lane];
    float top = before;
    for (int k = 0; k < key_count; ++k)
      if (scores[k * kPanel + lane] > top) top = scores[k * kPanel + lane];
    const float shift = top == -kInfinity ? 0.0f : top;
    state.alpha[lane] = std::exp2(before - shift);
    float sum = state.sum[lane] * state.alpha[lane];
    float spread = 0;
    for (int k = 0; k < key_count; ++k) {
      float& s = scores[k * kPanel + lane];
      const float away = s - shift;
      const float weight = std::exp2(away);
      s = weight;
      sum += weight;
      if (weight != 0) spread += weight * away;
    }
    if (state.spread != nullptr) {
      const float moved = before == -kInfinity ? 0.0f : before - shift;
      const float kept = (state.spread[lane] + moved * state.sum[lane]) * state.alpha[lane];
      state.spread[lane] = kept + spread;
    }
    state.max[lane] = top;
    state.sum[lane] = sum;
  }
}

inline void softmax(float* scores, int key_count, const SoftmaxState& state) {
  softmax_traced(scores, key_count, {state.max, state.sum, state.alpha});
}

// acc[d][lane] = acc[d][lane]·alpha[lane] + Σ_k weights[k][lane] · values[k][d]
inline void weighted_sum_visible_values(const float* weights, const float* values,
                                        std::int64_t value_stride, int key_count, int dim,
                                        const float* alpha, float* acc, const LaneBits* hidden) {
  for (int d = 0; d < dim; ++d)
    for (int lane = 0; lane < kPanel; ++lane) {
      float sum = acc[d * kPanel + lane] * alpha[lane];
      for (int k = 0; k < key_count; ++k)
        if ((hidden[k] >> lane & 1) == 0)
          sum += weights[k * kPanel + lane] * values[k * value_stride + d];
      acc[d * kPanel + lane] = sum;
    }
}

inline void weighted_sum_values(const float* weights, const float* values,
                                std::int64_t value_stride, int key_count, int dim,
                                const float* alpha, int first_lane, float* acc, bool fresh) {
  for (int d = 0; d < dim; ++d)
    for (int lane = first_lane; lane < kPanel; ++lane) {
      const float before = fresh ? 0.0f : acc[d * kPanel + lane];
      float sum = before * (alpha != nullptr && !fresh ? alpha[lane] : 1.0f);
      for (int k = 0; k < key_count; ++k)
        sum += weights[k * kPanel + lane] * values[k * value_stride + d];
      acc[d * kPanel + lane] = sum;
    }
}

inline bool all_finite(const float* rows, std::int64_t row_stride, int row_count, int dim) {
  for (int r = 0; r < row_count; ++r)
    for (int d = 0; d < dim; ++d)
      if (!std::isfinite(rows[r * row_stride + d])) return false;
  return true;
}

// With M = max(total.max, part.max): sum and acc of each side times 2^(its max − M), added; spread too, after it has got
// (its max − M)·sum.
inline void merge_states(int dim, const SoftmaxState& total, float* total_acc,
                         const SoftmaxState& part, const float* part_acc) {
  for (int lane = 0; lane < kPanel; ++lane) {
    const float both = total.max[lane] > part.max[lane] ? total.max[lane] : part.max[lane];
    const float shift = both == -kInfinity ? 0.0f : both;
    const float scale_total = std::exp2(total.max[lane] - shift);
    const float scale_part = std::exp2(part.max[lane] - shift);
    if (total.spread != nullptr) {
      const auto moved = [&](const SoftmaxState& side) {
        const float by = side.max[lane] == -kInfinity ? 0.0f : side.max[lane] - shift;
        return side.spread[lane] + by * side.sum[lane];
      };
      total.spread[lane] = moved(total) * scale_total + moved(part) * scale_part;
    }
    total.max[lane] = both;
    total.sum[lane] = total.sum[lane] * scale_total + part.sum[lane] * scale_part;
    for (int d = 0; d < dim; ++d) {
      float& t = total_acc[d * kPanel + lane];
      t = t * scale_total + part_acc[d * kPanel + lane] * scale_part;
    }
  }
}

inline void write_outputs(const float* acc, const float* factor, int count, int dim, float* out,
                          std::int64_t out_stride) {
  for (int lane = 0; lane < count; ++lane)
    for (int d = 0; d < dim; ++d)
      out[lane * out_stride + d] = factor[lane] * acc[d * kPanel + lane] + 0.0f;  // −0 becomes 0
}

inline void write_outputs_half(const float* acc, const float* factor, int count, int dim,
                               std::uint16_t* out, std::int64_t out_stride) {
  for (int lane = 0; lane < count; ++lane)
    for (int d = 0; d < dim; ++d)
      out[lane * out_stride + d] = float_to_half(factor[lane] * acc[d * kPanel + lane] + 0.0f);
}

inline void write_outputs_bfloat16(const float* acc, const float* factor, int count, int dim,
                                   std::uint16_t* out, std::int64_t out_stride) {
  for (int lane = 0; lane < count; ++lane)
    for (int d = 0; d < dim; ++d)
      out[lane * out_stride + d] = float_to_bfloat16(factor[lane] * acc[d * kPanel + lane] + 0.0f);
}

inline void normalise(const float* scores, int key_count, const float* shift, const float* factor,
                      float* weights) {
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < kPanel; ++lane) {
      const float s = scores[k * kPanel + lane];
      const float from = shift[lane] == -kInfinity ? 0.0f : shift[lane];
      weights[k * kPanel + lane] = s == -kInfinity ? 0.0f : factor[lane] * std::exp2(s - from);
    }
}

// weights = 2^(scores − shift); d_scores = weights · (d_weights − delta)
inline void softmax_gradients(float* scores, float* d_weights, int key_count, const float* shift,
                              const float* delta) {
  for (int k = 0; k < key_count; ++k)
    for (int lane = 0; lane < kPanel; ++lane) {
      float& s = scores[k * kPanel + lane];
      float& d = d_weights[k * kPanel + lane];
      const float from = shift[lane] == -kInfinity ? 0.0f : shift[lane];
      s = s == -kInfinity ? 0.0f : std::exp2(s - from);
      d = s == 0 ? 0.0f : s * (d - delta[lane]);
    }
}

inline void softcap_gradients(float* d_scores, const float* capped, int key_count, float cap) {
  for (int i = 0; i < key_count * kPanel; ++i) {
    const float t = capped[i] / cap;
    if (d_scores[i] != 0) d_scores[i] *= 1 - t * t;
  }
}

// acc[k][d] += Σ_i weights[k][i] · rows[i][d]
inline void weighted_sum_queries(const float* weights, int key_count, const float* rows,
                                 std::int64_t row_stride, int row_count, int dim, float* acc,
                                 std::int64_t acc_stride) {
  for (int k = 0; k < key_count; ++k)
    for (int d = 0; d < dim; ++d) {
      float sum = acc[k * acc_stride + d];
      for (int i = 0; i < row_count; ++i) sum += weights[k * kPanel + i] * rows[i * row_stride + d];
      acc[k * acc_stride + d] = sum;
    }
}

inline void weigh_keys(const float* weights, int key_count, const float* factor, float* largest,
                       float* mass) {
  for (int k = 0; k < key_count; ++k) {
    float* top = largest + (k / kKeyGroup) * kPanel;
    mass[k] = 0;
    for (int lane = 0; lane < kPanel; ++lane) {
      const float p = factor[lane] * weights[k * kPanel + lane];
      mass[k] += p;
      if (k % kKeyGroup == 0) top[lane] = 0;
      if (p > top[lane]) top[lane] = p;
    }
  }
}

// Makes room for x in front of the first smaller one of list[0], list[kPanel], …; what falls off the end is lost.
inline void insert(float x, std::int32_t index, int slots, float* list, std::int32_t* indices) {
  int slot = slots;
  for (; slot > 0 && list[(slot - 1) * kPanel] < x; --slot)
    if (slot < slots) {
      list[slot * kPanel] = list[(slot - 1) * kPanel];
      indices[slot * kPanel] = indices[(slot - 1) * kPanel];
    }
  if (slot == slots) return;
  list[slot * kPanel] = x;
  indices[slot * kPanel] = index;
}

inline void best_keys(const float* weights, const float* factor, int first, const float*,
                      int group_count, int slots, float* top_weights, std::int32_t* top_keys) {
  std::fill_n(top_weights, slots * kPanel, 0.0f);
  std::fill_n(top_keys, slots * kPanel, -1);
  for (int k = 0; k < group_count * kKeyGroup; ++k)
    for (int lane = 0; lane < kPanel; ++lane) {
      const float f = factor[(first + k) / kMaxChunk * kPanel + lane];
      insert(f * weights[std::int64_t{k} * kPanel + lane], k, slots, top_weights + lane,
             top_keys + lane);
    }
}

inline float widen(float value) { return value; }
inline float widen(std::uint16_t half) { return half_to_float(half); }

// y[r][o] = bias[o] + Σ_i x[r][i] · packed[o / panel][i][o % panel]
template <typename Packed>
inline void linear(const Packed* packed, const float* bias, const float* x, std::int64_t x_stride,
                   int rows, int in, int out, float* y, std::int64_t y_stride) {
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < out; ++o) {
      const Packed* panel =
          packed + static_cast<std::int64_t>(o / kPanel) * in * kPanel + o % kPanel;
      float sum = bias != nullptr ? bias[o] : 0.0f;
      for (int i = 0; i < in; ++i)
        sum += x[r * x_stride + i] * widen(panel[static_cast<std::int64_t>(i) * kPanel]);
      y[r * y_stride + o] = sum;
    }
}

}  // namespace qkv::kernels::scalar
