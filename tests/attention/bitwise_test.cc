// Line 5 of docs/numerics.md: a row's output, LSE and trace have the same bits whatever else is in the call and however it is
// laid out and run.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/attention/cases.h"

namespace qkv::tests {
namespace {

Range some(Random& random, std::int64_t size) {
  const std::int64_t begin = random.below(static_cast<int>(size));
  return {begin, begin + random.between(1, static_cast<int>(size - begin))};
}

// A part of c in which every query keeps its position: for bottom-right causal order the keys that no query of the part sees
// go with the queries after them, otherwise what fixes the position (the first or the last query) stays.
Case random_part(const Case& c, Random& random, Range batch, Range heads_kv, Range& queries) {
  const bool ordered = c.plain.window.left >= 0 || c.plain.window.right >= 0 || !c.slopes.empty();
  const std::int64_t shortest = c.key_lengths.empty()
                                    ? c.sizes.keys
                                    : *std::min_element(c.key_lengths.begin(), c.key_lengths.end());
  queries = some(random, c.sizes.queries);
  std::int64_t dropped = 0;
  if (c.plain.causal == Causal::top_left)
    queries.begin = 0;
  else if (c.plain.causal == Causal::bottom_right && c.sizes.queries - queries.end <= shortest)
    dropped = c.sizes.queries - queries.end;
  else if (c.plain.causal == Causal::bottom_right || ordered)
    queries.end = c.sizes.queries;
  Case part = c.part(batch, heads_kv, queries, {0, c.sizes.keys - dropped});
  for (std::size_t b = 0; b < part.key_lengths.size(); ++b)
    part.key_lengths[b] = static_cast<std::int32_t>(
        c.key_lengths[static_cast<std::size_t>(batch.begin) + b] - dropped);
  return part;
}

void expect_part_has_the_bits(const Case& c, const Result& whole, Random& random) {
  const Range batch = some(random, c.sizes.batch);
  const Range heads_kv = some(random, c.sizes.heads_kv);
  Range queries;
  Case part = random_part(c, random, batch, heads_kv, queries);
  part.out_layout = random_layout(random, false);
  const Result got = part.run();
  for (std::int64_t b = 0; b < part.sizes.batch; ++b)
    for (std::int64_t h = 0; h < part.sizes.heads(); ++h)
      for (std::int64_t q = 0; q < part.sizes.queries; ++q)
        ASSERT_EQ(row_difference({&c, &whole, batch.begin + b, heads_kv.begin * c.sizes.group + h,
                                  queries.begin + q},
                                 {&part, &got, b, h, q}),
                  "")
            << "row " << text_of({b, h, q, 0}) << " of: " << part.describe();
}

TEST(Contract5Bitwise, RowsAreTheSameWhateverElseIsInTheCall) {
  for (int seed = 1; seed <= scaled(800) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), seed % 40 == 0, Draw::types);
    if (c.sizes.batch * c.sizes.heads_kv * c.sizes.queries == 0) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    Random random(static_cast<std::uint64_t>(seed));
    const Result whole = c.run();
    expect_part_has_the_bits(c, whole, random);
    expect_part_has_the_bits(c, whole, random);
  }
}

// Each row of a causal prefill, and the same row as a single query over the keys up to its own.
TEST(Contract5Bitwise, DecodeGivesTheBitsOfPrefill) {
  for (const Sizes& sizes : {Sizes{1, 1, 1, 300, 300, 64, 64}, Sizes{1, 1, 2, 70, 1100, 40, 24},
                             Sizes{2, 2, 1, 40, 40, 5, 9}})
    for (const std::int64_t left : {-1, 37}) {
      Case c(sizes, 5);
      c.plain.causal = Causal::bottom_right;
      c.plain.window.left = left;
      c.plain.trace.top = 5;
      const Result whole = c.run();
      const std::int64_t step = std::max<std::int64_t>(1, sizes.queries / scaled(50));
      for (std::int64_t q = 0; q < sizes.queries; q += step) {
        const Case row = c.part({0, sizes.batch}, {0, sizes.heads_kv}, {q, q + 1},
                                {0, sizes.keys - sizes.queries + q + 1});
        const Result alone = row.run();
        for (std::int64_t b = 0; b < sizes.batch; ++b)
          for (std::int64_t h = 0; h < sizes.heads(); ++h)
            ASSERT_EQ(row_difference({&c, &whole, b, h, q}, {&row, &alone, b, h, 0}), "")
                << "query " << q << ", left " << left;
      }
    }
}

TEST(Contract5Bitwise, AnyNumberOfThreads) {
  for (int seed = 1; seed <= scaled(60) && !HasFailure(); ++seed) {
    Case c = random_case(static_cast<std::uint64_t>(seed), seed % 10 == 0, Draw::any);
    c.plain.trace.received = true;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    const Result one = c.run(true, 1);
    const Result plain = c.run(false, 1);
    for (const int threads : {2, 3, 7}) {
      EXPECT_EQ(difference(one, c.run(true, threads)), "") << threads << " threads, traced";
      EXPECT_EQ(difference(plain, c.run(false, threads)), "") << threads << " threads";
    }
  }
}

TEST(Contract5Bitwise, ReceivedAndBlocksForAnyNumberOfThreads) {
  for (const int block : {1, 7, 64, 100, 128, 200}) {
    Case c({1, 1, 2, 900, 500, 16, 16}, 3);
    c.plain.causal = Causal::bottom_right;
    c.plain.trace = {4, true, block};
    if (block == 1) c = c.part_of_queries({0, 300});
    const Result one = c.run(true, 1);
    for (const int threads : {2, 3, 7})
      EXPECT_EQ(difference(one, c.run(true, threads)), "") << "block " << block << ", " << threads;
  }
}

TEST(Contract5Bitwise, ContiguousOrStrided) {
  for (int seed = 1; seed <= scaled(500) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), false, Draw::any);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    EXPECT_EQ(difference(c.run(), c.dense().run()), "");
  }
}

TEST(Contract5Bitwise, WithOrWithoutATrace) {
  for (int seed = 1; seed <= scaled(300) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), seed % 30 == 0, Draw::any);
    Result traced = c.run();
    traced.trace = {};
    EXPECT_EQ(difference(traced, c.run(false)), "") << "seed " << seed << ": " << c.describe();
  }
}

// Order, window and key_lengths skip keys; a mask that hides the same keys looks at them. The bits are the same.
TEST(Contract5Bitwise, HiddenByAnOptionOrByAMask) {
  for (int seed = 1; seed <= scaled(300) && !HasFailure(); ++seed) {
    Case c = random_case(static_cast<std::uint64_t>(seed), seed % 30 == 0, Draw::types);
    c.slopes.clear();  // they need the positions
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    const Result expected = c.run();
    Tensor<bool> mask({c.sizes.batch, c.sizes.heads(), c.sizes.queries, c.sizes.keys}, {});
    mask.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
      mask.at(b, h, q, k) = c.sees(b, h, q, k);
    });
    c.mask = std::move(mask);
    c.plain.causal = Causal::no;
    c.plain.window = {};
    c.key_lengths.clear();
    EXPECT_EQ(difference(expected, c.run()), "");
  }
}

// Query heads that share a key head, and the same with that head's keys and values copied for each of them.
TEST(Contract5Bitwise, SharedOrRepeatedKeyHeads) {
  Case c({2, 3, 4, 33, 290, 24, 40}, 8);
  c.plain.causal = Causal::bottom_right;
  c.plain.trace = {4, true, 64};
  const Result shared = c.run();
  Case copied = c.dense();
  copied.sizes.heads_kv = c.sizes.heads();
  copied.sizes.group = 1;
  const auto repeat = [&](const Tensor<float>& t) {
    Shape4 shape = t.shape();
    shape[1] = c.sizes.heads();
    Tensor<float> r(shape, {});
    r.each([&](std::int64_t b, std::int64_t h, std::int64_t k, std::int64_t d) {
      r.at(b, h, k, d) = t.at(b, h / c.sizes.group, k, d);
    });
    return r;
  };
  copied.key = repeat(c.key);
  copied.value = repeat(c.value);
  EXPECT_EQ(difference(shared, copied.run()), "");
}

// A tile of weights() has the bits it has within the whole matrix.
TEST(Contract5Bitwise, TilesOfWeights) {
  for (int seed = 1; seed <= scaled(150) && !HasFailure(); ++seed) {
    const Case c = random_case(static_cast<std::uint64_t>(seed), false, Draw::types);
    const Sizes& s = c.sizes;
    if (s.queries * s.keys == 0) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.describe());
    const Result r = c.run(false);
    const auto tile_of = [&](Range queries, Range keys, int threads) {
      Tensor<float> tile({s.batch, s.heads(), queries.end - queries.begin, keys.end - keys.begin},
                         {});
      AttentionOptions o = c.options();
      o.threads = threads;
      weights(c.query.view(), c.key.view(), o, r.lse, queries, keys, tile.mutable_view());
      return tile;
    };
    const Tensor<float> whole = tile_of({0, s.queries}, {0, s.keys}, 1);
    Random random(static_cast<std::uint64_t>(seed));
    const Range queries = some(random, s.queries);
    const Range keys = some(random, s.keys);
    const Tensor<float> tile = tile_of(queries, keys, 3);
    bool same = true;
    tile.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
      same &= same_bits(tile.at(b, h, q, k), whole.at(b, h, queries.begin + q, keys.begin + k));
    });
    EXPECT_TRUE(same);
  }
}

}  // namespace
}  // namespace qkv::tests
