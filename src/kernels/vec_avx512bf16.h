// What AVX-512 BF16 adds to vec_avx512.h: vectors of pairs of bfloat16.
#pragma once

#include "kernels/vec_avx512.h"

namespace qkv::kernels {
namespace {

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
