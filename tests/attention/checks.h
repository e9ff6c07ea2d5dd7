// Holds a call's result against the fp64 reference, number by number, within bounds.h.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "tests/attention/bounds.h"
#include "tests/attention/cases.h"

namespace qkv::tests {

// The part of each bound that was used up, over all that was checked (1 would be a failure), and the largest errors.
struct Largest {
  double out = 0, lse = 0, weight = 0, tile = 0, entropy = 0;
  double out_used = 0, lse_used = 0, weight_used = 0, tile_used = 0, entropy_used = 0;
};

// The exact numbers of a call, and what each row of the engine may be off by: once for all that is checked of it.
struct Exact {
  explicit Exact(const Case& c);
  Problem problem;
  Reference<double> numbers;
  std::vector<RowBounds> bounds;  // by row
};

// out and lse.
void expect_matches(const Case& c, const Exact& exact, const Result& got,
                    Largest* largest = nullptr);
// Every field of the trace.
void expect_trace_matches(const Case& c, const Exact& exact, const Result& got,
                          Largest* largest = nullptr);
// The tile of weights() for these queries and keys.
void expect_tile_matches(const Case& c, const Exact& exact, const Result& got, Range queries,
                         Range keys, Largest* largest = nullptr);
// Hidden in the reference where the options' documentation says so, visible elsewhere.
void expect_visibility(const Case& c, const Exact& exact);

}  // namespace qkv::tests
