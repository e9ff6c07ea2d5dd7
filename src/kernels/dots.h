// Dot products of one query with many rows, for a memory that is searched rather than attended to in panels: float32 rows with
// a bound on rounding that does not grow with their length, and 8-bit codes in whole numbers. dots_scalar.h is the specification;
// dots_tile.h is the same over vectors.
#pragma once

#include <cstdint>

namespace qkv::kernels {

// A sum of float32 products has a chain for each d mod kDotChains and begins anew after kDotLinks links.
inline constexpr int kDotChains = 16;
inline constexpr int kDotLinks = 32;
// |dots[k] − exact| ≤ γ·Σ_d |query[d]·rows[k][d]| + dim·2⁻¹⁴⁹, γ = kDotRoundings·2⁻²⁴/(1 − kDotRoundings·2⁻²⁴): a chain's
// multiply-adds (a rounding more where they are not fused), and four levels of additions.
inline constexpr int kDotRoundings = kDotLinks + 1 + 4;

struct DotKernels {
  const char* name;

  // dots[k] = Σ_d query[d] · rows[k][d], rows [count, dim] dense. Sums of kDotChains·kDotLinks dims in float32, added in
  // float64. A row's number does not depend on the rows beside it. Not finite where a float32 sum overflows.
  void (*query_dot_rows)(const float* query, const float* rows, int count, int dim, double* dots);

  // dots[k] = Σ_d query[d] · codes[k][d], codes [count, dim] dense: exact, as long as 128·Σ_d |query[d]| < 2³¹.
  void (*query_dot_codes)(const std::int16_t* query, const std::int8_t* codes, int count, int dim,
                          std::int32_t* dots);
};

// The table of the instruction set in use (qkv::isa()); chosen once.
const DotKernels& dot_kernels();
// By name; null if this build or this CPU lacks it.
const DotKernels* dot_kernels_of(const char* name);

}  // namespace qkv::kernels
