// Traced rows of so many keys that no weight is kept (long_rows.h): the same trace as that of kept weights.
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "attention/panel.h"
#include "attention/traced_rows.h"
#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

// The call as if its rows were long.
Result run_long(const Case& c, int threads) {
  Result r;
  r.out = Tensor<float>(c.out_shape(), c.out_layout);
  r.out.store_as(c.out_type);
  r.lse.assign(c.rows(), 777);
  const Problem p = c.problem();
  const kernels::Kernels& kernel = narrowest_panel(kernels::kernels(), p.queries);
  AttentionOptions options = c.options();
  options.threads = threads;
  attention_traced(p, options, {r.out.mutable_view(), r.lse, &r.trace},
                   {&kernel, kernel.panel, true});
  r.out.read_back();
  return r;
}

// Blocks that a stretch of 1024 keys holds wholly are added up as those of kept weights are.
bool in_stretches(const Case& c) {
  return c.plain.trace.block == 0 || 1024 % c.plain.trace.block == 0;
}

void expect_same_trace(const Case& c) {
  const Result once = c.run();
  Result again = run_long(c, 1);
  EXPECT_EQ(difference(again, run_long(c, 3)), "") << "3 threads";
  if (!in_stretches(c)) {
    expect_trace_matches(c, Exact(c), again);
    again.trace.block_mass = once.trace.block_mass;
  }
  EXPECT_EQ(difference(again, once), "");
}

TEST(LongRows, RandomCallsOfEveryOptionHaveTheBitsOfKeptWeights) {
  for (const Draw draw : {Draw::floats, Draw::types, Draw::any})
    for (std::uint64_t seed = 0; seed < static_cast<std::uint64_t>(scaled(40)); ++seed) {
      const Case c = random_case(seed, seed % 4 == 0, draw);
      SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
      expect_same_trace(c);
    }
}

TEST(LongRows, StretchesAtEveryEdge) {
  for (const std::int64_t keys : {1, 1023, 1024, 1025, 2049, 5001})
    for (const int block : {0, 64, 100, 3000})
      for (const bool received : {false, true}) {
        Case c({1, 1, 2, 19, keys, 8, 5}, static_cast<std::uint64_t>(keys));
        c.plain.causal = Causal::bottom_right;
        c.plain.trace = {received ? 20 : 3, received, block};
        if (keys > 2000) c.plain.window = {1500, -1};  // the first keys are nobody's
        SCOPED_TRACE(c.describe());
        expect_same_trace(c);
      }
}

// Only stretches that may hold one of the largest weights are looked at again.
TEST(LongRows, LargestWeightsLieInAnyStretch) {
  Case c({1, 1, 1, 1, 20 * 1024, 1, 1}, 1);
  c.query.fill([] { return 1.0f; });
  c.plain.scale = 1;
  for (const int kind : {0, 1, 2, 3}) {
    std::int64_t next = 0;
    c.key.fill([&] {
      const std::int64_t k = next++;
      switch (kind) {
        case 0:
          return 0.0f;  // all the same: the lowest are the largest
        case 1:
          return static_cast<float>(k) / 4096;  // the last are
        case 2:
          return k % 5000 == 4999 ? 9.0f : static_cast<float>(k % 7) / 4;  // one each
        default:
          return k == 7777 ? 2000.0f : -2000.0f;  // and the others weigh nothing
      }
    });
    for (const int top : {1, 4, 5, 16, 17, 30}) {
      SCOPED_TRACE("kind " + std::to_string(kind) + ", top " + std::to_string(top));
      c.plain.trace.top = top;
      expect_same_trace(c);
    }
  }
}

TEST(LongRows, HiddenNumbersStayHiddenAndANanInItsRow) {
  Case c({1, 1, 2, 9, 2100, 8, 8}, 5);
  c.plain.causal = Causal::top_left;
  c.plain.trace = {3, true, 64};
  c.key.at(0, 0, 5, 0) = std::numeric_limits<float>::quiet_NaN();  // rows 5 and on see it
  c.key.at(0, 0, 1500, 0) = std::numeric_limits<float>::infinity();
  c.value.at(0, 0, 1500, 1) = std::numeric_limits<float>::quiet_NaN();
  expect_same_trace(c);
}

// A row of this many keys is long by itself, with every instruction set.
TEST(LongRows, AMillionKeysTakeThatWay) {
  const Case c({1, 1, 1, 2, std::int64_t{1} << 20, 2, 1}, 3);
  const Problem p = c.problem();
  EXPECT_TRUE(traced_rows(p, narrowest_panel(kernels::kernels(), p.queries)).are_long);
  Case few({1, 1, 1, 2, 4096, 2, 1}, 3);
  EXPECT_FALSE(traced_rows(few.problem(), kernels::kernels()).are_long);
}

}  // namespace
}  // namespace qkv::tests
