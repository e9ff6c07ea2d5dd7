// The engine against the fp64 reference on thousands of random calls: any mix of options, shapes and layouts. A failure names
// its seed; QKV_SEED=<seed> (and QKV_SEED=large:<seed> for the second test) runs that one alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

// Keys that no query of any head sees are overwritten with NaN and Inf: not a bit may change.
void expect_hidden_keys_unread(Case& c, const Reference<double>& r, const Result& before) {
  const Problem p = c.problem();
  for (const std::int64_t stride :
       {c.key.strides()[0], c.key.strides()[1], c.key.strides()[2], c.value.strides()[0],
        c.value.strides()[1], c.value.strides()[2]})
    if (stride == 0) return;  // one key stands for several
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t g = 0; g < p.heads_kv; ++g)
      for (std::int64_t k = 0; k < p.keys; ++k) {
        bool seen = false;
        for (std::int64_t h = 0; h < p.heads; ++h)
          for (std::int64_t q = 0; q < p.queries && p.kv_head(h) == g; ++q)
            seen |= r.scores[row_of(p, b, h, q) * static_cast<std::size_t>(p.keys) +
                             static_cast<std::size_t>(k)] != -kInfinity;
        if (seen) continue;
        for (std::int64_t d = 0; d < p.dim; ++d)
          c.key.at(b, g, k, d) = (k + d) % 2 == 0 ? kNaN : kInfinity;
        for (std::int64_t d = 0; d < p.dim_v; ++d)
          c.value.at(b, g, k, d) = (k + d) % 2 == 0 ? -kInfinity : kNaN;
      }
  EXPECT_EQ(difference(before, c.run()), "") << "after hidden keys and values became NaN and Inf";
}

void run_one(std::uint64_t seed, bool large) {
  Case c = random_case(seed, large);
  SCOPED_TRACE("QKV_SEED=" + std::string(large ? "large:" : "") + std::to_string(seed) +
               " repeats this: " + c.describe());
  const Reference<double> r = c.reference();
  const Result got = c.run();
  expect_visibility(c, r);
  expect_matches(c, r, got);
  expect_trace_matches(c, r, got);
  const Result untraced = c.run(false);
  EXPECT_TRUE(same_bits(got.lse, untraced.lse)) << "with and without a trace";
  Random random(seed);
  const auto part = [&](std::int64_t size) {
    const std::int64_t begin = random.below(static_cast<int>(size) + 1);
    return Range{begin, begin + random.below(static_cast<int>(size - begin) + 1)};
  };
  expect_tile_matches(c, r, got, part(c.sizes.queries), part(c.sizes.keys));
  if (seed % 4 == 0) expect_hidden_keys_unread(c, r, got);
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

TEST(Differential, RandomCallsStayWithinTheirBounds) { run_many(false, 1, 2000); }

TEST(Differential, LargerCallsStayWithinTheirBounds) { run_many(true, 1, 40); }

TEST(DifferentialSlow, ManyMoreRandomCalls) { run_many(false, 1'000'000, 20'000); }

TEST(DifferentialSlow, ManyMoreLargerCalls) { run_many(true, 1'000'000, 100); }

}  // namespace
}  // namespace qkv::tests
