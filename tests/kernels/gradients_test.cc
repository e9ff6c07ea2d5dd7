// The kernels of the backward pass, each against its scalar twin.
#include <algorithm>
#include <cstdint>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Gradients : public EveryIsa {};
QKV_FOR_EVERY_ISA(Gradients);

// Both differ by the error of 2^x, whose argument is rounded once on either side.
TEST_P(Gradients, SoftmaxIsItsTwin) {
  Random random(1);
  for (const int count : {1, 2, 3, 7, 8, 64, 65, 128}) {
    Floats scores(std::int64_t{count} * panel(), random, -30, 0);
    const Floats d_weights(std::int64_t{count} * panel(), random, -2, 2);
    Floats shift(panel(), random, -3, 3);
    const Floats delta(panel(), random, -1, 1);
    for (std::int64_t i = 0; i < scores.size(); i += 5) scores[i] = -kInfinity;
    shift[0] = -kInfinity;
    Floats weights = scores;
    Floats d_scores = d_weights;
    kernel().softmax_gradients(weights.data(), d_scores.data(), count, shift.data(), delta.data());
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      Floats twin = group(scores, panel(), first);
      Floats d_twin = group(d_weights, panel(), first);
      const Floats d_before = d_twin;
      scalar::softmax_gradients(twin.data(), d_twin.data(), count, shift.data() + first,
                                delta.data() + first);
      const Floats got = group(weights, panel(), first);
      const Floats d_got = group(d_scores, panel(), first);
      for (std::int64_t i = 0; i < twin.size(); ++i) {
        const double bound = 2 * kExp2Error * std::fabs(twin[i]) + 0x1p-126;
        ASSERT_NEAR(got[i], twin[i], bound);
        const double away = std::fabs(d_before[i] - delta[first + i % scalar::kPanel]);
        ASSERT_NEAR(d_got[i], d_twin[i], (bound + 4 * kUnit * std::fabs(twin[i])) * (away + 1e-6));
      }
    }
  }
}

// A hidden key has weight and gradient 0, whatever shift, delta and d_weight are; a NaN stays in its lane.
TEST_P(Gradients, HiddenKeysGetNothing) {
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    Floats scores(panel(), -kInfinity), d_weights(panel(), bad), shift(panel(), bad),
        delta(panel(), bad);
    kernel().softmax_gradients(scores.data(), d_weights.data(), 1, shift.data(), delta.data());
    kernel().softcap_gradients(d_weights.data(), delta.data(), 1, 5);
    for (int lane = 0; lane < panel(); ++lane) {
      EXPECT_EQ(scores[lane], 0);
      EXPECT_EQ(d_weights[lane], 0);
    }
  }
  Floats scores(panel(), 0), d_weights(panel(), 1), shift(panel(), 0), delta(panel(), 0);
  scores[1] = kNaN;
  kernel().softmax_gradients(scores.data(), d_weights.data(), 1, shift.data(), delta.data());
  for (int lane = 0; lane < panel(); ++lane) {
    EXPECT_EQ(std::isnan(scores[lane]), lane == 1);
    EXPECT_EQ(std::isnan(d_weights[lane]), lane == 1);
  }
}

// 1 − t²: t is off by 2u, so the slope by 4u + u.
TEST_P(Gradients, SoftcapIsItsTwin) {
  Random random(2);
  const float cap = 7;
  const Floats before(std::int64_t{33} * panel(), random, -2, 2);
  const Floats capped(before.size(), random, -cap, cap);
  Floats got = before;
  Floats twin = before;
  kernel().softcap_gradients(got.data(), capped.data(), 33, cap);
  for (std::int64_t i = 0; i < before.size(); i += std::int64_t{33} * scalar::kPanel)
    scalar::softcap_gradients(twin.data() + i, capped.data() + i, 33, cap);
  for (std::int64_t i = 0; i < before.size(); ++i)
    ASSERT_NEAR(got[i], twin[i], 12 * kUnit * std::fabs(before[i]));
}

// A chain of `rows` multiply-adds on both sides: 2·γ(rows + 1)·(|acc| + Σ|weight·row|).
TEST_P(Gradients, WeightedSumOfQueriesIsItsTwin) {
  Random random(3);
  const int width = panel();  // asking reads the CPU's features
  for (const int dim : {16, 32, 48, 64, 80, 112, 128, 208})
    for (const int keys : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 31, 64, 65, 127, 128})
      for (const int rows : {1, 2, 3, 7, 8, 15, 16, 17, 63, 64}) {
        if (rows > width || (dim > 64 && keys > 31)) continue;
        const std::int64_t stride = dim + keys % 3;
        const Floats weights(std::int64_t{keys} * width, random, -1, 1);
        const Floats x(rows * stride, random, -1, 1);
        const Floats before(keys * stride, random, -1, 1);
        Floats acc = before;
        kernel().weighted_sum_queries(weights.data(), keys, x.data(), stride, rows, dim, acc.data(),
                                      stride);
        for (int k = 0; k < keys; ++k)
          for (std::int64_t d = 0; d < stride; ++d) {
            const std::int64_t i = k * stride + d;
            if (d >= dim) {
              ASSERT_EQ(acc[i], before[i]);
              continue;
            }
            float twin = before[i];
            double size = std::fabs(twin);
            for (int q = 0; q < rows; ++q) {
              twin += weights[std::int64_t{k} * width + q] * x[q * stride + d];
              size += std::fabs(weights[std::int64_t{k} * width + q] * x[q * stride + d]);
            }
            ASSERT_NEAR(acc[i], twin, 2 * gamma(rows + 1) * size)
                << "dim " << dim << " keys " << keys << " rows " << rows << " at " << k << ", "
                << d;
          }
      }
}

// The chain of one number has the same bits in every tile, and goes on where it was left.
TEST_P(Gradients, WeightedSumOfQueriesBitsDoNotDependOnTheTile) {
  Random random(4);
  constexpr int kDim = 112;
  constexpr int kKeys = 29;
  const int rows = panel();
  const Floats weights(std::int64_t{kKeys} * panel(), random, -1, 1);
  const Floats x(std::int64_t{rows} * kDim, random, -1, 1);
  const Floats before(kKeys * kDim, random, -1, 1);
  Floats all = before;
  kernel().weighted_sum_queries(weights.data(), kKeys, x.data(), kDim, rows, kDim, all.data(),
                                kDim);
  for (int keys = 1; keys <= kKeys; ++keys)
    for (int cut = 0; cut <= rows; cut += 3)
      for (const int dim : {16, 48}) {
        Floats some = before;
        for (const int first : {0, kDim - dim}) {
          float* acc = some.data() + first;
          kernel().weighted_sum_queries(weights.data(), keys, x.data() + first, kDim, cut, dim, acc,
                                        kDim);
          kernel().weighted_sum_queries(weights.data() + cut, keys, x.data() + cut * kDim + first,
                                        kDim, rows - cut, dim, acc, kDim);
          for (int k = 0; k < keys; ++k)
            ASSERT_EQ(std::memcmp(acc + k * kDim, all.data() + k * kDim + first,
                                  sizeof(float) * static_cast<std::size_t>(dim)),
                      0);
        }
      }
}

}  // namespace
}  // namespace qkv::kernels::testing
