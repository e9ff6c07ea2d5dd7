// merge() and weights(): attention over a union of keys, and exact tiles of the matrix.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

struct Merged {
  Tensor<float> out;
  std::vector<float> lse;
};

Merged merge_all(const std::vector<const Result*>& parts, const Layout& layout = {}) {
  std::vector<AttentionPart> views;
  for (const Result* part : parts) views.push_back({part->out.mutable_view(), part->lse});
  Merged m{Tensor<float>(parts[0]->out.shape(), layout),
           std::vector<float>(parts[0]->lse.size(), 777)};
  merge(views, {m.out.mutable_view(), m.lse, nullptr});
  EXPECT_FALSE(m.out.written_outside());
  return m;
}

bool bits_equal(const Tensor<float>& a, const Tensor<float>& b) {
  bool same = true;
  a.each([&](std::int64_t i, std::int64_t h, std::int64_t t, std::int64_t d) {
    const float x = a.at(i, h, t, d);
    const float y = b.at(i, h, t, d);
    same &= same_bits(x, y) && std::signbit(x) == std::signbit(y);
  });
  return same;
}

TEST(Merge, EmptyPartsKeepEveryBit) {
  Case c({2, 1, 3, 17, 60, 8, 13}, 1);
  c.plain.causal = Causal::bottom_right;
  c.out_layout.tokens_outside = true;
  Result some = c.run(false);
  some.out.at(0, 0, 3, 0) = -0.0f;
  some.out.at(0, 0, 3, 1) = 1e-45f;
  Case nothing = c.dense();
  nothing.key_lengths = {0, 0};
  const Result empty = nothing.run(false);
  Result poisoned = nothing.run(false);  // what an empty part holds does not matter
  poisoned.out.fill([] { return kNaN; });
  Layout backwards;
  backwards.backwards = {true, false, true};
  for (const auto& parts : std::vector<std::vector<const Result*>>{
           {&some}, {&some, &empty}, {&empty, &some}, {&empty, &some, &poisoned}}) {
    const Merged m = merge_all(parts, backwards);
    EXPECT_TRUE(bits_equal(m.out, some.out));
    EXPECT_TRUE(same_bits(m.lse, some.lse));
  }
  const Merged none = merge_all({&empty, &poisoned});
  EXPECT_TRUE(bits_equal(none.out, empty.out));
  EXPECT_TRUE(same_bits(none.lse, empty.lse));
}

// Keys cut into parts, the sink given to one of them. A part's share is e^(lse_i − lse): it is off by the errors of all the
// parts' lse, and out by that, by its own bound, and by the rounding of the result.
void expect_union_of_parts(const Case& whole, const std::vector<Range>& cuts,
                           std::size_t sink_part) {
  std::vector<Case> cases;
  std::vector<Result> results;
  std::vector<Reference<double>> references;
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    cases.push_back(whole.part({0, whole.sizes.batch}, {0, whole.sizes.heads_kv},
                               {0, whole.sizes.queries}, cuts[i]));
    if (i != sink_part) cases.back().sinks.clear();
  }
  std::vector<const Result*> pointers;
  for (const Case& c : cases) {
    results.push_back(c.run(false));
    references.push_back(c.reference());
  }
  for (const Result& r : results) pointers.push_back(&r);
  const Merged m = merge_all(pointers);
  const Reference<double> exact = whole.reference();
  const Problem p = whole.problem();
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h)
      for (std::int64_t q = 0; q < p.queries; ++q) {
        const std::size_t row = row_of(p, b, h, q);
        if (exact.lse[row] == -double{kInfinity}) {
          ASSERT_EQ(m.lse[row], -kInfinity);
          continue;
        }
        double lse_bound = 0;  // of every part
        std::vector<RowBounds> bounds;
        for (std::size_t i = 0; i < cuts.size(); ++i) {
          bounds.push_back(bounds_of(cases[i].problem(), references[i], b, h, q));
          lse_bound = std::max(lse_bound, bounds.back().lse);
        }
        ASSERT_NEAR(m.lse[row], exact.lse[row], lse_bound + kUnit * std::fabs(exact.lse[row]));
        for (std::int64_t d = 0; d < p.dim_v; ++d) {
          double bound = 0;
          const std::size_t at =
              row * static_cast<std::size_t>(p.dim_v) + static_cast<std::size_t>(d);
          for (std::size_t i = 0; i < cuts.size(); ++i)
            bound += std::exp(references[i].lse[row] - exact.lse[row]) *
                     (bounds[i].out[static_cast<std::size_t>(d)] * (1 + std::expm1(2 * lse_bound)) +
                      std::fabs(references[i].out[at]) * (std::expm1(2 * lse_bound) + kUnit));
          ASSERT_NEAR(m.out.at(b, h, q, d), exact.out[at], bound + kUnit * std::fabs(exact.out[at]))
              << text_of({b, h, q, d});
        }
      }
}

TEST(Merge, UnionOfPartsIsTheWhole) {
  Random random(9);
  for (int round = 0; round < scaled(60) && !HasFailure(); ++round) {
    Case c({1, 2, 2, random.between(1, 20), random.between(3, 400), 16, 24},
           static_cast<std::uint64_t>(round));
    if (round % 2 == 0) {
      c.mask = Tensor<bool>({1, 4, c.sizes.queries, c.sizes.keys}, {});
      c.mask.fill([&] { return random.chance(round % 4 == 0 ? 0.02 : 0.7); });
    }
    if (round % 3 == 0)
      for (int h = 0; h < 4; ++h) c.sinks.push_back(2 * random.normal());
    SCOPED_TRACE("round " + std::to_string(round) + ": " + c.describe());
    std::vector<Range> cuts;
    for (std::int64_t begin = 0; begin < c.sizes.keys;) {
      const std::int64_t end = std::min<std::int64_t>(c.sizes.keys, begin + random.between(1, 150));
      cuts.push_back({begin, end});
      begin = end;
    }
    expect_union_of_parts(c, cuts,
                          static_cast<std::size_t>(random.below(static_cast<int>(cuts.size()))));
  }
}

// Parts of any type, merged into any type: what merging the same numbers in fp32 gives, rounded.
TEST(Merge, AnyTypes) {
  constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};
  Case c({2, 1, 3, 17, 60, 8, 13}, 1);
  c.plain.causal = Causal::bottom_right;
  for (const DType first : kTypes)
    for (const DType second : kTypes)
      for (const DType out : kTypes) {
        Result a = c.run(false);
        Result b = c.run(false);
        for (float& lse : b.lse) lse -= 0.25f;
        a.out.store_as(first);
        b.out.store_as(second);
        const std::vector<AttentionPart> parts = {{a.out.view(), a.lse}, {b.out.view(), b.lse}};
        Tensor<float> got(a.out.shape(), {});
        got.store_as(out);
        std::vector<float> lse(a.lse.size());
        merge(parts, {got.mutable_view(), lse, nullptr});
        got.read_back();
        a.out.store_as(DType::f32);
        b.out.store_as(DType::f32);
        Merged wide = merge_all({&a, &b});
        wide.out.store_as(out);
        EXPECT_TRUE(bits_equal(got, wide.out));
        EXPECT_TRUE(same_bits(lse, wide.lse));
        EXPECT_FALSE(got.written_outside());
      }
}

// Parts whose lse are far apart: nothing overflows, the small one is lost as it should be.
TEST(Merge, FarApart) {
  Case c({1, 1, 1, 1, 2, 1, 1}, 1);
  Result a = c.run(false);
  Result b = c.run(false);
  a.out.fill([] { return 1.0f; });
  b.out.fill([] { return 2.0f; });
  a.lse = {3e38f};
  b.lse = {-3e38f};
  EXPECT_EQ(merge_all({&a, &b}).out.at(0, 0, 0, 0), 1);
  EXPECT_EQ(merge_all({&b, &a}).lse[0], 3e38f);
  a.lse = b.lse = {1000};
  const Merged half = merge_all({&a, &b});
  EXPECT_EQ(half.out.at(0, 0, 0, 0), 1.5f);
  EXPECT_NEAR(half.lse[0], 1000 + std::log(2.0), 1000 * kUnit);
}

TEST(Merge, NanStaysInItsRow) {
  Case c({1, 1, 1, 3, 5, 4, 4}, 1);
  const Result clean = c.run(false);
  Result bad = c.run(false);
  bad.lse[1] = kNaN;
  const Merged expected = merge_all({&clean, &clean});
  const Merged m = merge_all({&clean, &bad});
  for (std::int64_t d = 0; d < 4; ++d) {
    EXPECT_TRUE(std::isnan(m.out.at(0, 0, 1, d)));
    EXPECT_TRUE(same_bits(m.out.at(0, 0, 0, d), expected.out.at(0, 0, 0, d)));
    EXPECT_TRUE(same_bits(m.out.at(0, 0, 2, d), expected.out.at(0, 0, 2, d)));
  }
  EXPECT_TRUE(std::isnan(m.lse[1]));
}

// Rows of the whole matrix sum to 1 − the sink's share; hidden entries are exactly 0.
TEST(Weights, RowsSumToOneWithoutTheSinksShare) {
  for (int seed = 1; seed <= scaled(300) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), false, Draw::any);
    if (c.packed()) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    const Problem p = c.problem();
    const Reference<double> r = c.reference();
    const Result got = c.run(false);
    const Tensor<float> all({p.batch, p.heads, p.queries, p.keys}, {});
    weights(c.query.view(), c.key.view(), c.options(), got.lse, {0, p.queries}, {0, p.keys},
            all.mutable_view());
    for (std::int64_t b = 0; b < p.batch; ++b)
      for (std::int64_t h = 0; h < p.heads; ++h)
        for (std::int64_t q = 0; q < p.queries; ++q) {
          const std::size_t row = row_of(p, b, h, q);
          const RowBounds bounds = bounds_of(p, r, b, h, q);
          double sum = 0;
          double bound = 0;
          for (std::int64_t k = 0; k < p.keys; ++k) {
            const float w = all.at(b, h, q, k);
            sum += double{w};
            bound += bounds.tile[static_cast<std::size_t>(k)];
            ASSERT_TRUE(c.sees(b, h, q, k) || same_bits(w, 0.0f)) << text_of({b, h, q, k});
          }
          const double sink_share =
              p.sinks != nullptr ? std::exp(double{p.sinks[h]} - r.lse[row]) : 0;
          const double expected = r.lse[row] == -double{kInfinity} ? 0 : 1 - sink_share;
          ASSERT_NEAR(sum, expected, bound + 1e-12) << text_of({b, h, q, 0});
        }
  }
}

}  // namespace
}  // namespace qkv::tests
