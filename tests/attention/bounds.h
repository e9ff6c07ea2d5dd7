// How far the engine may be from the fp64 reference, row by row: the derivations of docs/numerics.md as code.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/problem.h"
#include "attention/products.h"
#include "attention/reference.h"

namespace qkv::tests {

// u = 2^−24, γ(n) = n·u / (1 − n·u)
inline constexpr double kUnit = 0x1p-24;
inline double gamma(double n) { return n * kUnit / (1 - n * kUnit); }

// Absolute bounds of one row.
struct RowBounds {
  std::vector<double> score;   // [Sk] of a score, in natural units; 0 where hidden
  std::vector<double> weight;  // [Sk] of a weight in the trace
  std::vector<double> tile;    // [Sk] of a weight from weights(), given the engine's own lse
  std::vector<double> out;     // [d_v]
  double lse = 0;
  double max = 0;
  double entropy = 0;

  double weight_sum() const;  // of Σ of any of the row's weights
};

// Whether the engine uses the bf16 dot instruction for the scores (products of bf16 numbers exact, their sums in fp32 with
// flush to zero) and for the values (weights rounded to bf16 before they meet them, too).
inline bool scores_by_dots(const Problem& p) { return scores_in_pairs(kernels::kernels(), p); }
inline bool values_by_dots(const Problem& p) { return values_in_pairs(kernels::kernels(), p); }

// For out before it is narrowed to its type: see stored_bound.
RowBounds bounds_of(const Problem& p, const Reference<double>& r, std::int64_t b, std::int64_t h,
                    std::int64_t q);

// Bound of a number that is `exact` up to `bound` and then rounded to a type; infinite where it may overflow there.
double stored_bound(DType dtype, double exact, double bound);

// Entropy and largest score of a row, in fp64.
struct RowFacts {
  double max, entropy;
  std::int64_t visible;
};
RowFacts facts_of(const Problem& p, const Reference<double>& r, std::int64_t b, std::int64_t h,
                  std::int64_t q);

// Index of a row in [B,H,Sq]; packed: [H,total].
inline std::size_t row_of(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t q) {
  return static_cast<std::size_t>(p.row_index(b, h, q));
}

}  // namespace qkv::tests
