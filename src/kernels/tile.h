// The kernels of kernels.h over the vectors of one vec_*.h, which is included before this file. What each computes stands
// in kernels.h and, as plain loops, in scalar.h.
//
// Everything is in an unnamed namespace, so that an object compiled for a newer CPU exports nothing an older one could be
// linked to. A tile keeps rows × panel sums in registers; rows are keys (query_dot_keys), dims of the value
// (weighted_sum_values) or tokens (linear), lanes are queries or output features.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tile_backward.h"
#include "kernels/tile_panel.h"
#include "kernels/tile_softmax.h"
#include "kernels/tile_trace.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

// sums[r][lane] = start + Σ_i packed[i][lane] · rows[r][i], kRows rows by kVecs vectors held in registers.
// Packed numbers are floats or halves, which widen exactly: the sums have the same bits either way.
template <int kRows, int kVecs, typename Packed, class Seen>
inline void dot_tile(const Packed* packed, const float* rows, std::int64_t row_stride, int count,
                     const Vec (&start)[kVecs], float* sums, std::int64_t sums_stride, Seen& seen) {
  Vec sum[kRows][kVecs];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = start[v];
  }
  for (int i = 0; i < count; ++i) {
    Vec lane[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) lane[v] = load(packed + i * kPanel + v * kLanes);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec x = broadcast(rows + r * row_stride + i);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = fma(x, lane[v], sum[r][v]);
    }
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v)
        store(sums + r * sums_stride + v * kLanes, sum[r][v]);
  }
  seen.add(sum);
}

// All rows of kVecs vectors of a panel, in full tiles and a rest in tiles of 4, 2, 1.
template <int kVecs, typename Packed, class Seen>
inline void dot_rows(const Packed* packed, const float* rows, std::int64_t row_stride,
                     int row_count, int count, const Vec (&start)[kVecs], float* sums,
                     std::int64_t sums_stride, Seen& seen) {
  constexpr int kRows = kRowsOf<kVecs>;
  int r = 0;
  for (; full_tile_fits(row_count - r, kRows); r += kRows)
    dot_tile<kRows, kVecs>(packed, rows + r * row_stride, row_stride, count, start,
                           sums + r * sums_stride, sums_stride, seen);
  for (; r + 4 <= row_count; r += 4)
    dot_tile<4, kVecs>(packed, rows + r * row_stride, row_stride, count, start,
                       sums + r * sums_stride, sums_stride, seen);
  for (; r + 2 <= row_count; r += 2)
    dot_tile<2, kVecs>(packed, rows + r * row_stride, row_stride, count, start,
                       sums + r * sums_stride, sums_stride, seen);
  if (r < row_count)
    dot_tile<1, kVecs>(packed, rows + r * row_stride, row_stride, count, start,
                       sums + r * sums_stride, sums_stride, seen);
}

void pack_queries(const float* rows, std::int64_t row_stride, int count, int dim, float factor,
                  float* packed) {
  const Vec f = set1(factor);
  for (int first = 0; first < kPanel; first += kLanes) {
    int d = 0;
    if (first + kLanes <= count) {
      for (; d + kLanes <= dim; d += kLanes) {
        Vec block[kLanes];
        QKV_UNROLL for (int i = 0; i < kLanes; ++i) block[i] =
            mul(f, load(rows + (first + i) * row_stride + d));
        transpose(block);
        QKV_UNROLL for (int i = 0; i < kLanes; ++i)
            store(packed + (d + i) * kPanel + first, block[i]);
      }
    }
    // few queries (one, when a decoder writes) must not cost as much as a panel: zeros in one go, then what is there
    const int lanes = count - first < kLanes ? (count - first < 0 ? 0 : count - first) : kLanes;
    for (; d < dim; ++d) {
      float* lane = packed + d * kPanel + first;
      store(lane, set1(0.0f));
      for (int i = 0; i < lanes; ++i) lane[i] = factor * rows[(first + i) * row_stride + d];
    }
  }
}

void query_dot_keys(const float* packed, const float* keys, std::int64_t key_stride, int key_count,
                    int dim, int first_lane, float* scores, float* top) {
  for_vectors_from(first_lane, [&]<int kVecs>() {
    Vec zero[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) zero[v] = set1(0.0f);
    with_tops<kVecs>(top == nullptr ? nullptr : top + first_lane, [&](auto& seen) {
      dot_rows<kVecs>(packed + first_lane, keys, key_stride, key_count, dim, zero,
                      scores + first_lane, kPanel, seen);
    });
  });
}

void scale_rows(float* scores, int key_count, const float* factor) {
  for (int k = 0; k < key_count; ++k) {
    const Vec f = set1(factor[k]);
    for (int v = 0; v < kPanel; v += kLanes)
      store(scores + k * kPanel + v, mul(load(scores + k * kPanel + v), f));
  }
}

void softcap(float* scores, int key_count, float cap, float factor) {
  const Vec inverse = set1(1.0f / cap);
  const Vec scale = set1(cap * factor);
  for (int i = 0; i < key_count * kPanel; i += kLanes)
    store(scores + i, mul(scale, tanh(mul(load(scores + i), inverse))));
}

void add_alibi(float* scores, int key_count, std::int32_t first_key, const std::int32_t* position,
               float slope) {
  const Vec minus_slope = set1(-slope);
  for (int k = 0; k < key_count; ++k) {
    const IVec key = iset1(first_key + k);
    for (int v = 0; v < kPanel; v += kLanes) {
      float* s = scores + k * kPanel + v;
      store(s, fma(minus_slope, abs(to_float(isub(iload(position + v), key))), load(s)));
    }
  }
}

void mask_outside(float* scores, int key_count, std::int32_t first_key, const std::int32_t* begin,
                  const std::int32_t* end) {
  const Vec hidden = set1(-kInfinity);
  for (int k = 0; k < key_count; ++k) {
    const IVec key = iset1(first_key + k);
    const IVec next = iset1(first_key + k + 1);
    for (int v = 0; v < kPanel; v += kLanes) {
      float* s = scores + k * kPanel + v;
      const VMask outside = mask_or(iless(key, iload(begin + v)), iless(iload(end + v), next));
      store(s, select(outside, hidden, load(s)));
    }
  }
}

void softmax(float* scores, int key_count, const SoftmaxState& state) {
  softmax_panel<false>(scores, key_count, state, WeightsInPlace{scores});
}

void softmax_traced(float* scores, int key_count, const SoftmaxState& state) {
  softmax_panel<true>(scores, key_count, state, WeightsInPlace{scores});
}

// acc[d][lane] for kDims dims and kVecs vectors; values, weights, alpha and acc point at the first of them.
template <int kDims, int kVecs>
inline void value_tile(const float* weights, const float* values, std::int64_t value_stride,
                       int key_count, const float* alpha, float* acc, bool fresh) {
  Vec sum[kDims][kVecs];
  start_sums(acc, alpha, fresh, sum);
  for (int k = 0; k < key_count; ++k) {
    Vec weight[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) weight[v] = load(weights + k * kPanel + v * kLanes);
    const float* value = values + k * value_stride;
    // a row per key, and rows of 512 bytes share few cache sets: without this 5% slower at 128 dims
    __builtin_prefetch(value + 8 * value_stride + kDims - 1);
    QKV_UNROLL for (int d = 0; d < kDims; ++d) {
      const Vec x = broadcast(value + d);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[d][v] = fma(x, weight[v], sum[d][v]);
    }
  }
  QKV_UNROLL for (int d = 0; d < kDims; ++d) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(acc + d * kPanel + v * kLanes, sum[d][v]);
  }
}

void weighted_sum_values(const float* weights, const float* values, std::int64_t value_stride,
                         int key_count, int dim, const float* alpha, int first_lane, float* acc,
                         bool fresh) {
  weights += first_lane;
  acc += first_lane;
  if (alpha != nullptr) alpha += first_lane;
  for_vectors_from(first_lane, [&]<int kVecs>() {
    constexpr int kDims = kRowsOf<kVecs>;
    int d = 0;
    for (; full_tile_fits(dim - d, kDims); d += kDims)
      value_tile<kDims, kVecs>(weights, values + d, value_stride, key_count, alpha,
                               acc + d * kPanel, fresh);
    for (; d + 4 <= dim; d += 4)
      value_tile<4, kVecs>(weights, values + d, value_stride, key_count, alpha, acc + d * kPanel,
                           fresh);
    for (; d < dim; ++d)
      value_tile<1, kVecs>(weights, values + d, value_stride, key_count, alpha, acc + d * kPanel,
                           fresh);
  });
}

void weighted_sum_visible_values(const float* weights, const float* values,
                                 std::int64_t value_stride, int key_count, int dim,
                                 const float* alpha, float* acc, const LaneBits* hidden) {
  for (int v = 0; v < kPanel; v += kLanes) {
    for (int d = 0; d < dim; ++d) {
      Vec sum = mul(load(acc + d * kPanel + v), load(alpha + v));
      for (int k = 0; k < key_count; ++k) {
        const Vec next =
            fma(broadcast(values + k * value_stride + d), load(weights + k * kPanel + v), sum);
        sum = select(mask_of_bits(static_cast<std::uint32_t>(hidden[k] >> v)), sum, next);
      }
      store(acc + d * kPanel + v, sum);
    }
  }
}

bool all_finite(const float* rows, std::int64_t row_stride, int row_count, int dim) {
  // x·0 is 0 for a finite x and NaN otherwise
  Vec sum = set1(0.0f);
  float rest = 0;
  for (int r = 0; r < row_count; ++r) {
    const float* row = rows + r * row_stride;
    int d = 0;
    for (; d + kLanes <= dim; d += kLanes) sum = fma(load(row + d), set1(0.0f), sum);
    for (; d < dim; ++d) rest += row[d] * 0.0f;
  }
  return sum_lanes(sum) + rest == 0.0f;
}

void merge_states(int dim, const SoftmaxState& total, float* total_acc, const SoftmaxState& part,
                  const float* part_acc) {
  for (int v = 0; v < kPanel; v += kLanes) {
    const Vec a = load(total.max + v);
    const Vec b = load(part.max + v);
    // NaN in either must stay: max returns its second operand then, and a − shift, b − shift are NaN where they matter
    const Vec both = max(a, b);
    const Vec shift = select(equal(both, set1(-kInfinity)), set1(0.0f), both);
    const Vec scale_total = exp2(sub(a, shift));
    const Vec scale_part = exp2(sub(b, shift));
    if (total.spread != nullptr) {
      const Vec from_total = moved_spread(load(total.spread + v), a, shift, load(total.sum + v));
      const Vec from_part = moved_spread(load(part.spread + v), b, shift, load(part.sum + v));
      store(total.spread + v, fma(from_part, scale_part, mul(from_total, scale_total)));
    }
    store(total.max + v, both);
    store(total.sum + v,
          fma(load(part.sum + v), scale_part, mul(load(total.sum + v), scale_total)));
    for (int d = 0; d < dim; ++d) {
      float* t = total_acc + d * kPanel + v;
      store(t, fma(load(part_acc + d * kPanel + v), scale_part, mul(load(t), scale_total)));
    }
  }
}

// out[lane][d] by put(to, vector), which stores a vector of numbers in the type of out.
template <typename Out, typename Put>
inline void write_rows(const float* acc, const float* factor, int count, int dim, Out* out,
                       std::int64_t out_stride, const Put& put) {
  for (int first = 0; first < count; first += kLanes) {
    const Vec f = load(factor + first);
    int d = 0;
    if (first + kLanes <= count) {
      for (; d + kLanes <= dim; d += kLanes) {
        // rows of out are far apart: ask for the lines of the next block while this one is turned
        for (int i = 0; i < kLanes; ++i)
          __builtin_prefetch(out + (first + i) * out_stride + d + 2 * kLanes, 1);
        Vec block[kLanes];
        // + 0 turns a −0 that an underflow left into the 0 that a row without masked keys would have
        QKV_UNROLL for (int i = 0; i < kLanes; ++i) block[i] =
            add(mul(f, load(acc + (d + i) * kPanel + first)), set1(0.0f));
        transpose(block);
        QKV_UNROLL for (int i = 0; i < kLanes; ++i)
            put(out + (first + i) * out_stride + d, block[i]);
      }
    }
    for (; d < dim; ++d) {
      Out column[kLanes];
      put(column, add(mul(f, load(acc + d * kPanel + first)), set1(0.0f)));
      for (int i = 0; i < kLanes && first + i < count; ++i)
        out[(first + i) * out_stride + d] = column[i];
    }
  }
}

void write_outputs(const float* acc, const float* factor, int count, int dim, float* out,
                   std::int64_t out_stride) {
  write_rows(acc, factor, count, dim, out, out_stride, [](float* to, Vec v) { store(to, v); });
}

void write_outputs_half(const float* acc, const float* factor, int count, int dim,
                        std::uint16_t* out, std::int64_t out_stride) {
  write_rows(acc, factor, count, dim, out, out_stride,
             [](std::uint16_t* to, Vec v) { store_half(to, v); });
}

void write_outputs_bfloat16(const float* acc, const float* factor, int count, int dim,
                            std::uint16_t* out, std::int64_t out_stride) {
  write_rows(acc, factor, count, dim, out, out_stride,
             [](std::uint16_t* to, Vec v) { store_bfloat16(to, v); });
}

void normalise(const float* scores, int key_count, const float* shift, const float* factor,
               float* weights) {
  for (int v = 0; v < kPanel; v += kLanes) {
    const Vec s = load(shift + v);
    const Vec f = load(factor + v);
    const Vec safe = select(equal(s, set1(-kInfinity)), set1(0.0f), s);
    for (int k = 0; k < key_count; ++k) {
      const Vec score = load(scores + k * kPanel + v);
      const Vec weight = mul(f, exp2(sub(score, safe)));
      // −inf − (+inf) or 0·inf would be NaN: a hidden key weighs exactly 0
      store(weights + k * kPanel + v, select(equal(score, set1(-kInfinity)), set1(0.0f), weight));
    }
  }
}

// y[r][first..] for `panels` neighbouring panels and one row: the panels' streams keep enough loads in flight.
template <int kPanels, typename Packed>
inline void linear_row(const Packed* packed, std::int64_t panel_size, const float* bias,
                       const float* x, int in, float* y) {
  Vec sum[kPanels][kPanelVecs];
  QKV_UNROLL for (int p = 0; p < kPanels; ++p) {
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) sum[p][v] =
        bias ? load(bias + p * kPanel + v * kLanes) : set1(0.0f);
  }
  for (int i = 0; i < in; ++i) {
    const Vec xi = broadcast(x + i);
    QKV_UNROLL for (int p = 0; p < kPanels; ++p) {
      QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) sum[p][v] =
          fma(xi, load(packed + p * panel_size + i * kPanel + v * kLanes), sum[p][v]);
    }
  }
  QKV_UNROLL for (int p = 0; p < kPanels; ++p) {
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) store(y + p * kPanel + v * kLanes, sum[p][v]);
  }
}

template <typename Packed>
void linear(const Packed* packed, const float* bias, const float* x, std::int64_t x_stride,
            int rows, int in, int out, float* y, std::int64_t y_stride) {
  const std::int64_t panel_size = static_cast<std::int64_t>(in) * kPanel;
  NoTops none;
  int first = 0;
  if (rows == 1) {
    constexpr int kPanels = 4;
    for (; first + kPanels * kPanel <= out; first += kPanels * kPanel)
      linear_row<kPanels>(packed + (first / kPanel) * panel_size, panel_size,
                          bias ? bias + first : nullptr, x, in, y + first);
  }
  for (; first < out; first += kPanel) {
    const Packed* panel = packed + (first / kPanel) * panel_size;
    const int width = out - first < kPanel ? out - first : kPanel;
    Vec start[kPanelVecs];
    float padded[kPanel];
    for (int i = 0; i < kPanel; ++i) padded[i] = bias && i < width ? bias[first + i] : 0.0f;
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) start[v] = load(padded + v * kLanes);
    if (width == kPanel) {
      dot_rows<kPanelVecs>(panel, x, x_stride, rows, in, start, y + first, y_stride, none);
      continue;
    }
    for (int r = 0; r < rows; ++r) {
      float row[kPanel];
      dot_tile<1, kPanelVecs>(panel, x + r * x_stride, x_stride, in, start, row, kPanel, none);
      for (int i = 0; i < width; ++i) y[r * y_stride + first + i] = row[i];
    }
  }
}

// The table of this instruction set.
constexpr Kernels table_of(const char* name, const Kernels* narrow) {
  return {.name = name,
          .panel = kPanel,
          .step = kLanes,
          .narrow = narrow,
          .pairs = nullptr,
          .pack_queries = pack_queries,
          .query_dot_keys = query_dot_keys,
          .scale_rows = scale_rows,
          .softcap = softcap,
          .add_alibi = add_alibi,
          .mask_outside = mask_outside,
          .softmax = softmax,
          .softmax_traced = softmax_traced,
          .weighted_sum_values = weighted_sum_values,
          .weighted_sum_visible_values = weighted_sum_visible_values,
          .all_finite = all_finite,
          .merge_states = merge_states,
          .write_outputs = write_outputs,
          .write_outputs_half = write_outputs_half,
          .write_outputs_bfloat16 = write_outputs_bfloat16,
          .normalise = normalise,
          .weigh_keys = weigh_keys,
          .best_keys = best_keys,
          .softmax_gradients = softmax_gradients,
          .softcap_gradients = softcap_gradients,
          .weighted_sum_queries = weighted_sum_queries,
          .linear = linear<float>,
          .linear_half = linear<std::uint16_t>};
}

}  // namespace
}  // namespace qkv::kernels
