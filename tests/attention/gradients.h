// What the tests of the backward pass share: a call with everything its gradients need, and the bounds they are held to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/reference_backward.h"
#include "tests/attention/bounds.h"
#include "tests/attention/cases.h"

namespace qkv::tests {

struct Gradients {
  Tensor<float> d_query, d_key, d_value, d_bias;
  std::vector<float> d_sinks;
};

// A call, what its forward pass left, and the gradients that come in.
struct BackwardCase {
  Case call;
  Result forward;
  Tensor<float> d_out;
  std::vector<float> d_lse;            // empty: none
  std::array<Layout, 3> layouts = {};  // of d_query, d_key, d_value

  BackwardCase(Case c, std::uint64_t seed);
  // Any mix of options and shapes; a third of the calls on bfloat16.
  static BackwardCase random(std::uint64_t seed, bool large = false);
  // Query, key, value, out and d_out, from now on.
  void store_as(DType dtype);

  // Every gradient that the call has; threads < 0 takes what the call says.
  Gradients run(int threads = -1) const;
  ReferenceGradients<double> reference(const Reference<double>& r) const;
  // The same numbers, densely packed.
  BackwardCase dense() const;
};

// Whether the engine multiplies bfloat16 by the CPU's dot instruction in this call.
bool gradients_by_dots(const BackwardCase& c);

// "" or the first gradient that differs.
std::string difference(const Gradients& a, const Gradients& b);

// The largest part of its bound that a gradient used up.
struct GradientErrors {
  double error[3] = {}, used[3] = {};  // d_query, d_key, d_value
  double bias_used = 0, sinks_used = 0;
};
// Every gradient against the fp64 reference, within the bounds of docs/numerics.md.
void expect_gradients_match(const BackwardCase& c, const Gradients& got,
                            GradientErrors* errors = nullptr);

}  // namespace qkv::tests
