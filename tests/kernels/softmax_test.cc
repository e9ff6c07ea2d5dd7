// 2^x, the running softmax, its merge and what is derived from finished scores, each against its scalar twin.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

// Maximum, sum and alpha of a panel.
struct State {
  Floats max, sum, alpha;
  explicit State(int width) : max(width, -kInfinity), sum(width, 0), alpha(width, kNaN) {}
  State(const State& whole, int width, int first)
      : max(group(whole.max, width, first)),
        sum(group(whole.sum, width, first)),
        alpha(group(whole.alpha, width, first)) {}
  SoftmaxState pointers() { return {max.data(), sum.data(), alpha.data()}; }
};

class Softmax : public EveryIsa {
 protected:
  // 2^x through the kernel that does nothing else to it.
  Floats exp2(const Floats& x) const {
    const Floats zero(panel(), 0);
    const Floats one(panel(), 1);
    Floats y(x.size(), kNaN);
    kernel().normalise(x.data(), static_cast<int>(x.size() / panel()), zero.data(), one.data(),
                       y.data());
    return y;
  }
};
QKV_FOR_EVERY_ISA(Softmax);

TEST_P(Softmax, Exp2IsExactAtWholeNumbersAndTheEnds) {
  for (int n = -126; n <= 127; ++n) {
    const Floats y = exp2(Floats(panel(), static_cast<float>(n)));
    for (int lane = 0; lane < panel(); ++lane) ASSERT_EQ(y[lane], std::ldexp(1.0f, n)) << n;
  }
  for (const auto& [x, expected] : {std::pair{0.0f, 1.0f},
                                    {-0.0f, 1.0f},
                                    {-kInfinity, 0.0f},
                                    {-1000.0f, 0.0f},
                                    {-1e30f, 0.0f},
                                    {-std::numeric_limits<float>::max(), 0.0f},
                                    {kInfinity, kInfinity},
                                    {200.0f, kInfinity}}) {
    const Floats y = exp2(Floats(panel(), x));
    for (int lane = 0; lane < panel(); ++lane) ASSERT_EQ(bits_of(y[lane]), bits_of(expected)) << x;
  }
  const Floats y = exp2(Floats(panel(), kNaN));
  for (int lane = 0; lane < panel(); ++lane) EXPECT_TRUE(std::isnan(y[lane]));
}

TEST_P(Softmax, Exp2KeepsItsRelativeError) {
  Random random(1);
  constexpr int kRounds = 200;
  double worst = 0;
  for (int round = 0; round < kRounds; ++round) {
    const float low = round % 4 == 0   ? -1.0f
                      : round % 4 == 1 ? -126.0f
                      : round % 4 == 2 ? -20.0f
                                       : -1e-3f;
    const Floats x(std::int64_t{256} * panel(), random, low, round % 8 == 7 ? 100.0f : 0.0f);
    const Floats y = exp2(x);
    for (std::int64_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, std::fabs(y[i] / std::exp2(double{x[i]}) - 1));
  }
  EXPECT_LE(worst, kExp2Error);
  RecordProperty("largest_relative_error", std::to_string(worst));
}

// Below 2^−126 a result may be flushed to 0, never be off by more than that.
TEST_P(Softmax, Exp2UnderflowsQuietly) {
  Random random(2);
  const Floats x(std::int64_t{256} * panel(), random, -160, -126);
  const Floats y = exp2(x);
  for (std::int64_t i = 0; i < x.size(); ++i)
    ASSERT_NEAR(y[i], std::exp2(double{x[i]}), 0x1p-126) << x[i];
}

// The maximum is exact, so both sides raise 2 to the same powers: weights and alpha differ by 2^x's errors,
// (2e-7 + 2u)·weight; a sum of n weights by 2·γ(n + 2) more. A lane that has seen only −inf stays as it was.
TEST_P(Softmax, SoftmaxIsItsTwinChunkAfterChunk) {
  Random random(3);
  for (const int count : kLengths) {
    State state(panel());
    std::vector<State> twins;
    for (int first = 0; first < panel(); first += scalar::kPanel)
      twins.emplace_back(scalar::kPanel);
    for (int chunk = 0; chunk < 4; ++chunk) {
      Floats scores(std::int64_t{count} * panel(), random, -30, static_cast<float>(10 * chunk));
      for (std::int64_t i = 0; i < scores.size(); ++i)
        if (random.below(4) == 0 || i % panel() == 3 || (i % panel() == 5 && chunk == 0))
          scores[i] = -kInfinity;
      const Floats before = scores;
      kernel().softmax(scores.data(), count, state.pointers());
      for (int first = 0; first < panel(); first += scalar::kPanel) {
        State& twin = twins[static_cast<std::size_t>(first / scalar::kPanel)];
        Floats weights = group(before, panel(), first);
        scalar::softmax(weights.data(), count, twin.pointers());
        const Floats lanes = group(scores, panel(), first);
        const State got(state, panel(), first);
        for (std::int64_t i = 0; i < weights.size(); ++i)
          ASSERT_NEAR(lanes[i], weights[i], (kExp2Error + 2 * kUnit) * weights[i] + 0x1p-126);
        for (int lane = 0; lane < scalar::kPanel; ++lane) {
          ASSERT_EQ(bits_of(got.max[lane]), bits_of(twin.max[lane]));
          ASSERT_NEAR(got.alpha[lane], twin.alpha[lane],
                      (kExp2Error + 2 * kUnit) * twin.alpha[lane] + 0x1p-126);
          const double chunks = chunk + 1;
          ASSERT_NEAR(got.sum[lane], twin.sum[lane],
                      (chunks * (kExp2Error + 2 * kUnit) + 2 * gamma(chunks * (count + 2))) *
                          twin.sum[lane])
              << "keys " << count << " chunk " << chunk << " lane " << first + lane;
        }
      }
    }
    EXPECT_EQ(state.max[3], -kInfinity);
    EXPECT_EQ(state.sum[3], 0);
  }
}

// That the largest score is known already changes no bit.
TEST_P(Softmax, AKnownLargestScoreChangesNoBit) {
  Random random(6);
  for (const int count : kLengths) {
    State looked(panel());
    State told(panel());
    for (int chunk = 0; chunk < 3; ++chunk) {
      Floats scores(std::int64_t{count} * panel(), random, -20, static_cast<float>(5 * chunk));
      scores[0] = kNaN;
      Floats top(panel(), -kInfinity);
      for (std::int64_t i = 0; i < scores.size(); ++i)
        if (scores[i] > top[i % panel()]) top[i % panel()] = scores[i];
      Floats same = scores;
      SoftmaxState state = told.pointers();
      state.top = top.data();
      kernel().softmax(scores.data(), count, looked.pointers());
      kernel().softmax(same.data(), count, state);
      const auto bytes = [](const Floats& f) {
        return sizeof(float) * static_cast<std::size_t>(f.size());
      };
      ASSERT_EQ(std::memcmp(scores.data(), same.data(), bytes(same)), 0);
      ASSERT_EQ(std::memcmp(looked.max.data(), told.max.data(), bytes(told.max)), 0);
      ASSERT_EQ(std::memcmp(looked.sum.data(), told.sum.data(), bytes(told.sum)), 0);
      ASSERT_EQ(std::memcmp(looked.alpha.data(), told.alpha.data(), bytes(told.alpha)), 0);
    }
  }
}

// A NaN score makes its own lane's sum NaN and changes no bit of the others.
TEST_P(Softmax, NanStaysInItsLane) {
  Random random(4);
  constexpr int kCount = 33;
  const Floats clean(std::int64_t{kCount} * panel(), random, -5, 5);
  State expected(panel());
  Floats clean_weights = clean;
  kernel().softmax(clean_weights.data(), kCount, expected.pointers());
  for (int bad = 0; bad < panel(); ++bad)
    for (const int key : {0, 7, kCount - 1}) {
      Floats scores = clean;
      scores[std::int64_t{key} * panel() + bad] = kNaN;
      State state(panel());
      kernel().softmax(scores.data(), kCount, state.pointers());
      ASSERT_TRUE(std::isnan(state.sum[bad]));
      ASSERT_TRUE(std::isnan(scores[std::int64_t{key} * panel() + bad]));
      for (int lane = 0; lane < panel(); ++lane) {
        if (lane == bad) continue;
        ASSERT_EQ(bits_of(state.sum[lane]), bits_of(expected.sum[lane]));
        ASSERT_EQ(bits_of(state.max[lane]), bits_of(expected.max[lane]));
      }
    }
}

// Hidden keys before (in whole groups of 8) and after a row's own change no bit of its sum: neighbours in the panel may see
// more keys than the row does.
TEST_P(Softmax, HiddenKeysAroundChangeNoBit) {
  Random random(5);
  for (const int count : {1, 3, 4, 15, 64, 99}) {
    const Floats own(std::int64_t{count} * panel(), random, -5, 5);
    State alone(panel());
    Floats alone_weights = own;
    kernel().softmax(alone_weights.data(), count, alone.pointers());
    for (const int before : {0, 8, 24})
      for (const int after : {0, 1, 2, 3, 5}) {
        Floats scores(std::int64_t{before + count + after} * panel(), -kInfinity);
        std::copy_n(own.data(), own.size(), scores.data() + before * panel());
        State state(panel());
        kernel().softmax(scores.data(), before + count + after, state.pointers());
        ASSERT_EQ(std::memcmp(state.sum.data(), alone.sum.data(),
                              sizeof(float) * static_cast<std::size_t>(panel())),
                  0);
        ASSERT_EQ(std::memcmp(scores.data() + before * panel(), alone_weights.data(),
                              sizeof(float) * static_cast<std::size_t>(own.size())),
                  0);
      }
  }
}

// Both sides of the sum are rounded twice and scaled by a 2^x: 2·((2e-7 + 2u) + 3u)·(|total| + |part|), scaled.
TEST_P(Softmax, MergeStatesIsItsTwin) {
  Random random(6);
  for (const int dim : {1, 3, 16, 65}) {
    State total(panel());
    State part(panel());
    Floats total_acc(std::int64_t{dim} * panel(), random, -2, 2);
    const Floats part_acc(std::int64_t{dim} * panel(), random, -2, 2);
    for (int lane = 0; lane < panel(); ++lane) {
      total.max[lane] = random.uniform(-10, 10);
      part.max[lane] = lane % 4 == 0 ? total.max[lane] : random.uniform(-10, 10);
      total.sum[lane] = random.uniform(1, 100);
      part.sum[lane] = random.uniform(1, 100);
    }
    const State before = total;
    const Floats before_acc = total_acc;
    kernel().merge_states(dim, total.pointers(), total_acc.data(), part.pointers(),
                          part_acc.data());
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      State twin(before, panel(), first);
      State twin_part(part, panel(), first);
      Floats acc = group(before_acc, panel(), first);
      scalar::merge_states(dim, twin.pointers(), acc.data(), twin_part.pointers(),
                           group(part_acc, panel(), first).data());
      const Floats got = group(total_acc, panel(), first);
      for (int lane = 0; lane < scalar::kPanel; ++lane) {
        ASSERT_EQ(bits_of(total.max[first + lane]), bits_of(twin.max[lane]));
        ASSERT_NEAR(total.sum[first + lane], twin.sum[lane], 2 * (kExp2Error + 5 * kUnit) * 200);
      }
      for (std::int64_t i = 0; i < acc.size(); ++i)
        ASSERT_NEAR(got[i], acc[i], 2 * (kExp2Error + 5 * kUnit) * 4);
    }
  }
}

TEST_P(Softmax, MergingWithNothingKeepsEveryBit) {
  Random random(7);
  constexpr int kDim = 19;
  State full(panel());
  for (int lane = 0; lane < panel(); ++lane) {
    full.max[lane] = random.uniform(-90, 90);
    full.sum[lane] = random.uniform(1, 100);
  }
  const Floats acc(std::int64_t{kDim} * panel(), random, -2, 2);
  const auto same = [&](const Floats& a, const Floats& b) {
    return std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
  };
  {
    State total = full;
    State nothing(panel());
    Floats total_acc = acc;
    kernel().merge_states(kDim, total.pointers(), total_acc.data(), nothing.pointers(),
                          Floats(acc.size(), 0).data());
    EXPECT_TRUE(same(total.max, full.max) && same(total.sum, full.sum) && same(total_acc, acc));
  }
  State nothing(panel());
  State part = full;
  Floats nothing_acc(acc.size(), 0);
  kernel().merge_states(kDim, nothing.pointers(), nothing_acc.data(), part.pointers(), acc.data());
  EXPECT_TRUE(same(nothing.max, full.max) && same(nothing.sum, full.sum) && same(nothing_acc, acc));
}

// weight·factor: 2^x, the factor and a rounding each: (2e-7 + 4u)·weight.
TEST_P(Softmax, NormaliseIsItsTwinAndHiddenIsExactlyZero) {
  Random random(8);
  for (const int count : kLengths) {
    Floats scores(std::int64_t{count} * panel(), random, -20, 5);
    for (std::int64_t i = 0; i < scores.size(); ++i)
      if (random.below(5) == 0) scores[i] = -kInfinity;
    Floats shift(panel(), random, 0, 5);
    Floats factor(panel(), random, 0, 1);
    shift[1] = -kInfinity;  // a row that sees nothing
    factor[1] = 0;
    shift[2] = kNaN;  // a poisoned row: its hidden keys still weigh 0
    factor[4] = kInfinity;
    Floats weights(scores.size(), kNaN);
    kernel().normalise(scores.data(), count, shift.data(), factor.data(), weights.data());
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      const Floats lanes = group(scores, panel(), first);
      const Floats got = group(weights, panel(), first);
      Floats twin(lanes.size());
      scalar::normalise(lanes.data(), count, shift.data() + first, factor.data() + first,
                        twin.data());
      for (std::int64_t i = 0; i < twin.size(); ++i) {
        if (lanes[i] == -kInfinity)
          ASSERT_EQ(bits_of(got[i]), 0u);
        else if (!std::isfinite(twin[i]))
          ASSERT_EQ(std::isnan(got[i]), std::isnan(twin[i]));
        else
          ASSERT_NEAR(got[i], twin[i], (kExp2Error + 4 * kUnit) * twin[i]);
      }
    }
    kernel().normalise(scores.data(), count, shift.data(), factor.data(),
                       scores.data());  // in place
    EXPECT_EQ(std::memcmp(scores.data(), weights.data(),
                          sizeof(float) * static_cast<std::size_t>(weights.size())),
              0);
  }
}

}  // namespace
}  // namespace qkv::kernels::testing
