// The kernels of rows.h over the vectors of one vec_*.h, which is included before this file.
//
// A row's last, partial vector is computed in a copy filled up with a harmless number, so that every number goes through
// the same operations wherever in the row it stands.
#pragma once

#include <cstdint>

#include "kernels/half.h"
#include "kernels/rows.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

// A partial vector: `count` values of `from`, the rest `fill`.
inline Vec load_part(const float* from, std::int64_t count, float fill) {
  float part[kLanes];
  for (int i = 0; i < kLanes; ++i) part[i] = i < count ? from[i] : fill;
  return load(part);
}

inline void store_part(float* to, std::int64_t count, Vec v) {
  float part[kLanes];
  store(part, v);
  for (int i = 0; i < count; ++i) to[i] = part[i];
}

// values[i] = f(values[i])
template <typename F>
inline void map(float* values, std::int64_t count, const F& f) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(values + i, f(load(values + i)));
  if (i < count) store_part(values + i, count - i, f(load_part(values + i, count - i, 0.0f)));
}

float largest(const float* values, std::int64_t count) {
  const float none = -__builtin_inff();
  // max(x, top) is `top` where x is NaN
  Vec top[4] = {set1(none), set1(none), set1(none), set1(none)};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    QKV_UNROLL for (int v = 0; v < 4; ++v) top[v] = max(load(values + i + v * kLanes), top[v]);
  }
  for (; i + kLanes <= count; i += kLanes) top[0] = max(load(values + i), top[0]);
  if (i < count) top[0] = max(load_part(values + i, count - i, none), top[0]);
  float lanes[kLanes];
  store(lanes, max(max(top[0], top[1]), max(top[2], top[3])));
  float most = none;
  for (int l = 0; l < kLanes; ++l) most = lanes[l] > most ? lanes[l] : most;
  return most;
}

void silu(float* values, std::int64_t count) {
  map(values, count, [](Vec x) { return div(x, add(set1(1.0f), exp2(mul(x, set1(-kLog2E))))); });
}

void gelu(float* values, std::int64_t count) {
  map(values, count, [](Vec x) {
    return mul(mul(set1(0.5f), x), add(set1(1.0f), erf(mul(x, set1(0.7071067812f)))));
  });
}

void gelu_new(float* values, std::int64_t count) {
  map(values, count, [](Vec x) {
    const Vec cubic = fma(mul(mul(x, x), x), set1(0.044715f), x);
    return mul(mul(set1(0.5f), x), add(set1(1.0f), tanh(mul(set1(0.7978845608f), cubic))));
  });
}

void tanh_row(float* values, std::int64_t count) {
  map(values, count, [](Vec x) { return tanh(x); });
}

void widen_half(const std::uint16_t* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = half_to_float(from[i]);
}

void widen_bfloat16(const std::uint16_t* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load_bfloat16(from + i));
  for (; i < count; ++i) to[i] = bfloat16_to_float(from[i]);
}

void widen_int8(const std::int8_t* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load_int8(from + i));
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

void narrow_half(const float* from, std::int64_t count, std::uint16_t* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_half(to + i, load(from + i));
  for (; i < count; ++i) to[i] = float_to_half(from[i]);
}

void narrow_bfloat16(const float* from, std::int64_t count, std::uint16_t* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_bfloat16(to + i, load(from + i));
  for (; i < count; ++i) to[i] = float_to_bfloat16(from[i]);
}

float sum_of_exp(const float* values, std::int64_t count, float shift) {
  const Vec minus = set1(-shift * kLog2E);
  const auto weight = [minus](Vec x) { return exp2(fma(x, set1(kLog2E), minus)); };
  Vec sum[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    QKV_UNROLL for (int v = 0; v < 4; ++v) sum[v] =
        add(sum[v], weight(load(values + i + v * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) sum[0] = add(sum[0], weight(load(values + i)));
  if (i < count) sum[0] = add(sum[0], weight(load_part(values + i, count - i, -__builtin_inff())));
  return sum_lanes(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

void layer_norm(const float* sum, const float* added, const float* weight, const float* bias,
                float epsilon, std::int64_t count, float* out) {
  const float inverse = 1.0f / static_cast<float>(count);
  const std::int64_t whole = count - count % kLanes;
  const std::int64_t rest = count - whole;
  Vec total = set1(0.0f);
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Vec x = added ? add(load(sum + i), load(added + i)) : load(sum + i);
    store(out + i, x);
    total = add(total, x);
  }
  if (rest > 0) {
    Vec x = load_part(sum + whole, rest, 0.0f);
    if (added) x = add(x, load_part(added + whole, rest, 0.0f));
    store_part(out + whole, rest, x);
    total = add(total, x);
  }
  const float mean = sum_lanes(total) * inverse;
  const Vec centre = set1(mean);
  Vec squares = set1(0.0f);
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Vec x = sub(load(out + i), centre);
    squares = fma(x, x, squares);
  }
  if (rest > 0) {
    const Vec x = sub(load_part(out + whole, rest, mean), centre);
    squares = fma(x, x, squares);
  }
  const float factor = 1.0f / __builtin_sqrtf(sum_lanes(squares) * inverse + epsilon);
  const Vec scale = set1(factor);
  for (std::int64_t i = 0; i < whole; i += kLanes)
    store(out + i, fma(mul(sub(load(out + i), centre), scale), load(weight + i), load(bias + i)));
  if (rest > 0)
    store_part(out + whole, rest,
               fma(mul(sub(load_part(out + whole, rest, 0.0f), centre), scale),
                   load_part(weight + whole, rest, 0.0f), load_part(bias + whole, rest, 0.0f)));
}

constexpr RowKernels row_table_of(const char* name) {
  return {.name = name,
          .silu = silu,
          .gelu = gelu,
          .gelu_new = gelu_new,
          .tanh = tanh_row,
          .widen_half = widen_half,
          .widen_bfloat16 = widen_bfloat16,
          .widen_int8 = widen_int8,
          .narrow_half = narrow_half,
          .narrow_bfloat16 = narrow_bfloat16,
          .largest = largest,
          .sum_of_exp = sum_of_exp,
          .layer_norm = layer_norm};
}

}  // namespace
}  // namespace qkv::kernels
