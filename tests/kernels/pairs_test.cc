// Products of bfloat16 by the dot instruction, against their twins of pairs_scalar.h: the same bits.
#include "kernels/pairs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/pairs_scalar.h"
#include "tests/kernels/random.h"

namespace qkv::kernels::testing {
namespace {

using qkv::tests::Random;
using Halves = std::vector<std::uint16_t>;

std::vector<const Kernels*> tables() {
  std::vector<const Kernels*> found;
  for (const Kernels* k = kernels_of("avx512_bf16"); k != nullptr; k = k->narrow)
    found.push_back(k);
  return found;
}

// f(pair kernels) for each panel width; says so where the CPU has no dot instruction.
template <class F>
void for_each_table(const F& f) {
  if (tables().empty()) GTEST_SKIP() << "this CPU has no dot instruction for bfloat16";
  for (const Kernels* k : tables()) {
    ASSERT_EQ(k->pairs->panel, k->panel);
    f(*k->pairs);
  }
}

// Any number: normal, large, subnormal, zero; never NaN.
std::uint16_t number(Random& random) {
  if (random.chance(0.02)) return static_cast<std::uint16_t>(random.below(0x80));  // subnormal
  return float_to_bfloat16(random.normal() * (random.chance(0.1) ? 1e-30f : 1.0f));
}

Halves numbers(Random& random, std::int64_t count) {
  Halves h(static_cast<std::size_t>(count));
  for (auto& x : h) x = number(random);
  return h;
}

std::vector<Pair> pairs(Random& random, std::int64_t count) {
  std::vector<Pair> p(static_cast<std::size_t>(count));
  for (auto& x : p) x = scalar::pair_of(number(random), number(random));
  return p;
}

constexpr int kSizes[] = {1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128};

TEST(Pairs, QueriesArePacked) {
  for_each_table([](const PairKernels& kernel) {
    Random random(1);
    for (const int dim : {1, 2, 3, 31, 32, 33, 63, 64, 65, 128, 130})
      for (const int count : {1, 2, 15, 16, 17, kernel.panel - 1, kernel.panel}) {
        if (count < 1 || count > kernel.panel) continue;
        const std::int64_t stride = dim + 3;
        const Halves rows = numbers(random, stride * count);
        for (const bool negate : {false, true}) {
          std::vector<Pair> got(static_cast<std::size_t>((dim + 1) / 2 * kernel.panel), 7);
          std::vector<Pair> expected = got;
          kernel.pack_queries(rows.data(), stride, count, dim, negate, got.data());
          scalar::pack_queries_pairs(kernel.panel, rows.data(), stride, count, dim, negate,
                                     expected.data());
          // the partner of an odd last number is ±0
          for (std::size_t i = 0; i < got.size(); ++i)
            ASSERT_EQ(dim % 2 == 1 ? got[i] & 0x7fffffffu : got[i],
                      dim % 2 == 1 ? expected[i] & 0x7fffffffu : expected[i])
                << "dim " << dim << " count " << count << " at " << i;
        }
      }
  });
}

TEST(Pairs, ScoresHaveTheTwinsBits) {
  for_each_table([](const PairKernels& kernel) {
    Random random(2);
    for (const int keys : kSizes)
      for (const int dim : {2, 4, 30, 32, 64, 66, 128}) {
        const std::int64_t stride = dim + 2;
        const Halves rows = numbers(random, stride * keys);
        const std::vector<Pair> packed = pairs(random, dim / 2 * kernel.panel);
        std::vector<float> got(static_cast<std::size_t>(keys * kernel.panel));
        std::vector<float> expected = got;
        kernel.query_dot_keys(packed.data(), rows.data(), stride, keys, dim, 0.3f, 0, got.data(),
                              nullptr);
        scalar::query_dot_keys_pairs(kernel.panel, packed.data(), rows.data(), stride, keys, dim,
                                     0.3f, expected.data(), nullptr);
        ASSERT_EQ(got, expected) << keys << " keys, dim " << dim;
      }
  });
}

TEST(Pairs, WeightsAndValuesArePacked) {
  for_each_table([](const PairKernels& kernel) {
    Random random(3);
    for (const int keys : kSizes) {
      std::vector<float> weights(static_cast<std::size_t>(keys * kernel.panel));
      for (auto& w : weights)
        w = random.chance(0.1) ? 0.0f : random.chance(0.05) ? 1e-39f : random.uniform(0, 1);
      std::vector<Pair> got(static_cast<std::size_t>((keys + 1) / 2 * kernel.panel));
      std::vector<Pair> expected = got;
      kernel.pack_weights(weights.data(), keys, got.data());
      scalar::pack_weights(kernel.panel, weights.data(), keys, expected.data());
      ASSERT_EQ(got, expected) << keys << " keys";
      for (const int dim : {1, 2, 15, 31, 32, 33, 64, 65, 100}) {
        const Halves rows = numbers(random, keys * (dim + 1));
        std::vector<Pair> values(static_cast<std::size_t>((keys + 1) / 2 * dim), 7);
        std::vector<Pair> twin = values;
        kernel.pack_values(rows.data(), dim + 1, keys, dim, values.data());
        scalar::pack_values(rows.data(), dim + 1, keys, dim, twin.data());
        ASSERT_EQ(values, twin) << keys << " keys, dim " << dim;
      }
    }
  });
}

// Its weights are those of the softmax over floats, rounded; so is everything else it leaves.
TEST(Pairs, SoftmaxIsThatOfFloatsAndPacksItsWeights) {
  const Kernels* floats = kernels_of("avx512");
  for_each_table([&](const PairKernels& kernel) {
    const Kernels* wide = floats;
    while (wide != nullptr && wide->panel != kernel.panel) wide = wide->narrow;
    ASSERT_NE(wide, nullptr);
    Random random(7);
    const auto lanes = static_cast<std::size_t>(kernel.panel);
    for (const int keys : kSizes) {
      std::vector<float> max(lanes, -__builtin_inff()), sum(lanes), alpha(lanes);
      std::vector<float> twin_max = max, twin_sum = sum, twin_alpha = alpha;
      std::vector<float> seen_max = max, seen_sum = sum, spread(lanes);
      std::vector<float> twin_seen = max, twin_seen_sum = sum, twin_spread = spread;
      for (int chunk = 0; chunk < 2; ++chunk) {
        std::vector<float> scores(static_cast<std::size_t>(keys) * lanes);
        for (auto& s : scores) s = random.chance(0.1) ? -__builtin_inff() : random.uniform(-30, 5);
        const std::vector<float> before = scores;
        std::vector<Pair> got(static_cast<std::size_t>((keys + 1) / 2) * lanes, 7);
        std::vector<Pair> expected = got;
        kernel.softmax(scores.data(), keys, {max.data(), sum.data(), alpha.data()}, got.data());
        ASSERT_EQ(scores, before);
        wide->softmax(scores.data(), keys, {twin_max.data(), twin_sum.data(), twin_alpha.data()});
        scalar::pack_weights(kernel.panel, scores.data(), keys, expected.data());
        ASSERT_EQ(got, expected) << keys << " keys";
        ASSERT_EQ(max, twin_max);
        ASSERT_EQ(sum, twin_sum);
        ASSERT_EQ(alpha, twin_alpha);

        // with a trace: the same, and the weights themselves
        std::vector<float> traced = before;
        std::fill(got.begin(), got.end(), Pair{7});
        kernel.softmax_traced(traced.data(), keys,
                              {seen_max.data(), seen_sum.data(), alpha.data(), spread.data()},
                              got.data());
        ASSERT_EQ(got, expected) << keys << " keys, traced";
        ASSERT_EQ(traced, scores);
        ASSERT_EQ(seen_max, max);
        ASSERT_EQ(seen_sum, sum);
        std::vector<float> again = before;
        wide->softmax_traced(
            again.data(), keys,
            {twin_seen.data(), twin_seen_sum.data(), alpha.data(), twin_spread.data()});
        ASSERT_EQ(spread, twin_spread);
      }
    }
  });
}

// As in scores_test.cc.
TEST(Pairs, ScoresComeWithTheLargest) {
  for_each_table([](const PairKernels& kernel) {
    Random random(8);
    const auto lanes = static_cast<std::size_t>(kernel.panel);
    for (const int keys : kSizes)
      for (const int dim : {2, 30, 64}) {
        Halves rows = numbers(random, dim * keys);
        if (keys > 1) rows[0] = 0x7fc0;  // NaN
        const std::vector<Pair> packed = pairs(random, dim / 2 * kernel.panel);
        std::vector<float> got(static_cast<std::size_t>(keys) * lanes);
        std::vector<float> expected = got;
        std::vector<float> top(lanes), twin_top(lanes);
        kernel.query_dot_keys(packed.data(), rows.data(), dim, keys, dim, 0.3f, 0, got.data(),
                              top.data());
        scalar::query_dot_keys_pairs(kernel.panel, packed.data(), rows.data(), dim, keys, dim, 0.3f,
                                     expected.data(), twin_top.data());
        ASSERT_EQ(top, twin_top) << keys << " keys, dim " << dim;
      }
  });
}

TEST(Pairs, SumsOfValuesHaveTheTwinsBits) {
  for_each_table([](const PairKernels& kernel) {
    Random random(4);
    for (const int keys : kSizes)
      for (const int dim : {1, 3, 6, 8, 12, 17, 64, 70}) {
        const int count = (keys + 1) / 2;
        std::vector<Pair> weights = pairs(random, count * kernel.panel);
        std::vector<Pair> values = pairs(random, count * dim);
        std::vector<float> alpha(static_cast<std::size_t>(kernel.panel));
        std::vector<float> start(static_cast<std::size_t>(kernel.panel * dim));
        for (auto& x : alpha) x = random.uniform(0, 1);
        for (auto& x : start) x = random.normal();
        std::vector<float> got = start;
        std::vector<float> expected = start;
        kernel.weighted_sum_values(weights.data(), values.data(), count, dim, alpha.data(), 0,
                                   got.data(), false);
        scalar::weighted_sum_pairs(kernel.panel, weights.data(), values.data(), count, dim,
                                   alpha.data(), expected.data(), nullptr);
        ASSERT_EQ(got, expected) << keys << " keys, dim " << dim;

        // some keys hidden from some lanes, NaN in a value that no lane but the first sees
        std::vector<LaneBits> hidden(static_cast<std::size_t>(2 * count));
        for (auto& bits : hidden)
          bits = random.chance(0.3) ? 0 : static_cast<LaneBits>(random.below(1 << 30)) << 3;
        hidden[0] = ~LaneBits{0};
        values[0] = (values[0] & 0xffff0000u) | 0x7fc0u;
        got = expected = start;
        kernel.weighted_sum_visible_values(weights.data(), values.data(), count, dim, alpha.data(),
                                           got.data(), hidden.data());
        scalar::weighted_sum_pairs(kernel.panel, weights.data(), values.data(), count, dim,
                                   alpha.data(), expected.data(), hidden.data());
        ASSERT_EQ(got, expected) << keys << " keys, dim " << dim << ", some hidden";
      }
  });
}

// What keys receive from the queries of a panel, and the rounding before it.
TEST(Pairs, SumsOfQueriesHaveTheTwinsBits) {
  for_each_table([](const PairKernels& kernel) {
    Random random(7);
    for (const int keys : kSizes)
      for (const int dim : {16, 32, 48, 64, 80, 112, 128, 208})
        for (const int count : {1, 2, 3, 7, 8, kernel.panel / 2 - 1, kernel.panel / 2}) {
          if (count > kernel.panel / 2 || (dim > 64 && keys > 33)) continue;
          std::vector<float> tile(static_cast<std::size_t>(keys * kernel.panel));
          for (auto& w : tile)
            w = random.chance(0.1) ? 0.0f : random.chance(0.05) ? 1e-39f : random.normal();
          Halves weights(tile.size());
          Halves twin = weights;
          kernel.narrow(tile.data(), keys, weights.data());
          scalar::narrow(kernel.panel, tile.data(), keys, twin.data());
          ASSERT_EQ(weights, twin) << keys << " keys";
          const std::int64_t stride = dim + 2 * (keys % 3);
          const std::vector<Pair> rows = pairs(random, count * stride);
          std::vector<float> got(static_cast<std::size_t>(keys * stride));
          for (auto& x : got) x = random.normal();
          std::vector<float> expected = got;
          kernel.weighted_sum_queries(weights.data(), keys, rows.data(), stride, count, dim,
                                      got.data(), stride);
          scalar::weighted_sum_queries_pairs(kernel.panel, weights.data(), keys, rows.data(),
                                             stride, count, dim, expected.data(), stride);
          ASSERT_EQ(got, expected) << keys << " keys, dim " << dim << ", " << count << " pairs";
        }
  });
}

// In one go as one after the other. Scores are hidden here and there, and NaN in a lane.
TEST(Pairs, SoftmaxGradientsHaveTheBitsOfTheirSteps) {
  for (const Kernels* floats : tables()) {
    const PairKernels& kernel = *floats->pairs;
    Random random(8);
    for (const int keys : kSizes) {
      const auto size = static_cast<std::size_t>(keys * kernel.panel);
      std::vector<float> scores(size), d_weights(size);
      std::vector<float> shift(static_cast<std::size_t>(kernel.panel)), delta(shift.size());
      for (auto& x : scores) x = random.chance(0.2) ? -INFINITY : random.uniform(-140, 1);
      for (auto& x : d_weights) x = random.normal();
      for (auto& x : shift) x = random.chance(0.1) ? -INFINITY : random.normal();
      for (auto& x : delta) x = random.normal();
      scores[3] = d_weights[5] = NAN;
      const auto pair_count = static_cast<std::size_t>((keys + 1) / 2 * kernel.panel);
      Halves weights(size), d_scores(size), weights_twin(size), d_scores_twin(size);
      std::vector<Pair> packed(pair_count), packed_twin(pair_count);
      kernel.softmax_gradients(scores.data(), d_weights.data(), keys, shift.data(), delta.data(),
                               weights.data(), d_scores.data(), packed.data());
      floats->softmax_gradients(scores.data(), d_weights.data(), keys, shift.data(), delta.data());
      kernel.narrow(scores.data(), keys, weights_twin.data());
      kernel.narrow(d_weights.data(), keys, d_scores_twin.data());
      kernel.pack_weights(d_weights.data(), keys, packed_twin.data());
      ASSERT_EQ(weights, weights_twin) << keys << " keys";
      ASSERT_EQ(d_scores, d_scores_twin) << keys << " keys";
      ASSERT_EQ(packed, packed_twin) << keys << " keys";
    }
  }
}

TEST(Pairs, FindsWhatIsNotFinite) {
  for_each_table([](const PairKernels& kernel) {
    Random random(5);
    for (const int dim : {1, 31, 32, 33, 64, 70}) {
      Halves rows = numbers(random, 5 * (dim + 1));
      EXPECT_TRUE(kernel.all_finite(rows.data(), dim + 1, 5, dim));
      for (const std::uint16_t bad :
           std::initializer_list<std::uint16_t>{0x7f80, 0xff80, 0x7fc0, 0xffc1})
        for (int at = 0; at < dim; ++at) {
          const auto i = static_cast<std::size_t>(3 * (dim + 1) + at);
          const std::uint16_t before = rows[i];
          rows[i] = bad;
          EXPECT_FALSE(kernel.all_finite(rows.data(), dim + 1, 5, dim)) << dim << " " << at;
          rows[i] = before;
        }
      rows[static_cast<std::size_t>(dim)] = 0x7fc0;  // between the rows
      EXPECT_TRUE(kernel.all_finite(rows.data(), dim + 1, 5, dim));
    }
  });
}

// A staircase, as in scores_test.cc and values_test.cc.
TEST(Pairs, FromALaneOn) {
  for_each_table([](const PairKernels& kernel) {
    constexpr int kDim = 40, kCount = 38;
    Random random(6);
    const auto lanes = static_cast<std::size_t>(kernel.panel);
    const std::vector<Pair> packed = pairs(random, kDim / 2 * kernel.panel);
    const Halves keys = numbers(random, kCount * kDim);
    const std::vector<Pair> weights = pairs(random, kCount / 2 * kernel.panel);
    const std::vector<Pair> values = pairs(random, kCount / 2 * kDim);
    const std::vector<float> ones(lanes, 1);
    std::vector<float> scores(kCount * lanes);
    std::vector<float> acc(kDim * lanes, 0.5f);
    kernel.query_dot_keys(packed.data(), keys.data(), kDim, kCount, kDim, 1, 0, scores.data(),
                          nullptr);
    kernel.weighted_sum_values(weights.data(), values.data(), kCount / 2, kDim, ones.data(), 0,
                               acc.data(), false);
    for (int first = 0; first < kernel.panel; first += 16) {
      std::vector<float> some(scores.size(), 7);
      std::vector<float> sums(acc.size(), 0.5f);
      kernel.query_dot_keys(packed.data(), keys.data(), kDim, kCount, kDim, 1, first, some.data(),
                            nullptr);
      kernel.weighted_sum_values(weights.data(), values.data(), kCount / 2, kDim, nullptr, first,
                                 sums.data(), false);
      for (std::size_t i = 0; i < some.size(); ++i)
        ASSERT_EQ(some[i], i % lanes < static_cast<std::size_t>(first) ? 7 : scores[i]);
      for (std::size_t i = 0; i < sums.size(); ++i)
        ASSERT_EQ(sums[i], i % lanes < static_cast<std::size_t>(first) ? 0.5f : acc[i]);
    }
  });
}

}  // namespace
}  // namespace qkv::kernels::testing
