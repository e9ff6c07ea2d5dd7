// The specification of the operator: attention as its formula reads, one row after the other, in any precision. Slow and
// N×N in memory on purpose; the tests hold every fast path against it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "attention/problem.h"
#include "kernels/half.h"

namespace qkv {

template <class Real>
struct Reference {
  std::vector<Real> out;      // [B,H,Sq,d_v]; packed: [H,total,d_v], and so on
  std::vector<Real> lse;      // [B,H,Sq]
  std::vector<Real> scores;   // [B,H,Sq,Sk] as the softmax saw them, −inf where hidden
  std::vector<Real> weights;  // [B,H,Sq,Sk]
};

// The stored numbers of one row, exactly.
template <class Real>
class Numbers {
 public:
  Numbers(const Rows& rows, std::int64_t b, std::int64_t h, std::int64_t t)
      : dtype_(rows.dtype), data_(rows.row_as<std::byte>(b, h, t)) {}
  Real operator[](int d) const {
    switch (dtype_) {
      case DType::f16:
        return Real{kernels::half_to_float(as<std::uint16_t>(d))};
      case DType::bf16:
        return Real{kernels::bfloat16_to_float(as<std::uint16_t>(d))};
      case DType::i8:
        return static_cast<Real>(as<std::int8_t>(d));
      default:
        return Real{as<float>(d)};
    }
  }

 private:
  template <class T>
  T as(int d) const {
    return reinterpret_cast<const T*>(data_)[d];
  }
  DType dtype_;
  const std::byte* data_;
};

// The scale of an int8 row; 1 for the others.
template <class Real>
Real row_scale(const Rows& scales, std::int64_t b, std::int64_t h, std::int64_t t) {
  return scales.data == nullptr ? Real{1} : Real{*scales.row_as<float>(b, h, t)};
}

// Σ_d query[d] · key[d]
template <class Real>
Real query_dot_keys(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t q,
                    std::int64_t k) {
  const std::int64_t kv_head = p.kv_head(h);
  const Numbers<Real> query(p.query, b, h, q);
  const Numbers<Real> key(p.key, b, kv_head, k);
  Real sum = 0;
  for (int d = 0; d < p.dim; ++d) sum += query[d] * key[d];
  return sum * row_scale<Real>(p.k_scale, b, kv_head, k);
}

// The score of one pair: query·key · scale → softcap → + bias, + ALiBi → masks.
template <class Real>
Real score_of(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
  if (p.hidden(b, h, q, k))
    return -std::numeric_limits<Real>::infinity();  // even where query·key is NaN
  Real score = query_dot_keys<Real>(p, b, h, q, k) * Real{p.scale};
  if (p.softcap > 0) score = Real{p.softcap} * std::tanh(score / Real{p.softcap});
  if (p.bias.data != nullptr) score += Real{p.bias.row(b, h, q)[k * p.bias.strides[3]]};
  if (p.alibi_slopes != nullptr)
    score -= Real{p.alibi_slopes[h]} * static_cast<Real>(std::llabs(p.position(b, q) - k));
  return score;
}

// weights[k] = e^(score − lse), lse = ln(Σ_k e^score + e^sink); all 0 and −inf where nothing is visible. Returns lse.
template <class Real>
Real softmax(const std::vector<Real>& scores, const float* sink, std::vector<Real>& weights) {
  const Real nothing = -std::numeric_limits<Real>::infinity();
  Real top = sink != nullptr ? Real{*sink} : nothing;
  for (const Real s : scores)
    if (s > top || std::isnan(s)) top = s;
  weights.assign(scores.size(), Real{0});
  if (top == nothing) return nothing;
  Real sum = sink != nullptr ? std::exp(Real{*sink} - top) : Real{0};
  for (const Real s : scores)
    if (s != nothing) sum += std::exp(s - top);
  for (std::size_t k = 0; k < scores.size(); ++k)
    if (scores[k] != nothing) weights[k] = std::exp(scores[k] - top) / sum;
  return top + std::log(sum);
}

// out[d] = Σ_k weights[k] · value[k][d] over the keys that are not hidden
template <class Real>
void weighted_sum_values(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t q,
                         const std::vector<Real>& weights, Real* out) {
  for (int d = 0; d < p.dim_v; ++d) out[d] = 0;
  for (std::int64_t k = 0; k < p.keys; ++k) {
    if (p.hidden(b, h, q, k)) continue;
    const std::int64_t kv_head = p.kv_head(h);
    const Real weight =
        weights[static_cast<std::size_t>(k)] * row_scale<Real>(p.v_scale, b, kv_head, k);
    const Numbers<Real> value(p.value, b, kv_head, k);
    for (int d = 0; d < p.dim_v; ++d) out[d] += weight * value[d];
  }
}

template <class Real>
Reference<Real> reference_attention(const Problem& p) {
  Reference<Real> r;
  const auto rows = static_cast<std::size_t>(p.row_count());
  const auto keys = static_cast<std::size_t>(p.keys);
  r.out.resize(rows * static_cast<std::size_t>(p.dim_v));
  r.lse.resize(rows);
  r.scores.resize(rows * keys);
  r.weights.resize(rows * keys);
  std::vector<Real> scores(keys);
  std::vector<Real> weights;
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h)
      for (std::int64_t q = 0; q < p.queries_of(b); ++q) {
        const auto row = static_cast<std::size_t>(p.row_index(b, h, q));
        for (std::int64_t k = 0; k < p.keys; ++k)
          scores[static_cast<std::size_t>(k)] = score_of<Real>(p, b, h, q, k);
        r.lse[row] = softmax(scores, p.sinks != nullptr ? p.sinks + h : nullptr, weights);
        weighted_sum_values(p, b, h, q, weights,
                            r.out.data() + row * static_cast<std::size_t>(p.dim_v));
        std::copy(scores.begin(), scores.end(), r.scores.data() + row * keys);
        std::copy(weights.begin(), weights.end(), r.weights.data() + row * keys);
      }
  return r;
}

}  // namespace qkv
