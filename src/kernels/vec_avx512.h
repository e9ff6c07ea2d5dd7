// Sixteen floats: AVX-512 F, BW, DQ, VL.
#pragma once

#include <immintrin.h>

#include <cstdint>

// GCC 12 warns of _mm512_undefined_ps() inside its own header (GCC bug 105593), at the place it is inlined to.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace qkv::kernels {
namespace {

inline constexpr int kLanes = 16;  // floats in a Vec
// With two multiply-add units the loads of a tile limit it: 6 rows by 4 Vecs load 10 times for 24 multiply-adds and reach
// 93% of the peak from L1, 12 by 2 load 14 times and reach 85%. Few queries take a narrower panel.
#if !defined(QKV_PANEL_VECS)
#define QKV_PANEL_VECS 4
#endif
inline constexpr int kPanelVecs = QKV_PANEL_VECS;  // Vecs in a panel
// rows of a tile: up to 24 accumulators, the panel's Vecs and a broadcast of 32 registers; 8 fill two units of latency 4
inline constexpr int kTileRows = kPanelVecs == 4 ? 6 : kPanelVecs == 2 ? 12 : 8;

inline constexpr int kTileSums = 24;  // accumulators of the largest tile

using Vec = __m512;
using IVec = __m512i;
using VMask = __mmask16;

inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
// Halves, widened: exact.
inline Vec load(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_bfloat16(const std::uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
inline Vec load_int8(const std::int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
// The first `count` of a vector's numbers, 0 beyond; reads no further.
inline Vec load_first(const float* p, int count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
}
inline Vec load_first(const std::uint16_t* p, int count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), p));
}
inline Vec load_first_bfloat16(const std::uint16_t* p, int count) {
  const __m256i halves = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
inline Vec load_first_int8(const std::int8_t* p, int count) {
  const __m128i bytes = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1), p);
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
// Any bytes, a vector's worth or the first `count` (at least 1) and 0 beyond.
inline Vec load_bits(const void* p) { return _mm512_loadu_ps(p); }
inline Vec load_first_bits(const void* p, int count) {
  return _mm512_castsi512_ps(_mm512_maskz_loadu_epi8(~__mmask64{0} >> (64 - count), p));
}
// Lanes that each hold several narrow numbers: all first ones, all second ones, …
inline void unpack_half(Vec units, Vec (&to)[2]) {
  const __m512i order =
      _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1,  //
                       30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i sorted = _mm512_permutexvar_epi16(order, _mm512_castps_si512(units));
  to[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(sorted));
  to[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(sorted, 1));
}
inline void unpack_bfloat16(Vec units, Vec (&to)[2]) {
  const __m512i bits = _mm512_castps_si512(units);
  to[0] = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  to[1] = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-0x10000)));
}
inline void unpack_int8(Vec units, Vec (&to)[4]) {
  const __m512i bits = _mm512_castps_si512(units);
  to[0] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bits, 24), 24));
  to[1] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bits, 16), 24));
  to[2] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bits, 8), 24));
  to[3] = _mm512_cvtepi32_ps(_mm512_srai_epi32(bits, 24));
}
inline void store_half(std::uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// Rounded to nearest even; a NaN becomes a quiet one.
inline void store_bfloat16(std::uint16_t* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i result = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}
inline Vec set1(float x) { return _mm512_set1_ps(x); }
// One broadcast that several multiply-adds share: the empty statement keeps the compiler from folding it into each of them,
// which would double the loads.
inline Vec broadcast(const float* p) {
  Vec v = _mm512_set1_ps(*p);
  __asm__("" : "+v"(v));
  return v;
}
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
// a·b + c, rounded once
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand where either is NaN.
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec abs(Vec a) { return _mm512_abs_ps(a); }
inline Vec sqrt(Vec a) { return _mm512_sqrt_ps(a); }
// Sum of the lanes, in a fixed order.
inline float sum_lanes(Vec a) { return _mm512_reduce_add_ps(a); }
// The largest lane, where none is NaN.
inline float largest_lane(Vec a) { return _mm512_reduce_max_ps(a); }
// (a[0] + a[1]) + (a[2] + a[3]) in the first lane of each four.
inline Vec sum_fours(Vec a) {
  const Vec pairs = _mm512_add_ps(a, _mm512_permute_ps(a, 0xb1));
  return _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0x4e));
}

inline VMask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline VMask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline VMask mask_or(VMask a, VMask b) { return static_cast<VMask>(a | b); }
inline bool any(VMask m) { return m != 0; }
inline VMask mask_of_bits(std::uint32_t bits) { return static_cast<VMask>(bits); }
inline Vec select(VMask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }

inline IVec iload(const std::int32_t* p) { return _mm512_loadu_si512(p); }
inline void istore(std::int32_t* p, IVec v) { _mm512_storeu_si512(p, v); }
inline IVec iset1(std::int32_t x) { return _mm512_set1_epi32(x); }
inline IVec iadd(IVec a, IVec b) { return _mm512_add_epi32(a, b); }
inline IVec iselect(VMask m, IVec yes, IVec no) { return _mm512_mask_blend_epi32(m, no, yes); }
inline IVec isub(IVec a, IVec b) { return _mm512_sub_epi32(a, b); }
inline VMask iless(IVec a, IVec b) { return _mm512_cmp_epi32_mask(a, b, _MM_CMPINT_LT); }
inline Vec to_float(IVec a) { return _mm512_cvtepi32_ps(a); }

// Numbers of 16 bits beside codes of 8: sum's lanes get the products of two neighbours each. Widening codes to 16 bits takes a query of
// 16 bits, whose rounding is lost beside the codes'; vpdpbusd's 8 would double it, and memory is slower than either.
inline constexpr int kCodes = 32;  // products a step
using Words = __m512i;
inline Words load_words(const std::int16_t* p) { return _mm512_loadu_si512(p); }
inline IVec add_products(IVec sum, Words words, const std::int8_t* codes) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  return _mm512_add_epi32(sum, _mm512_madd_epi16(words, _mm512_cvtepi8_epi16(bytes)));
}
inline std::int32_t isum_lanes(IVec a) { return _mm512_reduce_add_epi32(a); }

// Bit i: whether factor·column[i·kStride] ≥ least, for 8 numbers. Loaded one by one: twice as quick as a gather.
template <int kStride>
inline std::uint32_t bits_at_least(const float* column, float factor, float least) {
  const __m256 x = _mm256_setr_ps(column[0], column[kStride], column[2 * kStride],
                                  column[3 * kStride], column[4 * kStride], column[5 * kStride],
                                  column[6 * kStride], column[7 * kStride]);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(
      _mm256_cmp_ps(_mm256_mul_ps(_mm256_set1_ps(factor), x), _mm256_set1_ps(least), _CMP_GE_OQ)));
}

// x − ⌊x⌋ (0 at ±inf) and p·2^⌊x⌋: the two halves of 2^x.
inline Vec fraction(Vec x) {
  return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
inline Vec scale_by_exponent(Vec p, Vec x) { return _mm512_scalef_ps(p, x); }

// Transposes a kLanes × kLanes block: r[i][j] ↔ r[j][i].
inline void transpose(Vec (&r)[kLanes]) {
  Vec t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Lane i: the sum of r[i]'s lanes, halves added to halves until one is left.
inline Vec sums_of_lanes(const Vec (&r)[kLanes]) {
  Vec pair[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    pair[i] =
        add(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]), _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
  Vec four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    four[i] = add(_mm512_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0x44),
                  _mm512_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0xee));
  const Vec low = add(_mm512_shuffle_f32x4(four[0], four[1], 0x88),
                      _mm512_shuffle_f32x4(four[0], four[1], 0xdd));
  const Vec high = add(_mm512_shuffle_f32x4(four[2], four[3], 0x88),
                       _mm512_shuffle_f32x4(four[2], four[3], 0xdd));
  return add(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

}  // namespace
}  // namespace qkv::kernels
