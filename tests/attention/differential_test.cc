// The engine against the fp64 reference on thousands of random calls: any mix of options, shapes, layouts and types, padded,
// packed or in pages. A failure names its seed; QKV_SEED=<seed> (and QKV_SEED=large:<seed> for the second test) runs that one
// alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

// Keys that no query of any head sees are overwritten with NaN and Inf, and so are their values, their scales, and what nobody
// uses of the pages: not a bit may change.
void expect_hidden_keys_unread(Case& c, const Reference<double>& r, const Result& before) {
  c.poison_keys_but([&](std::int64_t b, std::int64_t g, std::int64_t k) {
    bool seen = false;
    for (std::int64_t h = g * c.sizes.group; h < (g + 1) * c.sizes.group; ++h)
      for (std::int64_t q = 0; q < c.query_length(b); ++q)
        seen |= r.scores[c.row(b, h, q) * static_cast<std::size_t>(c.sizes.keys) +
                         static_cast<std::size_t>(k)] != -kInfinity;
    return seen;
  });
  EXPECT_EQ(difference(before, c.run()), "") << "after hidden keys and values became NaN and Inf";
}

void run_one(std::uint64_t seed, bool large) {
  Case c = random_case(seed, large, Draw::any);
  SCOPED_TRACE("QKV_SEED=" + std::string(large ? "large:" : "") + std::to_string(seed) +
               " repeats this: " + c.describe());
  const Exact exact(c);
  const Result got = c.run();
  expect_visibility(c, exact);
  expect_matches(c, exact, got);
  expect_trace_matches(c, exact, got);
  const Result untraced = c.run(false);
  EXPECT_TRUE(same_bits(got.lse, untraced.lse)) << "with and without a trace";
  Random random(seed);
  const auto part = [&](std::int64_t size) {
    const std::int64_t begin = random.below(static_cast<int>(size) + 1);
    return Range{begin, begin + random.below(static_cast<int>(size - begin) + 1)};
  };
  const Range queries = part(c.sizes.queries);
  const Range keys = part(c.sizes.keys);
  if (!c.packed()) expect_tile_matches(c, exact, got, queries, keys);
  if (seed % 4 == 0) expect_hidden_keys_unread(c, exact.numbers, got);
}

// "" where QKV_SEED is unset; "-" where it asks for the other test.
std::string asked_seed(bool large) {
  const char* seed = std::getenv("QKV_SEED");
  if (seed == nullptr) return "";
  const std::string text = seed;
  const bool asks_large = text.rfind("large:", 0) == 0;
  if (asks_large != large) return "-";
  return asks_large ? text.substr(6) : text;
}

void run_many(bool large, std::uint64_t first, int count) {
  const std::string asked = asked_seed(large);
  if (asked == "-") GTEST_SKIP() << "QKV_SEED asks for another case";
  if (!asked.empty()) {
    run_one(std::stoull(asked), large);
    return;
  }
  for (int i = 0; i < scaled(count) && !testing::Test::HasFailure(); ++i)
    run_one(first + static_cast<std::uint64_t>(i), large);
}

TEST(Differential, RandomCallsStayWithinTheirBounds) { run_many(false, 1, 4000); }

TEST(Differential, LargerCallsStayWithinTheirBounds) { run_many(true, 1, 60); }

TEST(DifferentialSlow, ManyMoreRandomCalls) { run_many(false, 1'000'000, 20'000); }

TEST(DifferentialSlow, ManyMoreLargerCalls) { run_many(true, 1'000'000, 100); }

}  // namespace
}  // namespace qkv::tests
