// Four floats: AArch64 Advanced SIMD.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace qkv::kernels {
namespace {

inline constexpr int kLanes = 4;      // floats in a Vec
inline constexpr int kPanelVecs = 4;  // Vecs in a panel
inline constexpr int kTileRows =
    6;  // rows of a tile: 24 accumulators, 4 panel Vecs and a broadcast of 32 registers

inline constexpr int kTileSums = 24;  // accumulators of the largest tile

using Vec = float32x4_t;
using IVec = int32x4_t;
using VMask = uint32x4_t;

inline Vec load(const float* p) { return vld1q_f32(p); }
// Halves, widened: exact.
inline Vec load(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline Vec load_bfloat16(const std::uint16_t* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
inline Vec load_int8(const std::int8_t* p) {
  const float values[4] = {static_cast<float>(p[0]), static_cast<float>(p[1]),
                           static_cast<float>(p[2]), static_cast<float>(p[3])};
  return vld1q_f32(values);
}
inline void store(float* p, Vec v) { vst1q_f32(p, v); }
// The first `count` of a vector's numbers, 0 beyond; reads no further.
template <class T>
struct FirstOf {
  T part[kLanes] = {};
  FirstOf(const T* p, int count) {
    for (int i = 0; i < count; ++i) part[i] = p[i];
  }
};
inline Vec load_first(const float* p, int count) { return load(FirstOf(p, count).part); }
inline Vec load_first(const std::uint16_t* p, int count) { return load(FirstOf(p, count).part); }
inline Vec load_first_bfloat16(const std::uint16_t* p, int count) {
  return load_bfloat16(FirstOf(p, count).part);
}
inline Vec load_first_int8(const std::int8_t* p, int count) {
  return load_int8(FirstOf(p, count).part);
}
// Any bytes, a vector's worth or the first `count` (at least 1) and 0 beyond.
inline Vec load_bits(const void* p) {
  return vreinterpretq_f32_u8(vld1q_u8(static_cast<const std::uint8_t*>(p)));
}
inline Vec load_first_bits(const void* p, int count) {
  std::uint8_t part[16] = {};
  __builtin_memcpy(part, p, static_cast<unsigned>(count));
  return load_bits(part);
}
// Lanes that each hold several narrow numbers: all first ones, all second ones, …
inline void unpack_half(Vec units, Vec (&to)[2]) {
  const uint32x4_t bits = vreinterpretq_u32_f32(units);
  to[0] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(bits)));
  to[1] = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(bits, 16)));
}
inline void unpack_bfloat16(Vec units, Vec (&to)[2]) {
  const uint32x4_t bits = vreinterpretq_u32_f32(units);
  to[0] = vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
  to[1] = vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
}
inline void unpack_int8(Vec units, Vec (&to)[4]) {
  const int32x4_t bits = vreinterpretq_s32_f32(units);
  to[0] = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(bits, 24), 24));
  to[1] = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(bits, 16), 24));
  to[2] = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(bits, 8), 24));
  to[3] = vcvtq_f32_s32(vshrq_n_s32(bits, 24));
}
inline void store_half(std::uint16_t* p, Vec v) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
// Rounded to nearest even; a NaN becomes a quiet one.
inline void store_bfloat16(std::uint16_t* p, Vec v) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16));
}
inline Vec set1(float x) { return vdupq_n_f32(x); }
inline Vec broadcast(const float* p) { return vld1q_dup_f32(p); }
inline Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
inline Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
inline Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
inline Vec div(Vec a, Vec b) { return vdivq_f32(a, b); }
// a·b + c, rounded once
inline Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// The second operand where either is NaN.
inline Vec max(Vec a, Vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline Vec min(Vec a, Vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline Vec abs(Vec a) { return vabsq_f32(a); }
inline Vec sqrt(Vec a) { return vsqrtq_f32(a); }
// Sum of the lanes, in a fixed order.
inline float sum_lanes(Vec a) { return vaddvq_f32(a); }
// The largest lane, where none is NaN.
inline float largest_lane(Vec a) { return vmaxvq_f32(a); }
// (a[0] + a[1]) + (a[2] + a[3]) in the first lane of each four.
inline Vec sum_fours(Vec a) {
  const Vec pairs = vaddq_f32(a, vrev64q_f32(a));
  return vaddq_f32(pairs, vextq_f32(pairs, pairs, 2));
}

inline VMask equal(Vec a, Vec b) { return vceqq_f32(a, b); }
inline VMask less(Vec a, Vec b) { return vcltq_f32(a, b); }
inline VMask mask_or(VMask a, VMask b) { return vorrq_u32(a, b); }
inline bool any(VMask m) { return vmaxvq_u32(m) != 0; }
inline VMask mask_of_bits(std::uint32_t bits) {
  const VMask one = {1, 2, 4, 8};
  return vtstq_u32(vdupq_n_u32(bits), one);
}
inline Vec select(VMask m, Vec yes, Vec no) { return vbslq_f32(m, yes, no); }

inline IVec iload(const std::int32_t* p) { return vld1q_s32(p); }
inline void istore(std::int32_t* p, IVec v) { vst1q_s32(p, v); }
inline IVec iset1(std::int32_t x) { return vdupq_n_s32(x); }
inline IVec iadd(IVec a, IVec b) { return vaddq_s32(a, b); }
inline IVec iselect(VMask m, IVec yes, IVec no) { return vbslq_s32(m, yes, no); }
inline IVec isub(IVec a, IVec b) { return vsubq_s32(a, b); }
inline VMask iless(IVec a, IVec b) { return vcltq_s32(a, b); }
inline Vec to_float(IVec a) { return vcvtq_f32_s32(a); }

// Numbers of 16 bits beside codes of 8: sum's lanes get the products of dims four apart.
inline constexpr int kCodes = 8;  // products a step
using Words = int16x8_t;
inline Words load_words(const std::int16_t* p) { return vld1q_s16(p); }
inline IVec add_products(IVec sum, Words words, const std::int8_t* codes) {
  const int16x8_t wide = vmovl_s8(vld1_s8(codes));
  sum = vmlal_s16(sum, vget_low_s16(words), vget_low_s16(wide));
  return vmlal_s16(sum, vget_high_s16(words), vget_high_s16(wide));
}
inline std::int32_t isum_lanes(IVec a) { return vaddvq_s32(a); }

// Bit i: whether factor·column[i·kStride] ≥ least, for 8 numbers.
template <int kStride>
inline std::uint32_t bits_at_least(const float* column, float factor, float least) {
  std::uint32_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (factor * column[i * kStride] >= least ? 1u : 0u) << i;
  return bits;
}

// x − ⌊x⌋ (0 at ±inf) and p·2^⌊x⌋: the two halves of 2^x. Below 2^−126 the result is 0.
inline Vec clamp_exponent(Vec x) {
  return vminq_f32(vdupq_n_f32(128.0f), vmaxq_f32(vdupq_n_f32(-127.0f), x));
}
inline Vec fraction(Vec x) {
  const Vec y = clamp_exponent(x);
  return vsubq_f32(y, vrndmq_f32(y));
}
inline Vec scale_by_exponent(Vec p, Vec x) {
  const IVec n = vcvtq_s32_f32(vrndmq_f32(clamp_exponent(x)));
  return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)));
}

// Transposes a kLanes × kLanes block: r[i][j] ↔ r[j][i].
inline void transpose(Vec (&r)[kLanes]) {
  const float32x4x2_t a = vtrnq_f32(r[0], r[1]);
  const float32x4x2_t b = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

// Lane i: the sum of r[i]'s lanes, neighbours first.
inline Vec sums_of_lanes(const Vec (&r)[kLanes]) {
  return vpaddq_f32(vpaddq_f32(r[0], r[1]), vpaddq_f32(r[2], r[3]));
}

}  // namespace
}  // namespace qkv::kernels
