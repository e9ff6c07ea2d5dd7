// The specification of the gradients: those of Σ out·d_out + Σ lse·d_lse as their formulas read, in any precision, on the
// matrices of reference.h. Slow and N×N in memory on purpose.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention/problem.h"
#include "attention/reference.h"

namespace qkv {

template <class Real>
struct ReferenceGradients {
  std::vector<Real> d_query;  // [B,H,Sq,d_k]
  std::vector<Real> d_key;    // [B,Hkv,Sk,d_k]
  std::vector<Real> d_value;  // [B,Hkv,Sk,d_v]
  std::vector<Real>
      d_scores;  // [B,H,Sq,Sk]; a bias gets it as it is, or summed where its entries are repeated
  std::vector<Real> d_dots;   // [B,H,Sq,Sk] of query·key · scale, before the cap
  std::vector<Real> delta;    // [B,H,Sq]
  std::vector<Real> d_sinks;  // [H]
};

// d_out [B,H,Sq,d_v]; d_lse [B,H,Sq] or null.
template <class Real>
ReferenceGradients<Real> reference_backward(const Problem& p, const Reference<Real>& r,
                                            const Rows& d_out, const float* d_lse) {
  const auto size = [](std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
    return static_cast<std::size_t>(a * b * c * d);
  };
  ReferenceGradients<Real> g;
  g.d_query.assign(size(p.batch, p.heads, p.queries, p.dim), 0);
  g.d_key.assign(size(p.batch, p.heads_kv, p.keys, p.dim), 0);
  g.d_value.assign(size(p.batch, p.heads_kv, p.keys, p.dim_v), 0);
  g.d_scores.assign(size(p.batch, p.heads, p.queries, p.keys), 0);
  g.d_dots = g.d_scores;
  g.delta.assign(size(p.batch, p.heads, p.queries, 1), 0);
  g.d_sinks.assign(static_cast<std::size_t>(p.heads), 0);
  std::size_t row = 0;
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h)
      for (std::int64_t q = 0; q < p.queries; ++q, ++row) {
        // delta = Σ_d out[d]·d_out[d] − d_lse
        const Numbers<Real> query(p.query, b, h, q);
        const Numbers<Real> d_out_row(d_out, b, h, q);
        Real delta = d_lse != nullptr ? -Real{d_lse[row]} : Real{0};
        for (int d = 0; d < p.dim_v; ++d)
          delta += r.out[row * static_cast<std::size_t>(p.dim_v) + static_cast<std::size_t>(d)] *
                   d_out_row[d];
        g.delta[row] = delta;
        // the sink has a weight and no value
        const Real nothing = -std::numeric_limits<Real>::infinity();
        if (p.sinks != nullptr && Real{p.sinks[h]} != nothing)
          g.d_sinks[static_cast<std::size_t>(h)] -= std::exp(Real{p.sinks[h]} - r.lse[row]) * delta;

        for (std::int64_t k = 0; k < p.keys; ++k) {
          if (p.hidden(b, h, q, k)) continue;
          const std::int64_t kv_head = p.kv_head(h);
          const std::size_t pair =
              row * static_cast<std::size_t>(p.keys) + static_cast<std::size_t>(k);
          const auto key_row = static_cast<std::size_t>((b * p.heads_kv + kv_head) * p.keys + k);
          const Numbers<Real> key(p.key, b, kv_head, k);
          const Numbers<Real> value(p.value, b, kv_head, k);
          Real d_weight = 0;
          for (int d = 0; d < p.dim_v; ++d) {
            const Real d_out_d = d_out_row[d];
            d_weight += d_out_d * value[d];
            g.d_value[key_row * static_cast<std::size_t>(p.dim_v) + static_cast<std::size_t>(d)] +=
                r.weights[pair] * d_out_d;
          }
          g.d_scores[pair] = r.weights[pair] * (d_weight - delta);
          Real slope = 1;
          if (p.softcap > 0) {
            const Real t =
                std::tanh(query_dot_keys<Real>(p, b, h, q, k) * Real{p.scale} / Real{p.softcap});
            slope = 1 - t * t;
          }
          g.d_dots[pair] = g.d_scores[pair] * slope;
          const Real d_dot = g.d_dots[pair] * Real{p.scale};
          for (int d = 0; d < p.dim; ++d) {
            const auto at = static_cast<std::size_t>(d);
            g.d_query[row * static_cast<std::size_t>(p.dim) + at] += d_dot * key[d];
            g.d_key[key_row * static_cast<std::size_t>(p.dim) + at] += d_dot * query[d];
          }
        }
      }
  return g;
}

}  // namespace qkv
