// Line 5 of docs/numerics.md for types, packed sequences and pages: each is the plain call on the same numbers, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

// Calls of every form, each `check`ed with its seed in the message; QKV_SEED=<seed> runs that one alone.
template <class F>
void each_case(int count, Draw draw, const F& check) {
  const char* asked = std::getenv("QKV_SEED");
  const int only = asked != nullptr ? std::atoi(asked) : 0;
  for (int seed = std::max(only, 1);
       seed <= (only > 0 ? only : scaled(count)) && !testing::Test::HasFailure(); ++seed) {
    Case c = random_case(static_cast<std::uint64_t>(seed), seed % 40 == 0, draw);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    check(c);
  }
}

bool is_formed(const Case& c) { return c.packed() || !c.block_table.empty(); }

// ---- packed sequences and pages

TEST(Contract5Bitwise, PackedAndPagedAreTheSequencesAlone) {
  int formed = 0;
  each_case(1500, Draw::any, [&](const Case& c) {
    if (!is_formed(c)) return;
    ++formed;
    EXPECT_EQ(difference_from_alone(c, c.run(true)), "") << "traced";
    EXPECT_EQ(difference_from_alone(c, c.run(false)), "") << "not traced";
  });
  EXPECT_TRUE(HasFailure() || std::getenv("QKV_SEED") != nullptr || formed > scaled(1500) / 2);
}

TEST(Contract5Bitwise, PackedAndPagedForAnyLayoutAndNumberOfThreads) {
  each_case(150, Draw::any, [](Case& c) {
    if (!is_formed(c)) return;
    c.plain.trace.received = true;
    const Result one = c.run(true, 1);
    EXPECT_EQ(difference(one, c.dense().run(true, 3)), "");
    EXPECT_EQ(difference(c.run(false, 1), c.dense().run(false, 2)), "");
  });
}

// The sequences of a call, in pages of `page` tokens that lie in the pool from the last to the first.
Case paged(const Case& c, std::int64_t page) {
  Case p = c.dense();
  if (p.key_lengths.empty())
    p.key_lengths.assign(static_cast<std::size_t>(c.sizes.batch),
                         static_cast<std::int32_t>(c.sizes.keys));
  const std::int64_t width = (c.sizes.keys + page - 1) / page;
  const auto pool_of = [&](const Tensor<float>& t) {
    if (t.data() == nullptr) return Tensor<float>();
    Tensor<float> pool({c.sizes.batch * width, c.sizes.heads_kv, page, t.shape()[3]}, {});
    pool.fill([] { return kNaN; });
    pool.store_as(t.dtype());
    for (std::int64_t b = 0; b < c.sizes.batch; ++b)
      for (std::int64_t g = 0; g < c.sizes.heads_kv; ++g)
        for (std::int64_t k = 0; k < c.sizes.keys; ++k)
          for (std::int64_t d = 0; d < t.shape()[3]; ++d)
            pool.at((c.sizes.batch - b) * width - 1 - k / page, g, k % page, d) =
                c.key_at(t, b, g, k, d);
    return pool;
  };
  p.key = pool_of(c.key);
  p.value = pool_of(c.value);
  p.k_scale = pool_of(c.k_scale);
  p.v_scale = pool_of(c.v_scale);
  for (std::int64_t b = 0; b < c.sizes.batch; ++b)
    for (std::int64_t i = 0; i < width; ++i)
      p.block_table.push_back(static_cast<std::int32_t>((c.sizes.batch - b) * width - 1 - i));
  return p;
}

// Where a length fills the longest row, the trace's columns are the same too.
TEST(Contract5Bitwise, PagesAreContiguousKeys) {
  each_case(250, Draw::types, [](const Case& c) {
    if (c.sizes.batch * c.sizes.keys == 0) return;
    if (!c.key_lengths.empty() &&
        *std::max_element(c.key_lengths.begin(), c.key_lengths.end()) < c.sizes.keys)
      return;
    const Result expected = c.run();
    for (const std::int64_t page : {1, 3, 16, 64, 128, 200}) {
      const Case p = paged(c, page);
      EXPECT_EQ(difference(expected, p.run()), "") << "pages of " << page;
      EXPECT_EQ(difference(c.run(false), p.run(false)), "") << "not traced, pages of " << page;
    }
  });
}

// Two continuations of one prompt share its pages.
TEST(Contract5Bitwise, PagesSharedByEntries) {
  Case c({2, 2, 2, 5, 300, 16, 24}, 12);
  c.plain.causal = Causal::bottom_right;
  c.plain.trace = {4, true, 64};
  for (const auto* t : {&c.key, &c.value})
    for (std::int64_t g = 0; g < 2; ++g)
      for (std::int64_t k = 0; k < 256; ++k)
        for (std::int64_t d = 0; d < t->shape()[3]; ++d) t->at(1, g, k, d) = t->at(0, g, k, d);
  Case p = paged(c, 64);
  const Result expected = c.run();
  EXPECT_EQ(difference(expected, p.run()), "");
  for (std::size_t i = 0; i < 4; ++i) p.block_table[5 + i] = p.block_table[i];
  EXPECT_EQ(difference(expected, p.run()), "");
}

// What lies in pages that no entry uses, behind key_lengths, and in entries of the table past the last page.
TEST(Contract3, PagesNobodyUsesAreNotRead) {
  Case c({3, 1, 2, 4, 130, 8, 8}, 13);
  c.key_lengths = {130, 0, 65};
  c.plain.trace = {3, true, 16};
  for (const std::int64_t page : {1, 16, 64, 200}) {
    Case p = paged(c, page);
    const Result clean = p.run();
    const Tensor<float> tile({3, 2, 4, 130}, {});
    p.poison_keys_but([](std::int64_t, std::int64_t, std::int64_t) { return true; });
    const std::size_t width = p.block_table.size() / 3;
    for (std::size_t b = 0; b < 3; ++b)
      for (auto i = static_cast<std::size_t>((p.key_lengths[b] + page - 1) / page); i < width; ++i)
        p.block_table[b * width + i] = i % 2 == 0 ? -1 : 0x7fffffff;
    EXPECT_EQ(difference(clean, p.run()), "");
    weights(p.query.view(), p.key.view(), p.options(), clean.lse, {0, 4}, {0, 130},
            tile.mutable_view());
    tile.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
      if (k >= p.key_length(b)) {
        ASSERT_TRUE(same_bits(tile.at(b, h, q, k), 0.0f));
      } else {
        ASSERT_TRUE(std::isfinite(tile.at(b, h, q, k)));
      }
    });
  }
}

// A prompt in pieces at the end of a growing cache, the pieces of several sequences packed: each row is that of one prefill.
TEST(Contract5Bitwise, ChunkedPrefillOverPagesIsOnePrefill) {
  Case whole({1, 2, 2, 150, 150, 16, 16}, 14);
  whole.plain.causal = Causal::bottom_right;
  whole.plain.trace.top = 4;
  const Result expected = whole.run();
  const Case cache = paged(whole, 16);
  for (const std::vector<std::int32_t>& ends :
       {std::vector<std::int32_t>{150}, {1, 2, 3, 77, 150}, {64, 128, 150}}) {
    const auto pieces = static_cast<std::int64_t>(ends.size());
    Case c = cache.dense();
    c.sizes.batch = pieces;
    c.key_lengths = ends;
    c.starts_q = {0};
    c.sizes.queries = 0;
    c.block_table.clear();
    for (std::size_t i = 0; i < ends.size();
         ++i) {  // every piece is a sequence over the same cache
      c.starts_q.push_back(ends[i]);
      c.sizes.queries = std::max<std::int64_t>(c.sizes.queries, ends[i] - c.starts_q[i]);
      c.block_table.insert(c.block_table.end(), cache.block_table.begin(), cache.block_table.end());
    }
    const Result got = c.run();
    for (std::int64_t b = 0; b < pieces; ++b)
      for (std::int64_t h = 0; h < 4; ++h)
        for (std::int64_t q = 0; q < c.query_length(b); ++q)
          ASSERT_EQ(
              row_difference({&whole, &expected, 0, h, c.starts_q[static_cast<std::size_t>(b)] + q},
                             {&c, &got, b, h, q}),
              "")
              << "piece " << b << ", row " << q;
  }
}

// By hand: two sequences of 2 and 1 queries over 3 and 2 keys, 2 heads.
TEST(Packed, LseAndTraceAreHeadAfterHead) {
  Case c({2, 2, 1, 2, 3, 4, 4}, 15);
  c.starts_q = {0, 2, 3};
  c.starts_k = {0, 3, 5};
  c.query = Tensor<float>({1, 2, 3, 4}, {});
  c.key = Tensor<float>({1, 2, 5, 4}, {});
  c.value = Tensor<float>({1, 2, 5, 4}, {});
  c.query.fill([] { return 0.0f; });  // every key weighs the same
  c.key.fill([] { return 1.0f; });
  c.value.fill([] { return 1.0f; });
  c.plain.trace = {1, true, 2};
  const Result r = c.run();
  const auto ln = [](double x) { return static_cast<float>(std::log(x)); };
  ASSERT_EQ(r.lse.size(), 6u);
  for (std::size_t h = 0; h < 2; ++h) {
    EXPECT_NEAR(r.lse[h * 3], ln(3), 1e-6);
    EXPECT_NEAR(r.lse[h * 3 + 1], ln(3), 1e-6);
    EXPECT_NEAR(r.lse[h * 3 + 2], ln(2), 1e-6);
    EXPECT_EQ(r.trace.top_keys[h * 3 + 2], 0) << "keys count within their sequence";
  }
  EXPECT_EQ(r.trace.batch, 2);
  EXPECT_EQ(r.trace.queries, 2);
  EXPECT_EQ(r.trace.keys, 3);
  EXPECT_EQ(r.trace.visible, (std::vector<std::int32_t>{2, 2, 2, 1, 1, 2, 2, 2, 1, 1}));
  ASSERT_EQ(r.trace.received.size(), 10u);
  EXPECT_NEAR(r.trace.received[3], 0.5, 1e-6);
  // one map of 1 × 2 blocks for each sequence and head: keys 0 and 1, then key 2
  ASSERT_EQ(r.trace.block_mass.size(), 8u);
  for (std::size_t h = 0; h < 2; ++h) {
    EXPECT_NEAR(r.trace.block_mass[h * 2], 4.0 / 3, 1e-6);
    EXPECT_NEAR(r.trace.block_mass[h * 2 + 1], 2.0 / 3, 1e-6);
    EXPECT_NEAR(r.trace.block_mass[4 + h * 2], 1, 1e-6);
    EXPECT_EQ(r.trace.block_mass[4 + h * 2 + 1], 0);
  }
}

TEST(Packed, NoSequencesAndEmptyOnes) {
  for (const std::vector<std::int32_t>& starts :
       {std::vector<std::int32_t>{0}, {0, 0}, {0, 0, 0, 0}}) {
    const auto n = static_cast<std::int64_t>(starts.size()) - 1;
    Case c({n, 2, 1, 0, 0, 4, 4}, 16);
    c.query = Tensor<float>({1, 2, 0, 4}, {});
    c.key = Tensor<float>({1, 2, 0, 4}, {});
    c.value = Tensor<float>({1, 2, 0, 4}, {});
    c.starts_q = c.starts_k = starts;
    c.plain.trace = {2, true, 8};
    const Result r = c.run();
    EXPECT_EQ(r.trace.batch, n);
    EXPECT_TRUE(r.trace.lse.empty() && r.trace.received.empty() && r.trace.block_mass.empty());
  }
  // no entries, and entries whose tables have no room for a page
  const std::int32_t none[] = {0, 0};
  for (const std::size_t n : {0u, 2u}) {
    const Case pool({1, 1, 1, 1, 1, 4, 4}, 16);
    const Tensor<float> query({static_cast<std::int64_t>(n), 1, 3, 4}, {});
    const Tensor<float> out(query.shape(), {});
    AttentionOptions o;
    o.block_table = {none, 0};
    o.key_lengths = {none, n};
    attention(query.view(), pool.key.view(), pool.value.view(), o,
              {out.mutable_view(), {}, nullptr});
    out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
      ASSERT_TRUE(same_bits(out.at(b, h, q, d), 0.0f));
    });
  }
  // queries without keys, and keys without queries
  Case c({3, 1, 2, 4, 5, 4, 4}, 17);
  c.query = Tensor<float>({1, 2, 4, 4}, {});
  c.query.fill([] { return 1.0f; });
  c.key = Tensor<float>({1, 1, 5, 4}, {});
  c.value = Tensor<float>({1, 1, 5, 4}, {});
  c.key.fill([] { return 1.0f; });
  c.value.fill([] { return 1.0f; });
  c.starts_q = {0, 4, 4, 4};
  c.starts_k = {0, 0, 5, 5};
  c.plain.trace = {2, true, 2};
  const Result r = c.run();
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(r.lse[i], -kInfinity);
    EXPECT_EQ(r.trace.top_keys[2 * i], -1);
  }
  r.out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
    ASSERT_TRUE(same_bits(r.out.at(b, h, q, d), 0.0f));
  });
  EXPECT_EQ(r.trace.received, std::vector<float>(10, 0));
  EXPECT_EQ(r.trace.visible, std::vector<std::int32_t>(10, 0));
  EXPECT_EQ(difference_from_alone(c, r), "");
}

// ---- types

// Numbers that a caller widens are the same numbers. int8 without its scale is that too; with it, k_scale multiplies the
// score and v_scale the weight, which rounds elsewhere.
TEST(Contract5Bitwise, NarrowNumbersAreTheSameNumbersWidened) {
  each_case(600, Draw::any, [](Case& c) {
    const Problem p = c.problem();
    if (scores_by_dots(p) || values_by_dots(p)) return;
    c.k_scale.fill([] { return 1.0f; });
    c.v_scale.fill([] { return 1.0f; });
    const Case wide = c.widened();
    EXPECT_EQ(difference(c.run(), wide.run()), "");
    EXPECT_EQ(difference(c.run(false), wide.run(false)), "") << "not traced";
    if (c.packed()) return;
    const Result r = c.run(false);
    const Shape4 shape = {c.sizes.batch, c.sizes.heads(), c.sizes.queries, c.sizes.keys};
    const Tensor<float> tile(shape, {});
    const Tensor<float> wide_tile(shape, {});
    weights(c.query.view(), c.key.view(), c.options(), r.lse, {0, c.sizes.queries},
            {0, c.sizes.keys}, tile.mutable_view());
    weights(wide.query.view(), wide.key.view(), wide.options(), r.lse, {0, c.sizes.queries},
            {0, c.sizes.keys}, wide_tile.mutable_view());
    bool same = true;
    tile.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
      same &= same_bits(tile.at(b, h, q, k), wide_tile.at(b, h, q, k));
    });
    EXPECT_TRUE(same) << "weights()";
  });
}

// out in a narrower type is out in fp32, rounded: nothing else changes.
TEST(Contract5Bitwise, NarrowOutputIsTheWideOneRounded) {
  each_case(300, Draw::any, [](Case& c) {
    const Result narrow = c.run();
    c.out_type = DType::f32;
    Result wide = c.run();
    wide.out.store_as(narrow.out.dtype());
    EXPECT_EQ(difference(narrow, wide), "");
    EXPECT_FALSE(narrow.out.written_outside());
  });
}

TEST(Contract5Bitwise, TypesInPartsAndLayouts) {
  each_case(300, Draw::types, [](const Case& c) {
    const Result whole = c.run();
    EXPECT_EQ(difference(whole, c.dense().run()), "");
    if (c.sizes.batch * c.sizes.heads_kv * c.sizes.queries == 0) return;
    // the last query alone: decode after prefill
    const std::int64_t last = c.sizes.queries - 1;
    if (c.plain.causal == Causal::top_left) return;
    const Case step = c.part_of_queries({last, last + 1});
    const Result alone = step.run();
    const Result untraced = step.run(false);
    for (std::int64_t b = 0; b < c.sizes.batch; ++b)
      for (std::int64_t h = 0; h < c.sizes.heads(); ++h) {
        ASSERT_EQ(row_difference({&c, &whole, b, h, last}, {&step, &alone, b, h, 0}), "");
        ASSERT_EQ(row_difference({&c, &whole, b, h, last}, {&step, &untraced, b, h, 0}), "");
      }
  });
}

// int8 with one scale for everything, one a head, one a token, one for each: the score is that of the product.
TEST(Int8, ScalesOfEveryShape) {
  for (int shape = 0; shape < 8; ++shape) {
    const auto size = [&](int bit, std::int64_t n) { return (shape >> bit & 1) != 0 ? n : 1; };
    Case c({2, 2, 2, 9, 140, 16, 24}, 18);
    Random random(static_cast<std::uint64_t>(shape));
    for (auto* t : {&c.key, &c.value}) {
      t->each([&](std::int64_t b, std::int64_t g, std::int64_t k, std::int64_t d) {
        t->at(b, g, k, d) *= 40;
      });
      t->store_as(DType::i8);
    }
    for (auto* scale : {&c.k_scale, &c.v_scale}) {
      *scale = Tensor<float>({size(0, 2), size(1, 2), size(2, 140), 1}, {});
      scale->fill([&] { return random.uniform(0.01f, 0.04f); });
    }
    c.plain.trace = {5, true, 32};
    const Exact exact(c);
    const Result got = c.run();
    expect_matches(c, exact, got);
    expect_trace_matches(c, exact, got);
    // the caller's own products, rounded once each: within the bounds of both calls together
    const Case wide = c.widened();
    const Result product = wide.run();
    for (std::int64_t b = 0; b < 2; ++b)
      for (std::int64_t h = 0; h < 4; ++h)
        for (std::int64_t q = 0; q < 9; ++q) {
          const std::size_t row = c.row(b, h, q);
          const RowBounds& bounds = exact.bounds[row];
          ASSERT_NEAR(got.lse[row], product.lse[row], 3 * bounds.lse);
          for (std::int64_t d = 0; d < 24; ++d)
            ASSERT_NEAR(got.out.at(b, h, q, d), product.out.at(b, h, q, d),
                        3 * bounds.out[static_cast<std::size_t>(d)]);
        }
  }
}

// Hidden keys keep what their scales hold to themselves; a NaN scale of a key that is seen makes its rows NaN.
TEST(Contract3, ScalesOfHiddenKeysAreHidden) {
  for (const float poison : {kNaN, kInfinity, -kInfinity})
    for (const bool in_key : {false, true}) {
      Case c({1, 1, 2, 40, 200, 8, 8}, 19);
      for (auto* t : {&c.key, &c.value}) t->store_as(DType::i8);
      for (auto* scale : {&c.k_scale, &c.v_scale}) {
        *scale = Tensor<float>({1, 1, 200, 1}, {});
        scale->fill([] { return 0.5f; });
      }
      c.plain.causal = Causal::bottom_right;
      c.plain.trace.top = 3;
      const Result clean = c.run();
      (in_key ? c.k_scale : c.v_scale).at(0, 0, 180, 0) = poison;
      const Result got = c.run();
      for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t q = 0; q < 40; ++q) {
          if (!c.sees(0, h, q, 180)) {
            ASSERT_EQ(row_difference({&c, &clean, 0, h, q}, {&c, &got, 0, h, q}), "") << q;
          } else if (std::isnan(poison)) {
            ASSERT_TRUE(std::isnan(got.out.at(0, h, q, 0)));
            ASSERT_EQ(std::isnan(got.lse[c.row(0, h, q)]), in_key);
          }
        }
    }
}

// A half holds up to 65504; what is beyond becomes infinite, what is far below it 0, and bfloat16 keeps both.
TEST(Types, OutputsBeyondTheirType) {
  Case c({1, 1, 1, 1, 1, 1, 4}, 20);
  const float values[] = {1e5f, -7e4f, 65519, 1e-9f};
  for (std::int64_t d = 0; d < 4; ++d) c.value.at(0, 0, 0, d) = values[d];
  for (const bool traced : {false, true}) {
    c.out_type = DType::f16;
    const Result half = c.run(traced);
    EXPECT_EQ(half.out.at(0, 0, 0, 0), kInfinity);
    EXPECT_EQ(half.out.at(0, 0, 0, 1), -kInfinity);
    EXPECT_EQ(half.out.at(0, 0, 0, 2), 65504);
    EXPECT_TRUE(same_bits(half.out.at(0, 0, 0, 3), 0.0f));
    c.out_type = DType::bf16;
    const Result bf16 = c.run(traced);
    for (std::int64_t d = 0; d < 4; ++d)
      EXPECT_NEAR(bf16.out.at(0, 0, 0, d), values[d], 0x1p-8 * std::fabs(values[d]));
  }
}

}  // namespace
}  // namespace qkv::tests
