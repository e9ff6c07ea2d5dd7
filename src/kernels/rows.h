// Loops over one row of numbers: conversions, activations, sums; compiled once per instruction set like kernels.h.
// rows_scalar.h is the specification; rows_tile.h is the same over vectors.
//
// The bits of a result depend on the row's numbers and length only.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace qkv::kernels {

struct RowKernels {
  const char* name;

  // values[i] = values[i] / (1 + e^−values[i])
  void (*silu)(float* values, std::int64_t count);

  // values[i] = values[i]/2 · (1 + erf(values[i]/√2))
  void (*gelu)(float* values, std::int64_t count);

  // values[i] = values[i]/2 · (1 + tanh(√(2/π)·(values[i] + 0.044715·values[i]³)))
  void (*gelu_new)(float* values, std::int64_t count);

  // values[i] = tanh(values[i])
  void (*tanh)(float* values, std::int64_t count);

  // to[i] = from[i] in another type; narrowing rounds to nearest even.
  void (*widen_half)(const std::uint16_t* from, std::int64_t count, float* to);
  void (*widen_bfloat16)(const std::uint16_t* from, std::int64_t count, float* to);
  void (*widen_int8)(const std::int8_t* from, std::int64_t count, float* to);
  void (*narrow_half)(const float* from, std::int64_t count, std::uint16_t* to);
  void (*narrow_bfloat16)(const float* from, std::int64_t count, std::uint16_t* to);

  // Largest value, −inf for none; NaN is passed over.
  float (*largest)(const float* values, std::int64_t count);

  // Σ e^(values[i] − shift)
  float (*sum_of_exp)(const float* values, std::int64_t count, float shift);

  // x = sum + add (add may be null); out[i] = (x[i] − mean) / √(variance + epsilon) · weight[i] + bias[i] with the mean and
  // the variance of the row. out may be sum or add.
  void (*layer_norm)(const float* sum, const float* add, const float* weight, const float* bias,
                     float epsilon, std::int64_t count, float* out);
};

// The table of the instruction set in use (qkv::isa()); chosen once.
const RowKernels& row_kernels();
// By name; null if this build or this CPU lacks it.
const RowKernels* row_kernels_of(const char* name);

}  // namespace qkv::kernels
