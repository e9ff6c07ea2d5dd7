// docs/numerics.md, lines 1 to 4 and 6; line 5 is held by bitwise_test.cc, line 7 by arguments_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

Tensor<bool> mask_of(const Sizes& s,
                     const std::function<bool(std::int64_t q, std::int64_t k)>& sees) {
  Tensor<bool> mask({1, 1, s.queries, s.keys}, {});
  mask.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
    mask.at(b, h, q, k) = sees(q, k);
  });
  return mask;
}

Tensor<float> bias_of(const Sizes& s,
                      const std::function<bool(std::int64_t q, std::int64_t k)>& sees) {
  Tensor<float> bias({1, 1, s.queries, s.keys}, {});
  bias.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
    bias.at(b, h, q, k) = sees(q, k) ? 0.25f * static_cast<float>(k % 3) : -kInfinity;
  });
  return bias;
}

bool is_zero(float x) { return same_bits(x, 0.0f); }

// ---- line 1

// The same formula in fp32 and fp64: the reference itself rounds as little as the bounds of the engine allow.
TEST(Contract1, TheFp32ReferenceStaysWithinTheBoundsOfTheFp64One) {
  for (int seed = 1; seed <= scaled(100) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), false, Draw::types);
    const Exact exact(c);
    const Problem& p = exact.problem;
    const Reference<float> rounded = reference_attention<float>(p);
    Result as_result = c.run(false);
    as_result.lse = rounded.lse;
    as_result.out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
      as_result.out.at(b, h, q, d) =
          rounded.out[row_of(p, b, h, q) * static_cast<std::size_t>(p.dim_v) +
                      static_cast<std::size_t>(d)];
    });
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    expect_matches(c, exact, as_result);
  }
}

// ---- line 2

// Every way to hide every key from some rows; `blind` says which rows those are.
struct Blind {
  std::string name;
  Case call;
  std::function<bool(std::int64_t b, std::int64_t q)> blind;
};

std::vector<Blind> blind_cases() {
  constexpr Sizes kSizes = {2, 2, 2, 21, 35, 12, 20};
  const auto all = [](std::int64_t, std::int64_t) { return true; };
  std::vector<Blind> cases;
  const auto add = [&](const char* name, const Sizes& sizes, const auto& change,
                       const auto& blind) {
    Case c(sizes, 11);
    c.plain.trace = {3, true, 16};
    change(c);
    cases.push_back({name, std::move(c), blind});
  };
  add(
      "no keys", {2, 2, 2, 21, 0, 12, 20}, [](Case&) {}, all);
  add(
      "key_lengths", kSizes,
      [](Case& c) {
        c.key_lengths = {0, 35};
      },
      [](std::int64_t b, std::int64_t) { return b == 0; });
  add(
      "mask", kSizes,
      [&](Case& c) {
        c.mask = mask_of(kSizes, [](std::int64_t q, std::int64_t) { return q % 2 == 0; });
      },
      [](std::int64_t, std::int64_t q) { return q % 2 == 1; });
  add(
      "whole mask", kSizes,
      [&](Case& c) { c.mask = mask_of(kSizes, [](std::int64_t, std::int64_t) { return false; }); },
      all);
  add(
      "bias", kSizes,
      [&](Case& c) {
        c.bias = bias_of(kSizes, [](std::int64_t q, std::int64_t) { return q > 3; });
      },
      [](std::int64_t, std::int64_t q) { return q <= 3; });
  add(
      "bottom-right", {2, 2, 2, 35, 21, 12, 20},
      [](Case& c) { c.plain.causal = Causal::bottom_right; },
      [](std::int64_t, std::int64_t q) { return q < 35 - 21; });
  add(
      "window past the end", {2, 2, 2, 60, 21, 12, 20},
      [](Case& c) {
        c.plain.causal = Causal::top_left;
        c.plain.window = {2, 2};
      },
      [](std::int64_t, std::int64_t q) { return q > 22; });
  return cases;
}

TEST(Contract2, RowWithoutVisibleKeysIsZeroAndItsLseMinusInfinity) {
  for (Blind& each : blind_cases()) {
    SCOPED_TRACE(each.name);
    for (const bool poisoned : {false, true}) {
      if (poisoned && each.blind(0, 0) && each.blind(1, each.call.sizes.queries - 1))
        each.call.value.fill([] { return kNaN; });  // nobody sees them
      const Result r = each.call.run();
      const Sizes& s = each.call.sizes;
      r.out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
        if (!each.blind(b, q)) return;
        ASSERT_TRUE(is_zero(r.out.at(b, h, q, d)));
        const std::size_t row = row_index(s, b, h, q);
        ASSERT_EQ(r.lse[row], -kInfinity);
        ASSERT_EQ(r.trace.lse[row], -kInfinity);
        ASSERT_EQ(r.trace.max[row], -kInfinity);
        ASSERT_TRUE(is_zero(r.trace.entropy[row]));
        ASSERT_TRUE(is_zero(r.trace.remainder[row]));
        for (std::size_t i = 0; i < 3; ++i) {
          ASSERT_EQ(r.trace.top_keys[row * 3 + i], -1);
          ASSERT_TRUE(is_zero(r.trace.top_weights[row * 3 + i]));
        }
      });
      if (!poisoned) expect_trace_matches(each.call, Exact(each.call), r);
    }
  }
}

TEST(Contract2, WithASinkItsLseIsTheSinkAndTheRemainderOne) {
  for (Blind& each : blind_cases()) {
    SCOPED_TRACE(each.name);
    each.call.sinks = {-3.7f, 0, 88.5f, 1000.1f};
    const Result r = each.call.run();
    const Sizes& s = each.call.sizes;
    r.out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
      if (!each.blind(b, q)) return;
      const float sink = each.call.sinks[static_cast<std::size_t>(h)];
      const std::size_t row = row_index(s, b, h, q);
      ASSERT_TRUE(is_zero(r.out.at(b, h, q, d)));
      ASSERT_NEAR(r.lse[row], sink, 3 * kUnit * std::fabs(sink));
      ASSERT_EQ(r.trace.max[row], -kInfinity);
      ASSERT_TRUE(is_zero(r.trace.entropy[row]));
      ASSERT_EQ(r.trace.remainder[row], 1);
      ASSERT_EQ(r.trace.top_keys[row * 3], -1);
    });
    expect_trace_matches(each.call, Exact(each.call), r);
  }
}

// ---- line 3

// A way to hide key `bad` from some rows and show it to others.
struct Hidden {
  std::string name;
  Case call;
  std::int64_t bad;
};

std::vector<Hidden> hidden_cases() {
  std::vector<Hidden> cases;
  const auto add = [&](const char* name, const Sizes& sizes, std::int64_t bad, const auto& change) {
    Case c(sizes, 21);
    c.plain.trace.top = 4;
    change(c);
    cases.push_back({name, std::move(c), bad});
  };
  for (const auto& [queries, keys] :
       {std::pair<std::int64_t, std::int64_t>{37, 37}, {40, 300}, {9, 1200}}) {
    const Sizes s = {1, 1, 2, queries, keys, 10, 19};
    const std::int64_t late = keys - queries / 2;  // in the middle of what causal order cuts
    const auto odd = [](std::int64_t q, std::int64_t) { return q % 2 == 1; };
    const auto but_odd = [&, late](std::int64_t q, std::int64_t k) {
      return k != late || odd(q, k);
    };
    add("bottom-right", s, late, [](Case& c) { c.plain.causal = Causal::bottom_right; });
    add("top-left", s, queries / 2, [](Case& c) { c.plain.causal = Causal::top_left; });
    add("left window", s, keys - queries, [](Case& c) { c.plain.window.left = 3; });
    add("right window", s, late, [](Case& c) { c.plain.window.right = 1; });
    add("mask", s, late, [&](Case& c) { c.mask = mask_of(s, but_odd); });
    add("bias", s, late, [&](Case& c) { c.bias = bias_of(s, but_odd); });
    add("softcap and bias", s, late, [&](Case& c) {
      c.plain.softcap = 3;
      c.bias = bias_of(s, but_odd);
    });
    add("alibi and mask", s, late, [&](Case& c) {
      c.slopes = {0.1f, 0.3f};
      c.mask = mask_of(s, but_odd);
    });
    add("sinks and mask", s, late, [&](Case& c) {
      c.sinks = {0.5f, -1};
      c.mask = mask_of(s, but_odd);
    });
    add("key_lengths", {2, 1, 2, queries, keys, 10, 19}, late, [late, keys = keys](Case& c) {
      c.key_lengths = {static_cast<std::int32_t>(late), static_cast<std::int32_t>(keys)};
    });
  }
  return cases;
}

// Bits of every row that does not see the key; the same for its tile of weights(), in which the key weighs 0. Rows that see a
// NaN are NaN.
void expect_poison_stays_behind(const Hidden& hidden, const Case& poisoned, const Result& clean,
                                bool in_key, bool nan) {
  const Sizes& s = hidden.call.sizes;
  const Result got = poisoned.run();
  const Tensor<float> tile({s.batch, s.heads(), s.queries, s.keys}, {});
  weights(poisoned.query.view(), poisoned.key.view(), poisoned.options(), clean.lse, {0, s.queries},
          {0, s.keys}, tile.mutable_view());
  std::int64_t unseen = 0;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads(); ++h)
      for (std::int64_t q = 0; q < s.queries; ++q) {
        const std::size_t row = row_index(s, b, h, q);
        if (!hidden.call.sees(b, h, q, hidden.bad)) {
          ++unseen;
          ASSERT_EQ(row_difference({&hidden.call, &clean, b, h, q}, {&poisoned, &got, b, h, q}), "")
              << "row " << h << ", " << q;
          ASSERT_TRUE(is_zero(tile.at(b, h, q, hidden.bad)));
          for (std::int64_t k = 0; k < s.keys; ++k) ASSERT_FALSE(std::isnan(tile.at(b, h, q, k)));
        } else if (nan) {
          for (std::int64_t d = 0; d < s.dim_v; ++d)
            ASSERT_TRUE(std::isnan(got.out.at(b, h, q, d))) << "row " << h << ", " << q;
          ASSERT_EQ(std::isnan(got.lse[row]), in_key);
          ASSERT_EQ(std::isnan(got.trace.entropy[row]), in_key);
        }
      }
  EXPECT_GT(unseen, 0);
  EXPECT_LT(unseen, s.batch * s.heads() * s.queries);
}

TEST(Contract3, WhatAMaskHidesNeverReachesAnything) {
  for (const Hidden& hidden : hidden_cases()) {
    const Result clean = hidden.call.run();
    for (const float poison : {kNaN, kInfinity, -kInfinity})
      for (const bool in_key : {false, true}) {
        SCOPED_TRACE(hidden.name + ", " + std::to_string(poison) +
                     (in_key ? " in key, " : " in value, ") + hidden.call.describe());
        Case poisoned = hidden.call.dense();
        Tensor<float>& t = in_key ? poisoned.key : poisoned.value;
        for (std::int64_t b = 0; b < t.shape()[0]; ++b)
          for (std::int64_t d = 0; d < t.shape()[3]; ++d) t.at(b, 0, hidden.bad, d) = poison;
        expect_poison_stays_behind(hidden, poisoned, clean, in_key, std::isnan(poison));
        if (HasFatalFailure()) return;
      }
  }
}

// Where no row at all sees the key, the sums over rows keep their bits too.
TEST(Contract3, ReceivedMassAndBlocksNeverSeeHiddenKeys) {
  Case c({1, 2, 2, 50, 290, 16, 16}, 31);
  c.mask = mask_of(c.sizes,
                   [](std::int64_t q, std::int64_t k) { return k % 7 != 3 && (q + k) % 5 != 0; });
  c.plain.trace = {4, true, 64};
  const Result clean = c.run();
  for (std::int64_t g = 0; g < 2; ++g)
    for (std::int64_t k = 3; k < c.sizes.keys; k += 7)
      for (std::int64_t d = 0; d < 16; ++d) {
        c.key.at(0, g, k, d) = d % 2 == 0 ? kNaN : kInfinity;
        c.value.at(0, g, k, d) = d % 2 == 0 ? -kInfinity : kNaN;
      }
  EXPECT_EQ(difference(clean, c.run()), "");
}

TEST(Contract3, VisibleNanPoisonsItsOwnRowOnly) {
  Case c({2, 1, 2, 45, 300, 16, 16}, 41);
  c.bias = Tensor<float>({2, 2, 45, 300}, {});
  c.bias.fill([] { return 0.5f; });
  c.plain.trace.top = 3;
  const Result clean = c.run();
  const auto expect_one_bad_row = [&](std::int64_t b, std::int64_t h, std::int64_t q) {
    const Result got = c.run();
    for (std::int64_t i = 0; i < 2; ++i)
      for (std::int64_t j = 0; j < 2; ++j)
        for (std::int64_t t = 0; t < 45; ++t) {
          const std::size_t row = row_index(c.sizes, i, j, t);
          if (i == b && j == h && t == q) {
            for (std::int64_t d = 0; d < 16; ++d) ASSERT_TRUE(std::isnan(got.out.at(i, j, t, d)));
            ASSERT_TRUE(std::isnan(got.lse[row]));
            ASSERT_TRUE(std::isnan(got.trace.entropy[row]));
            ASSERT_TRUE(std::isnan(got.trace.remainder[row]));
          } else {
            ASSERT_EQ(row_difference({&c, &clean, i, j, t}, {&c, &got, i, j, t}), "")
                << text_of({i, j, t, 0});
          }
        }
  };
  for (const std::int64_t q : {0, 15, 16, 31, 44}) {
    const float kept = std::exchange(c.query.at(1, 0, q, 5), kNaN);
    expect_one_bad_row(1, 0, q);
    c.query.at(1, 0, q, 5) = kept;
    for (const std::int64_t k : {0, 255, 256, 299}) {
      c.bias.at(0, 1, q, k) = kNaN;
      expect_one_bad_row(0, 1, q);
      c.bias.at(0, 1, q, k) = 0.5f;
    }
  }
}

// ---- line 4

TEST(Contract4, LseIsTheNaturalLogOfTheScoresTheSoftmaxSaw) {
  Case c({1, 1, 1, 1, 3, 1, 1}, 1);
  c.query.fill([] { return 2.0f; });
  float next = 0;
  c.key.fill([&] { return next++; });
  c.plain.scale = 0.5f;  // scores 0, 1, 2
  const double e = std::exp(1.0);
  EXPECT_NEAR(c.run().lse[0], std::log(1 + e + e * e), 1e-6);
  c.sinks = {3};
  EXPECT_NEAR(c.run().lse[0], std::log(1 + e + e * e + e * e * e), 1e-6);
  c.sinks = {-kInfinity};
  EXPECT_NEAR(c.run().lse[0], std::log(1 + e + e * e), 1e-6);
  c.sinks.clear();
  c.plain.softcap = 1;
  EXPECT_NEAR(c.run().lse[0], std::log(1 + std::exp(std::tanh(1.0)) + std::exp(std::tanh(2.0))),
              1e-6);
  c.plain.softcap = 0;
  c.bias = Tensor<float>({1, 1, 1, 1}, {});
  c.bias.fill([] { return 10.0f; });
  EXPECT_NEAR(c.run().lse[0], 10 + std::log(1 + e + e * e), 2e-6);
  c.key_lengths = {2};
  EXPECT_NEAR(c.run().lse[0], 10 + std::log(1 + e), 2e-6);
}

// Scores as large as ±10⁴ neither overflow nor lose the row.
TEST(Contract4, LargeScores) {
  Case c({1, 1, 1, 6, 600, 32, 8}, 2);
  c.plain.scale = 300;
  const Exact exact(c);
  expect_matches(c, exact, c.run());
}

// ---- line 6; the bounds themselves are held by differential_test.cc

TEST(Contract6, TheBoundsAreSmall) {
  for (const auto& [dim, keys] : {std::pair<std::int64_t, std::int64_t>{64, 512}, {128, 2000}}) {
    Case c({1, 1, 1, 4, keys, dim, dim}, 3);
    const Exact exact(c);
    Largest largest;
    expect_matches(c, exact, c.run(), &largest);
    const RowBounds& bounds = exact.bounds[0];
    EXPECT_LT(*std::max_element(bounds.out.begin(), bounds.out.end()), 4e-4);
    EXPECT_LT(bounds.lse, 4e-4);
    EXPECT_LT(largest.out, 1e-6) << "what is really lost is far less";
    EXPECT_LT(largest.lse, 2e-6);
  }
}

// A key that is seen but scores −inf weighs 0; 0·NaN is NaN, whether or not other rows of the call hide keys.
TEST(Contract5, AValueBehindAnInfiniteScoreIsTreatedAlikeInEveryCompany) {
  const std::vector<float> query(4, 1.0f);
  const std::vector<float> key = {0.5f, -kInfinity, 0.25f, 1.0f};
  const std::vector<float> value = {1.0f, std::nanf(""), 2.0f, 3.0f};
  const TensorView k(key.data(), {1, 1, 4, 1});
  const TensorView v(value.data(), {1, 1, 4, 1});
  std::vector<float> together(4);
  std::vector<float> alone(1);
  AttentionOptions options;
  options.causal = Causal::bottom_right;
  attention({query.data(), {1, 1, 4, 1}}, k, v, options,
            {{together.data(), {1, 1, 4, 1}}, {}, nullptr});
  attention({query.data(), {1, 1, 1, 1}}, k, v, options,
            {{alone.data(), {1, 1, 1, 1}}, {}, nullptr});
  EXPECT_EQ(together[0], 1.0f);  // sees key 0 only
  EXPECT_TRUE(std::isnan(together[3]));
  EXPECT_TRUE(std::isnan(alone[0]));
}

}  // namespace
}  // namespace qkv::tests
