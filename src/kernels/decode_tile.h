// The kernels of decode.h over the vectors of one vec_*.h, which is included before this file.
//
// Scores: a block of keys (kLanes of them) is turned in registers so that lanes are keys, in units of 32 bits that hold one
// float, two halves or four bytes; then the units are widened. Values: lanes are dims.
#pragma once

#include <cstdint>

#include "kernels/decode.h"
#include "kernels/decode_ahead.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

// How one element is stored, loaded and, after turning, unpacked.
struct Float {
  using Stored = float;
  static Vec load_row(const float* p) { return load(p); }
  static Vec load_row(const float* p, int count) { return load_first(p, count); }
  static void unpack(Vec units, Vec (&to)[1]) { to[0] = units; }
};
struct Half {
  using Stored = std::uint16_t;
  static Vec load_row(const std::uint16_t* p) { return load(p); }
  static Vec load_row(const std::uint16_t* p, int count) { return load_first(p, count); }
  static void unpack(Vec units, Vec (&to)[2]) { unpack_half(units, to); }
};
struct Bfloat16 {
  using Stored = std::uint16_t;
  static Vec load_row(const std::uint16_t* p) { return load_bfloat16(p); }
  static Vec load_row(const std::uint16_t* p, int count) { return load_first_bfloat16(p, count); }
  static void unpack(Vec units, Vec (&to)[2]) { unpack_bfloat16(units, to); }
};
struct Int8 {
  using Stored = std::int8_t;
  static Vec load_row(const std::int8_t* p) { return load_int8(p); }
  static Vec load_row(const std::int8_t* p, int count) { return load_first_int8(p, count); }
  static void unpack(Vec units, Vec (&to)[4]) { unpack_int8(units, to); }
};

template <class E>
const typename E::Stored* row_of(const StoredRows& rows, std::int64_t r) {
  return static_cast<const typename E::Stored*>(rows.data) + r * rows.stride;
}

// kRows rows of scores against kBlocks blocks of keys from `first` on. A chain of multiply-adds over d waits for each of its
// links: kBlocks·kRows chains go along together. Turned blocks pass through memory, since registers cannot hold them all.
template <class E, int kRows, int kBlocks>
inline void dot_blocks(const float* queries, const StoredRows& keys, int first, Asker& asker,
                       float* scores) {
  constexpr int kPer = 4 / static_cast<int>(sizeof(typename E::Stored));  // numbers of a unit
  constexpr int kDims = kLanes * kPer;
  constexpr int kLines = (kBlocks * kLanes * 4 + 63) / 64;  // that a unit of every block takes up
  const int dim = keys.dim;
  Vec sum[kBlocks][kRows];
  QKV_UNROLL for (int b = 0; b < kBlocks; ++b) {
    QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[b][r] = set1(0.0f);
  }
  for (int d = 0; d < dim; d += kDims) {
    float units[kBlocks][kLanes][kLanes];
    for (int b = 0; b < kBlocks; ++b) {
      const int begin = first + b * kLanes;
      const int last = keys.count - 1 - begin;  // lanes beyond repeat this key
      const auto* block = row_of<E>(keys, begin) + d;
      Vec turned[kLanes];
      if (d + kDims <= dim && last >= kLanes - 1) {
        QKV_UNROLL for (int i = 0; i < kLanes; ++i) turned[i] = load_bits(block + i * keys.stride);
      } else {
        const int rest = dim - d < kDims ? dim - d : kDims;
        const int bytes = rest * static_cast<int>(sizeof(typename E::Stored));
        for (int i = 0; i < kLanes; ++i)
          turned[i] = load_first_bits(block + (i < last ? i : last) * keys.stride, bytes);
      }
      transpose(turned);
      QKV_UNROLL for (int i = 0; i < kLanes; ++i) store(units[b][i], turned[i]);
    }
    const auto add = [&](int i, int count) {
      asker.ask<kLines>();
      Vec x[kBlocks][kPer];
      QKV_UNROLL for (int b = 0; b < kBlocks; ++b) E::unpack(load(units[b][i]), x[b]);
      QKV_UNROLL for (int j = 0; j < kPer; ++j) {
        if (j >= count) break;
        QKV_UNROLL for (int r = 0; r < kRows; ++r) {
          const Vec query = set1(queries[std::int64_t{r} * dim + d + i * kPer + j]);
          QKV_UNROLL for (int b = 0; b < kBlocks; ++b) sum[b][r] = fma(x[b][j], query, sum[b][r]);
        }
      }
    };
    const int whole = dim - d < kDims ? (dim - d) / kPer : kLanes;
    int i = 0;
    for (; i < whole; ++i) add(i, kPer);
    if (d + i * kPer < dim && i < kLanes) add(i, dim - d - i * kPer);
  }
  QKV_UNROLL for (int b = 0; b < kBlocks; ++b) {
    QKV_UNROLL for (int r = 0; r < kRows; ++r)
        store(scores + r * kScoreStride + first + b * kLanes, sum[b][r]);
  }
}

// Blocks of keys that go along together: the shorter the numbers, the longer the chain that a line of memory takes.
template <class E>
constexpr int blocks_of(int rows) {
  constexpr int kPer = 4 / static_cast<int>(sizeof(typename E::Stored));
  return rows == 1 ? 2 * kPer : rows == 2 ? (kPer == 1 ? 2 : 4) : rows <= 4 ? 2 : 1;
}

// Keys from `first` on, kBlocks blocks at a time, and what is left over in halves of that.
template <class E, int kRows, int kBlocks>
inline void dot_from(int first, const float* queries, const StoredRows& keys, Asker& asker,
                     float* scores) {
  for (; first + (kBlocks - 1) * kLanes < keys.count; first += kBlocks * kLanes)
    dot_blocks<E, kRows, kBlocks>(queries, keys, first, asker, scores);
  if constexpr (kBlocks > 1) dot_from<E, kRows, kBlocks / 2>(first, queries, keys, asker, scores);
}

template <class E, int kRows>
void dot_rows(const float* queries, const StoredRows& keys, const RowsAhead& next, float* scores) {
  Asker asker(keys, sizeof(typename E::Stored), next);
  dot_from<E, kRows, blocks_of<E>(kRows)>(0, queries, keys, asker, scores);
}

template <class E>
void query_dot_keys_rows(const float* queries, int rows, const StoredRows& keys,
                         const RowsAhead& next, float* scores) {
  by_groups(rows, [&]<int kRows>(int r) {
    dot_rows<E, kRows>(queries + std::int64_t{r} * keys.dim, keys, r == 0 ? next : RowsAhead{},
                       scores + std::int64_t{r} * kScoreStride);
  });
}

// acc[r][d…] for kRows rows and kVecs vectors of dims over keys [begin, end), each number a chain over k. kPart: the one vector
// is the last, partial one.
template <class E, int kRows, int kVecs, bool kPart>
inline void value_tile(const float* weights, const StoredRows& values, int begin, int end, int d,
                       Asker& asker, const float* alpha, float* acc) {
  const std::int64_t stride = acc_stride(values.dim);
  constexpr int kLines = (kVecs * kLanes * static_cast<int>(sizeof(typename E::Stored)) + 63) / 64;
  Vec sum[kRows][kVecs];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    const Vec factor = set1(begin == 0 ? alpha[r] : 1.0f);
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] =
        mul(load(acc + r * stride + d + v * kLanes), factor);
  }
  const auto* value = row_of<E>(values, begin) + d;
  for (int k = begin; k < end; ++k, value += values.stride) {
    asker.ask<kLines>();
    Vec x[kVecs];
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) x[v] =
        kPart ? E::load_row(value, values.dim - d) : E::load_row(value + v * kLanes);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec weight = set1(weights[r * kScoreStride + k]);
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) sum[r][v] = fma(x[v], weight, sum[r][v]);
    }
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(acc + r * stride + d + v * kLanes, sum[r][v]);
  }
}

template <class E>
void weighted_sum_values_rows(const float* weights, int rows, const StoredRows& values,
                              const RowsAhead& next, const float* alpha, float* acc) {
  const std::int64_t stride = acc_stride(values.dim);
  Asker asker(values, sizeof(typename E::Stored), next);
  // every tile of dims goes over the same few keys before any goes on: those are in the first-level cache then
  const int step = rows_ahead(values.dim * static_cast<int>(sizeof(typename E::Stored)));
  for (int begin = 0; begin < values.count; begin += step) {
    const int end = values.count - begin < step ? values.count : begin + step;
    by_groups(rows, [&]<int kRows>(int r) {
      // sums that fit into the registers beside a vector of values for each of kVecs and a weight
      constexpr int kSums = kLanes == 8 ? 8 : 16;
      constexpr int kVecs = kRows == 1   ? 8
                            : kRows == 2 ? kSums / 2
                            : kRows <= 4 ? kSums / 4
                                         : kSums / 8;
      const float* w = weights + std::int64_t{r} * kScoreStride;
      float* to = acc + r * stride;
      int d = 0;
      for (; d + kVecs * kLanes <= values.dim; d += kVecs * kLanes)
        value_tile<E, kRows, kVecs, false>(w, values, begin, end, d, asker, alpha + r, to);
      for (; d + kLanes <= values.dim; d += kLanes)
        value_tile<E, kRows, 1, false>(w, values, begin, end, d, asker, alpha + r, to);
      if (d < values.dim)
        value_tile<E, kRows, 1, true>(w, values, begin, end, d, asker, alpha + r, to);
    });
  }
}

template <class E>
void weighted_sum_listed_values(const float* weights, const std::int32_t* listed, int count,
                                const StoredRows& values, float alpha, float* acc) {
  for (int d = 0; d < values.dim; d += kLanes) {
    Vec sum = mul(load(acc + d), set1(alpha));
    for (int i = 0; i < count; ++i) {
      const auto* value = row_of<E>(values, listed[i]) + d;
      const Vec x =
          d + kLanes <= values.dim ? E::load_row(value) : E::load_row(value, values.dim - d);
      sum = fma(x, set1(weights[i]), sum);
    }
    store(acc + d, sum);
  }
}

template <class E>
bool all_finite_rows(const StoredRows& rows) {
  // x·0 is 0 for a finite x and NaN otherwise
  Vec sum[2] = {set1(0.0f), set1(0.0f)};
  for (int r = 0; r < rows.count; ++r) {
    const auto* row = row_of<E>(rows, r);
    int d = 0;
    for (; d + 2 * kLanes <= rows.dim; d += 2 * kLanes) {
      sum[0] = fma(E::load_row(row + d), set1(0.0f), sum[0]);
      sum[1] = fma(E::load_row(row + d + kLanes), set1(0.0f), sum[1]);
    }
    for (; d + kLanes <= rows.dim; d += kLanes)
      sum[0] = fma(E::load_row(row + d), set1(0.0f), sum[0]);
    if (d < rows.dim) sum[0] = fma(E::load_row(row + d, rows.dim - d), set1(0.0f), sum[0]);
  }
  return sum_lanes(add(sum[0], sum[1])) == 0.0f;
}

// row[k] = f(row[k], k); up to a vector beyond the last is overwritten.
template <class F>
inline void map_row(float* row, int key_count, const F& f) {
  for (int k = 0; k < key_count; k += kLanes) store(row + k, f(load(row + k), k));
}

void scale_row(float* row, int key_count, const float* factor) {
  map_row(row, key_count, [&](Vec x, int k) {
    return mul(x,
               k + kLanes <= key_count ? load(factor + k) : load_first(factor + k, key_count - k));
  });
}

void softcap_row(float* row, int key_count, float cap, float factor) {
  const Vec inverse = set1(1.0f / cap);
  const Vec scale = set1(cap * factor);
  map_row(row, key_count, [&](Vec x, int) { return mul(scale, tanh(mul(x, inverse))); });
}

void add_alibi_row(float* row, int key_count, std::int32_t first_key, std::int32_t position,
                   float slope) {
  constexpr std::int32_t kCount[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Vec minus_slope = set1(-slope);
  const IVec lanes = iload(kCount);
  map_row(row, key_count, [&](Vec x, int k) {
    return fma(minus_slope, abs(to_float(isub(iset1(position - first_key - k), lanes))), x);
  });
}

// What a row's weights add up to, four keys at a time as the panel's softmax adds them.
struct Fours {
  float sum[kMaxChunk / 4];     // Σ weights
  float spread[kMaxChunk / 4];  // Σ weights·(score − max), for a trace
};

// The weights of one row, and their fours. With a trace state.spread moves to the new maximum.
template <bool kTraced>
inline void weigh_row(float* row, int key_count, const SoftmaxState& state, int r, Fours& fours) {
  const float none = -__builtin_inff();
  const int whole = (key_count + kLanes - 1) / kLanes * kLanes;
  for (int k = key_count; k < whole; ++k) row[k] = none;
  // max(x, top) is `top` where x is NaN
  Vec top[2] = {set1(none), set1(none)};
  int k = 0;
  for (; k + 2 * kLanes <= whole; k += 2 * kLanes) {
    top[0] = max(load(row + k), top[0]);
    top[1] = max(load(row + k + kLanes), top[1]);
  }
  if (k < whole) top[0] = max(load(row + k), top[0]);
  const float highest = largest_lane(max(top[0], top[1]));
  const float old_max = state.max[r];
  const float new_max = highest > old_max ? highest : old_max;
  const float shift = new_max == none ? 0.0f : new_max;
  float away[kTraced ? kMaxChunk : 1];
  for (k = 0; k < whole; k += kLanes) {
    const Vec x = sub(load(row + k), set1(shift));
    const Vec w = exp2(x);
    store(row + k, w);
    // as weigh_four of tile_softmax.h: no 0 · −inf, and a NaN passes
    if constexpr (kTraced) store(away + k, max(set1(-256.0f), x));
    float sums[kLanes];
    store(sums, sum_fours(w));
    QKV_UNROLL for (int i = 0; i < kLanes; i += 4) fours.sum[(k + i) / 4] = sums[i];
  }
  float alpha[kLanes];
  store(alpha, exp2(set1(old_max - shift)));
  if constexpr (kTraced) {
    for (int i = 0; i < whole; i += 4)
      fours.spread[i / 4] = __builtin_fmaf(row[i + 1], away[i + 1], row[i] * away[i]) +
                            __builtin_fmaf(row[i + 3], away[i + 3], row[i + 2] * away[i + 2]);
    const float by = old_max == none ? 0.0f : old_max - shift;
    state.spread[r] = __builtin_fmaf(by, state.sum[r], state.spread[r]) * alpha[0];
  }
  state.max[r] = new_max;
  state.alpha[r] = alpha[0];
}

template <bool kTraced>
inline void softmax_of_rows(float* scores, int rows, int key_count, const SoftmaxState& state) {
  constexpr int kTogether = 4;  // chains of additions that go along together
  for (int first = 0; first < rows; first += kTogether) {
    const int count = rows - first < kTogether ? rows - first : kTogether;
    Fours fours[kTogether];
    float sum[kTogether];
    for (int r = 0; r < count; ++r) {
      weigh_row<kTraced>(scores + std::int64_t{first + r} * kScoreStride, key_count, state,
                         first + r, fours[r]);
      sum[r] = state.sum[first + r] * state.alpha[first + r];
    }
    const int groups = (key_count + 3) / 4;
    if (count == kTogether) {
      for (int g = 0; g < groups; ++g) {
        QKV_UNROLL for (int r = 0; r < kTogether; ++r) sum[r] += fours[r].sum[g];
      }
    } else {
      for (int r = 0; r < count; ++r)
        for (int g = 0; g < groups; ++g) sum[r] += fours[r].sum[g];
    }
    for (int r = 0; r < count; ++r) {
      state.sum[first + r] = sum[r];
      for (int g = 0; kTraced && g < groups; ++g) state.spread[first + r] += fours[r].spread[g];
    }
  }
}

void softmax_rows(float* scores, int rows, int key_count, const SoftmaxState& state) {
  (state.spread == nullptr ? softmax_of_rows<false> : softmax_of_rows<true>)(scores, rows,
                                                                             key_count, state);
}

void merge_rows(int dim, const SoftmaxState& total, float* total_acc, const SoftmaxState& part,
                const float* part_acc) {
  const Vec a = set1(*total.max);
  const Vec b = set1(*part.max);
  const Vec both = max(a, b);
  const Vec shift = select(equal(both, set1(-__builtin_inff())), set1(0.0f), both);
  const Vec scale_total = exp2(sub(a, shift));
  const Vec scale_part = exp2(sub(b, shift));
  float lanes[kLanes];
  if (total.spread != nullptr) {
    const Vec from_total = moved_spread(set1(*total.spread), a, shift, set1(*total.sum));
    const Vec from_part = moved_spread(set1(*part.spread), b, shift, set1(*part.sum));
    store(lanes, fma(from_part, scale_part, mul(from_total, scale_total)));
    *total.spread = lanes[0];
  }
  store(lanes, both);
  *total.max = lanes[0];
  store(lanes, fma(set1(*part.sum), scale_part, mul(set1(*total.sum), scale_total)));
  *total.sum = lanes[0];
  for (int d = 0; d < dim; d += kLanes)
    store(total_acc + d,
          fma(load(part_acc + d), scale_part, mul(load(total_acc + d), scale_total)));
}

template <class E>
constexpr ElementKernels element_kernels() {
  return {.query_dot_keys = query_dot_keys_rows<E>,
          .weighted_sum_values = weighted_sum_values_rows<E>,
          .weighted_sum_listed_values = weighted_sum_listed_values<E>,
          .all_finite = all_finite_rows<E>};
}

constexpr DecodeKernels decode_table_of(const char* name) {
  return {.name = name,
          .of = {element_kernels<Float>(), element_kernels<Half>(), element_kernels<Bfloat16>(),
                 element_kernels<Int8>()},
          .scale = scale_row,
          .softcap = softcap_row,
          .add_alibi = add_alibi_row,
          .softmax = softmax_rows,
          .merge_states = merge_rows};
}

}  // namespace
}  // namespace qkv::kernels
