// Pairs of bfloat16 in vectors of sixteen 32-bit units: what AVX-512 BF16 adds to vec_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/pairs.h"
#include "kernels/vec_avx512.h"

namespace qkv::kernels {
namespace {

using PairVec = __m512i;  // kLanes pairs

inline PairVec load_pairs(const Pair* p) { return _mm512_loadu_si512(p); }
// Pairs of neighbours.
inline PairVec load_pairs(const std::uint16_t* p) { return _mm512_loadu_si512(p); }
inline void store_pairs(Pair* p, PairVec v) { _mm512_storeu_si512(p, v); }
// One pair that several dots share: kept from being folded into each, as broadcast() is.
inline PairVec broadcast_pair(const void* p) {
  int pair;
  std::memcpy(&pair, p, sizeof pair);
  PairVec v = _mm512_set1_epi32(pair);
  __asm__("" : "+v"(v));
  return v;
}
inline PairVec flip_sign(PairVec v, bool flip) {
  return _mm512_xor_si512(v, _mm512_set1_epi32(flip ? static_cast<int>(0x80008000u) : 0));
}
// sum + a·b of both numbers of each pair; see pairs.h
inline Vec dot(Vec sum, PairVec a, PairVec b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
// (even[i], odd[i]) rounded to nearest even, subnormals to 0.
inline PairVec round_to_pairs(Vec even, Vec odd) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(odd, even);  // even's sixteen, then odd's
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, halves);
}
// Two vectors of neighbours, rounded the same way.
inline void store_rounded(std::uint16_t* p, Vec first, Vec second) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}
// first[i], second[i] for 2·kLanes neighbours i: lower half and upper half of the pairs.
inline void interleave(PairVec first, PairVec second, PairVec& lower, PairVec& upper) {
  const __m512i a = _mm512_unpacklo_epi16(first, second);
  const __m512i b = _mm512_unpackhi_epi16(first, second);
  const __m512i low = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  const __m512i high = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  lower = _mm512_permutex2var_epi64(a, low, b);
  upper = _mm512_permutex2var_epi64(a, high, b);
}
// v without the even (odd) number of the lanes in m.
inline PairVec clear_even(PairVec v, VMask m) {
  return _mm512_mask_and_epi32(v, m, v, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}
inline PairVec clear_odd(PairVec v, VMask m) {
  return _mm512_mask_and_epi32(v, m, v, _mm512_set1_epi32(0x0000ffff));
}
// Whether one of the numbers is Inf or NaN: all exponent bits set.
inline bool any_not_finite(PairVec v) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  return _mm512_cmpeq_epi16_mask(_mm512_and_si512(v, exponent), exponent) != 0;
}
// Transposes a block of kLanes rows of kLanes pairs.
inline void transpose(PairVec (&r)[kLanes]) {
  Vec t[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) t[i] = _mm512_castsi512_ps(r[i]);
  transpose(t);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) r[i] = _mm512_castps_si512(t[i]);
}

// ---- for decode, whose pairs stand where floats do

// sum + a[1]·b[1] + a[0]·b[0] of each lane's pairs, in that order
inline Vec dot_pairs(Vec sum, Vec a, Vec b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
inline Vec set1_pair(std::uint32_t pair) {
  return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(pair)));
}
// Rounded to nearest even, below 2^−126 to 0.
inline void store_rounded_bfloat16(std::uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}
// Pairs (first[d], second[d]) of 32 dims, in the order in which the two unpacking instructions leave them.
inline void interleave(Vec first, Vec second, Vec (&pairs)[2]) {
  const __m512i a = _mm512_castps_si512(first);
  const __m512i b = _mm512_castps_si512(second);
  pairs[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(a, b));
  pairs[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(a, b));
}
// 32 numbers to that order and back.
inline void to_interleaved(Vec (&v)[2]) {
  const Vec low = _mm512_shuffle_f32x4(v[0], v[1], 0x88);
  v[1] = _mm512_shuffle_f32x4(v[0], v[1], 0xdd);
  v[0] = low;
}
inline void from_interleaved(Vec (&v)[2]) {
  const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i back =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Vec low = _mm512_permutex2var_ps(v[0], front, v[1]);
  v[1] = _mm512_permutex2var_ps(v[0], back, v[1]);
  v[0] = low;
}

}  // namespace
}  // namespace qkv::kernels
