// Eight floats: AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace qkv::kernels {
namespace {

inline constexpr int kLanes = 8;      // floats in a Vec
inline constexpr int kPanelVecs = 2;  // Vecs in a panel
inline constexpr int kTileRows =
    6;  // rows of a tile: 12 accumulators, 2 panel Vecs and a broadcast of 16 registers

inline constexpr int kTileSums = 12;  // accumulators of the largest tile

using Vec = __m256;
using IVec = __m256i;
using VMask = __m256;

inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
// Halves, widened: exact.
inline Vec load(const std::uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load_bfloat16(const std::uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
inline Vec load_int8(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
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
  return _mm256_castsi256_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline Vec load_first_bits(const void* p, int count) {
  alignas(32) unsigned char part[32] = {};
  __builtin_memcpy(part, p, static_cast<unsigned>(count));
  return load_bits(part);
}
// Lanes that each hold several narrow numbers: all first ones, all second ones, …
inline void unpack_half(Vec units, Vec (&to)[2]) {
  const __m256i bits = _mm256_castps_si256(units);
  const __m256i first = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff));
  const __m256i packed = _mm256_packus_epi32(first, _mm256_srli_epi32(bits, 16));
  const __m256i sorted = _mm256_permute4x64_epi64(packed, 0xd8);
  to[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(sorted));
  to[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(sorted, 1));
}
inline void unpack_bfloat16(Vec units, Vec (&to)[2]) {
  const __m256i bits = _mm256_castps_si256(units);
  to[0] = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  to[1] = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(-0x10000)));
}
inline void unpack_int8(Vec units, Vec (&to)[4]) {
  const __m256i bits = _mm256_castps_si256(units);
  to[0] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(bits, 24), 24));
  to[1] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(bits, 16), 24));
  to[2] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(bits, 8), 24));
  to[3] = _mm256_cvtepi32_ps(_mm256_srai_epi32(bits, 24));
}
inline void store_half(std::uint16_t* p, Vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// Rounded to nearest even; a NaN becomes a quiet one.
inline void store_bfloat16(std::uint16_t* p, Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
}
inline Vec set1(float x) { return _mm256_set1_ps(x); }
inline Vec broadcast(const float* p) { return _mm256_broadcast_ss(p); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
// a·b + c, rounded once
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
// The second operand where either is NaN.
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
// Sum of the lanes, in a fixed order.
inline float sum_lanes(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
// The largest lane, where none is NaN.
inline float largest_lane(Vec a) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
// (a[0] + a[1]) + (a[2] + a[3]) in the first lane of each four.
inline Vec sum_fours(Vec a) {
  const Vec pairs = _mm256_add_ps(a, _mm256_permute_ps(a, 0xb1));
  return _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0x4e));
}

inline VMask equal(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
inline VMask less(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline VMask mask_or(VMask a, VMask b) { return _mm256_or_ps(a, b); }
inline bool any(VMask m) { return _mm256_movemask_ps(m) != 0; }
inline VMask mask_of_bits(std::uint32_t bits) {
  const IVec one = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const IVec all = _mm256_set1_epi32(static_cast<int>(bits));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, one), one));
}
inline Vec select(VMask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, m); }

inline IVec iload(const std::int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const IVec*>(p));
}
inline void istore(std::int32_t* p, IVec v) { _mm256_storeu_si256(reinterpret_cast<IVec*>(p), v); }
inline IVec iset1(std::int32_t x) { return _mm256_set1_epi32(x); }
inline IVec iadd(IVec a, IVec b) { return _mm256_add_epi32(a, b); }
inline IVec iselect(VMask m, IVec yes, IVec no) {
  return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(m));
}
inline IVec isub(IVec a, IVec b) { return _mm256_sub_epi32(a, b); }
inline VMask iless(IVec a, IVec b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a)); }
inline Vec to_float(IVec a) { return _mm256_cvtepi32_ps(a); }

// Numbers of 16 bits beside codes of 8: sum's lanes get the products of two neighbours each.
inline constexpr int kCodes = 16;  // products a step
using Words = __m256i;
inline Words load_words(const std::int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline IVec add_products(IVec sum, Words words, const std::int8_t* codes) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_cvtepi8_epi16(bytes)));
}
inline std::int32_t isum_lanes(IVec a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

// Bit i: whether factor·column[i·kStride] ≥ least, for 8 numbers. Loaded one by one: twice as quick as a gather.
template <int kStride>
inline std::uint32_t bits_at_least(const float* column, float factor, float least) {
  const __m256 x = _mm256_setr_ps(column[0], column[kStride], column[2 * kStride],
                                  column[3 * kStride], column[4 * kStride], column[5 * kStride],
                                  column[6 * kStride], column[7 * kStride]);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(
      _mm256_cmp_ps(_mm256_mul_ps(_mm256_set1_ps(factor), x), _mm256_set1_ps(least), _CMP_GE_OQ)));
}

// x − ⌊x⌋ (0 at ±inf) and p·2^⌊x⌋: the two halves of 2^x. Below 2^−126 the result is 0.
inline Vec clamp_exponent(Vec x) {
  // NaN passes: max and min return their second operand then
  return _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(_mm256_set1_ps(-127.0f), x));
}
inline Vec fraction(Vec x) {
  const Vec y = clamp_exponent(x);
  return _mm256_sub_ps(y, _mm256_floor_ps(y));
}
inline Vec scale_by_exponent(Vec p, Vec x) {
  const IVec n = _mm256_cvtps_epi32(_mm256_floor_ps(clamp_exponent(x)));
  const IVec bits = _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(bits));
}

// Transposes a kLanes × kLanes block: r[i][j] ↔ r[j][i].
inline void transpose(Vec (&r)[kLanes]) {
  Vec t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

// Lane i: the sum of r[i]'s lanes, neighbours first.
inline Vec sums_of_lanes(const Vec (&r)[kLanes]) {
  const Vec low = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
  const Vec high = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
  return add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

}  // namespace
}  // namespace qkv::kernels
