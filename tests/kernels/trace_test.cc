// The kernels that only a trace uses, each against its scalar twin.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class TraceKernels : public EveryIsa {};
QKV_FOR_EVERY_ISA(TraceKernels);

struct State {
  Floats max, sum, alpha, spread;
  explicit State(int width)
      : max(width, -kInfinity), sum(width, 0), alpha(width, kNaN), spread(width, 0) {}
  SoftmaxState pointers() { return {max.data(), sum.data(), alpha.data(), spread.data()}; }
};

bool same(const Floats& a, const Floats& b) {
  for (std::int64_t i = 0; i < a.size(); ++i)
    if (bits_of(a[i]) != bits_of(b[i])) return false;
  return true;
}

Floats random_scores(int count, int width, Random& random) {
  Floats scores(std::int64_t{count} * width, random, -30, 10);
  for (std::int64_t i = 0; i < scores.size(); ++i)
    if (random.below(4) == 0 || i % width == 3) scores[i] = -kInfinity;
  return scores;
}

TEST_P(TraceKernels, SoftmaxHasTheSameBitsWithATrace) {
  Random random(1);
  for (const int count : kLengths) {
    State plain(panel());
    State traced(panel());
    for (int chunk = 0; chunk < 3; ++chunk) {
      Floats scores = random_scores(count, panel(), random);
      Floats weights = scores;
      kernel().softmax(scores.data(), count,
                       {plain.max.data(), plain.sum.data(), plain.alpha.data()});
      kernel().softmax_traced(weights.data(), count, traced.pointers());
      ASSERT_TRUE(same(scores, weights) && same(plain.max, traced.max) &&
                  same(plain.sum, traced.sum) && same(plain.alpha, traced.alpha));
    }
    EXPECT_EQ(traced.spread[3], 0) << "nothing seen";
  }
}

// Every term of the spread is ≤ 0, so errors are relative to the whole: of each weight (a 2^x per chunk), of its distance, of
// the chains of count and of the sums that carry it on.
TEST_P(TraceKernels, SpreadIsItsTwinChunkAfterChunk) {
  Random random(2);
  for (const int count : kLengths) {
    State state(panel());
    std::vector<State> twins;
    for (int first = 0; first < panel(); first += scalar::kPanel)
      twins.emplace_back(scalar::kPanel);
    for (int chunk = 1; chunk <= 4; ++chunk) {
      const Floats scores = random_scores(count, panel(), random);
      Floats weights = scores;
      kernel().softmax_traced(weights.data(), count, state.pointers());
      const double relative = chunk * (kExp2Error + 8 * kUnit) + 2 * gamma(chunk * (count + 6));
      for (int first = 0; first < panel(); first += scalar::kPanel) {
        State& twin = twins[static_cast<std::size_t>(first / scalar::kPanel)];
        Floats lanes = group(scores, panel(), first);
        scalar::softmax_traced(lanes.data(), count, twin.pointers());
        for (int lane = 0; lane < scalar::kPanel; ++lane)
          ASSERT_NEAR(state.spread[first + lane], twin.spread[lane],
                      relative * -twin.spread[lane] + 256 * 0x1p-126)
              << "keys " << count << " chunk " << chunk << " lane " << first + lane;
      }
    }
  }
}

TEST_P(TraceKernels, HiddenKeysAroundChangeNoBitOfTheSpread) {
  Random random(3);
  for (const int count : {1, 3, 4, 15, 64, 99}) {
    const Floats own(std::int64_t{count} * panel(), random, -5, 5);
    State alone(panel());
    Floats alone_weights = own;
    kernel().softmax_traced(alone_weights.data(), count, alone.pointers());
    for (const int before : {0, 8, 24})
      for (const int after : {0, 1, 2, 3, 5}) {
        Floats scores(std::int64_t{before + count + after} * panel(), -kInfinity);
        std::copy_n(own.data(), own.size(), scores.data() + before * panel());
        State state(panel());
        kernel().softmax_traced(scores.data(), before + count + after, state.pointers());
        ASSERT_TRUE(same(state.spread, alone.spread));
        Floats hidden(std::int64_t{9} * panel(), -kInfinity);
        kernel().softmax_traced(hidden.data(), 9, state.pointers());
        ASSERT_TRUE(same(state.spread, alone.spread)) << "a chunk without a visible key";
      }
  }
}

TEST_P(TraceKernels, ANanStaysInItsLane) {
  Random random(4);
  const Floats clean(std::int64_t{33} * panel(), random, -5, 5);
  State expected(panel());
  Floats weights = clean;
  kernel().softmax_traced(weights.data(), 33, expected.pointers());
  for (int bad = 0; bad < panel(); ++bad) {
    Floats scores = clean;
    scores[std::int64_t{7} * panel() + bad] = kNaN;
    State state(panel());
    kernel().softmax_traced(scores.data(), 33, state.pointers());
    for (int lane = 0; lane < panel(); ++lane) {
      if (lane == bad)
        ASSERT_TRUE(std::isnan(state.spread[lane]));
      else
        ASSERT_EQ(bits_of(state.spread[lane]), bits_of(expected.spread[lane]));
    }
  }
}

// Two terms, each of a distance that is rounded, a product, a sum and a 2^x: below (2e-7 + 8u)·(all of it).
TEST_P(TraceKernels, MergedSpreadIsItsTwin) {
  Random random(5);
  State total(panel());
  State part(panel());
  for (int lane = 0; lane < panel(); ++lane) {
    for (State* s : {&total, &part}) {
      s->max[lane] = random.uniform(-10, 10);
      s->sum[lane] = random.uniform(1, 100);
      s->spread[lane] = random.uniform(-50, 0);
    }
    if (lane % 5 == 1) {  // nothing seen so far
      total.max[lane] = -kInfinity;
      total.sum[lane] = total.spread[lane] = 0;
    }
    if (lane % 5 == 2) {
      part.max[lane] = -kInfinity;
      part.sum[lane] = part.spread[lane] = 0;
    }
  }
  const State before = total;
  float nothing = 0;
  kernel().merge_states(0, total.pointers(), &nothing, part.pointers(), &nothing);
  for (int lane = 0; lane < panel(); ++lane) {
    if (lane % 5 == 1) {
      ASSERT_EQ(bits_of(total.spread[lane]), bits_of(part.spread[lane]));
    } else if (lane % 5 == 2) {
      ASSERT_EQ(bits_of(total.spread[lane]), bits_of(before.spread[lane]));
    }
  }
  for (int first = 0; first < panel(); first += scalar::kPanel) {
    const auto lanes = [&](const State& s) {
      State few(scalar::kPanel);
      few.max = group(s.max, panel(), first);
      few.sum = group(s.sum, panel(), first);
      few.spread = group(s.spread, panel(), first);
      return few;
    };
    State twin = lanes(before);
    State twin_part = lanes(part);
    scalar::merge_states(0, twin.pointers(), &nothing, twin_part.pointers(), &nothing);
    for (int lane = 0; lane < scalar::kPanel; ++lane)
      ASSERT_NEAR(total.spread[first + lane], twin.spread[lane],
                  2 * (kExp2Error + 8 * kUnit) * -twin.spread[lane]);
  }
}

// Weights of the kind a softmax leaves: mostly small, some 0, some equal.
Floats random_weights(int count, int width, Random& random) {
  Floats weights(std::int64_t{count} * width, random, -20, 0);
  for (std::int64_t i = 0; i < weights.size(); ++i)
    weights[i] = random.below(5) == 0 ? 0 : random.below(5) == 0 ? 0.25f : std::exp2(weights[i]);
  return weights;
}

// The largest are exact. A mass is a sum of as many terms as lanes: 2·γ(lanes + 1) of itself apart.
TEST_P(TraceKernels, WeighKeysIsItsTwin) {
  Random random(6);
  for (const int groups : {1, 2, 3, 4, 5, 7, 8, 15, 16}) {
    const int count = groups * kKeyGroup;
    Floats weights = random_weights(count, panel(), random);
    const Floats factor(panel(), random, 0, 1);
    weights[random.below(count) * panel() + 2] = kNaN;  // no largest weight
    Floats largest(std::int64_t{groups} * panel(), kNaN);
    Floats mass(count, kNaN);
    kernel().weigh_keys(weights.data(), count, factor.data(), largest.data(), mass.data());
    Floats twin_mass(count, 0);
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      const Floats lanes = group(weights, panel(), first);
      Floats twin(std::int64_t{groups} * scalar::kPanel);
      Floats part(count);
      scalar::weigh_keys(lanes.data(), count, factor.data() + first, twin.data(), part.data());
      ASSERT_TRUE(same(group(largest, panel(), first), twin));
      for (int k = 0; k < count; ++k) twin_mass[k] += part[k];
    }
    for (int k = 0; k < count; ++k) {
      if (std::isnan(twin_mass[k]))
        ASSERT_TRUE(std::isnan(mass[k]));
      else
        ASSERT_NEAR(mass[k], twin_mass[k], 2 * gamma(panel() + 1) * twin_mass[k]);
    }
  }
}

// Exact: both multiply the same numbers once.
TEST_P(TraceKernels, BestKeysAreThoseOfItsTwin) {
  Random random(7);
  for (const int groups : {1, 2, 3, 7, 8, 9, 31, 33, 63, 64, 65, 130, 300})
    for (const int first : {0, 8, 120})
      for (const int kind : {0, 1, 2}) {
        const int count = groups * kKeyGroup;
        const int chunks = (first + count + kMaxChunk - 1) / kMaxChunk;
        Floats weights = random_weights(count, panel(), random);
        Floats factor(std::int64_t{chunks} * panel(), random, 0, 1);
        // 1: all the same, more than there is room for; 2: few keys weigh anything
        for (std::int64_t i = 0; i < weights.size(); ++i)
          if (kind == 1 || (kind == 2 && random.below(60) != 0)) weights[i] = kind == 1 ? 0.5f : 0;
        if (kind == 1) std::fill_n(factor.data(), factor.size(), 0.25f);
        Floats largest(std::int64_t{groups} * panel());
        for (int k = 0, next = 0; k < count; k = next) {  // chunk by chunk
          const int chunk = (first + k) / kMaxChunk;
          next = std::min(count, (chunk + 1) * kMaxChunk - first);
          Floats mass(next - k);
          kernel().weigh_keys(weights.data() + k * panel(), next - k,
                              factor.data() + chunk * panel(),
                              largest.data() + k / kKeyGroup * panel(), mass.data());
        }
        for (const int slots : {4, 8, 16}) {
          Floats top(std::int64_t{slots} * panel(), kNaN);
          std::vector<std::int32_t> keys(static_cast<std::size_t>(slots * panel()), 7);
          kernel().best_keys(weights.data(), factor.data(), first, largest.data(), groups, slots,
                             top.data(), keys.data());
          for (int lanes = 0; lanes < panel(); lanes += scalar::kPanel) {
            Floats twin(std::int64_t{slots} * scalar::kPanel);
            std::vector<std::int32_t> twin_keys(static_cast<std::size_t>(slots * scalar::kPanel));
            scalar::best_keys(group(weights, panel(), lanes).data(),
                              group(factor, panel(), lanes).data(), first, nullptr, groups, slots,
                              twin.data(), twin_keys.data());
            ASSERT_TRUE(same(group(top, panel(), lanes), twin));
            for (int s = 0; s < slots; ++s)
              for (int lane = 0; lane < scalar::kPanel; ++lane)
                ASSERT_EQ(keys[static_cast<std::size_t>(s * panel() + lanes + lane)],
                          twin_keys[static_cast<std::size_t>(s * scalar::kPanel + lane)])
                    << "groups " << groups << " kind " << kind << " slot " << s;
          }
        }
      }
}

}  // namespace
}  // namespace qkv::kernels::testing
