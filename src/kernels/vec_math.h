// Functions over the vectors of one vec_*.h, which is included before this file.
#pragma once

namespace qkv::kernels {
namespace {

#define QKV_UNROLL _Pragma("GCC unroll 32")

// 2^x with relative error below 2e-7 (measured: 1.83e-7), exactly 1 at 0: ⌊x⌋ goes to the exponent, the rest r in [0,1) to a polynomial
// (minimax in relative error with p(0) = 1, fitted by reweighted least squares).
inline constexpr float kExp2[6] = {0.001867130515165627f, 0.009017029777169228f,
                                   0.05579991266131401f,  0.24016444385051727f,
                                   0.6931512951850891f,   1.0f};

template <int kCount>
void exp2_each(Vec (&x)[kCount]);

inline Vec exp2(Vec x) {
  Vec one[1] = {x};
  exp2_each(one);
  return one[0];
}

// x[i] = 2^x[i]: the steps of exp2 for all of them in turn, so that kCount independent chains are in flight.
template <int kCount>
inline void exp2_each(Vec (&x)[kCount]) {
  Vec r[kCount];
  Vec p[kCount];
  QKV_UNROLL for (int i = 0; i < kCount; ++i) r[i] = fraction(x[i]);
  QKV_UNROLL for (int i = 0; i < kCount; ++i) p[i] = fma(set1(kExp2[0]), r[i], set1(kExp2[1]));
  QKV_UNROLL for (int c = 2; c < 6; ++c) {
    QKV_UNROLL for (int i = 0; i < kCount; ++i) p[i] = fma(p[i], r[i], set1(kExp2[c]));
  }
  QKV_UNROLL for (int i = 0; i < kCount; ++i) x[i] = scale_by_exponent(p[i], x[i]);
}

// tanh: an odd polynomial near 0 (Cephes tanhf), 1 − 2 / (e^2|x| + 1) beyond, with the sign of x.
inline Vec tanh(Vec x) {
  const Vec a = abs(x);
  const Vec z = mul(x, x);
  Vec p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  const Vec small = fma(mul(p, z), x, x);
  const Vec e = exp2(mul(a, set1(2.885390081777927f)));
  const Vec big = sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f))));
  const Vec signed_big = select(less(x, set1(0.0f)), sub(set1(0.0f), big), big);
  return select(less(a, set1(0.625f)), small, signed_big);
}

// Σ weights·(score − max) once the maximum has gone up to shift; nothing seen (max = −inf) stays nothing.
inline Vec moved_spread(Vec spread, Vec max, Vec shift, Vec sum) {
  const Vec by = select(equal(max, set1(-__builtin_inff())), set1(0.0f), sub(max, shift));
  return fma(by, sum, spread);
}

}  // namespace
}  // namespace qkv::kernels
