// The weighted sum of values, with and without hidden ones, and the way it is written out, each against its scalar twin.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/half.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Values : public EveryIsa {};
QKV_FOR_EVERY_ISA(Values);

// acc·alpha, then a chain of `count` multiply-adds on both sides: 2·γ(count + 2)·(|acc·alpha| + Σ weight·|value|).
TEST_P(Values, WeightedSumIsItsTwin) {
  Random random(1);
  for (const int dim : kDims)
    for (const int count : kLengths) {
      if (dim * count > 8192) continue;
      const std::int64_t stride = dim + count % 4;
      const Floats weights(std::int64_t{count} * panel(), random, 0, 1);
      const Floats values(count * stride, random, -1, 1);
      const Floats alpha(panel(), random, 0, 1);
      const Floats before(std::int64_t{dim} * panel(), random, -1, 1);
      Floats acc = before;
      kernel().weighted_sum_values(weights.data(), values.data(), stride, count, dim, alpha.data(),
                                   0, acc.data(), false);
      for (int first = 0; first < panel(); first += scalar::kPanel) {
        const Floats w = group(weights, panel(), first);
        const Floats start = group(before, panel(), first);
        const Floats got = group(acc, panel(), first);
        Floats twin = start;
        scalar::weighted_sum_values(w.data(), values.data(), stride, count, dim,
                                    alpha.data() + first, 0, twin.data(), false);
        for (int d = 0; d < dim; ++d)
          for (int lane = 0; lane < scalar::kPanel; ++lane) {
            const std::int64_t i = std::int64_t{d} * scalar::kPanel + lane;
            double size = std::fabs(start[i]);
            for (int k = 0; k < count; ++k)
              size += std::fabs(w[k * scalar::kPanel + lane] * values[k * stride + d]);
            ASSERT_NEAR(got[i], twin[i], 2 * gamma(count + 2) * size)
                << "dim " << dim << " keys " << count << " d " << d;
          }
      }
    }
}

// The chain of one dim of one lane has the same bits in every tile: dims of a call from 1 to 70, and begun anywhere.
TEST_P(Values, WeightedSumBitsDoNotDependOnTheTile) {
  Random random(2);
  constexpr int kDim = 70;
  constexpr int kCount = 45;
  const Floats weights(std::int64_t{kCount} * panel(), random, 0, 1);
  const Floats values(kCount * kDim, random, -1, 1);
  const Floats alpha(panel(), random, 0, 1);
  const Floats before(std::int64_t{kDim} * panel(), random, -1, 1);
  Floats all = before;
  kernel().weighted_sum_values(weights.data(), values.data(), kDim, kCount, kDim, alpha.data(), 0,
                               all.data(), false);
  for (int dim = 1; dim <= kDim; ++dim)
    for (const int first : {0, kDim - dim}) {
      Floats some(std::int64_t{dim} * panel());
      std::copy_n(before.data() + first * panel(), some.size(), some.data());
      kernel().weighted_sum_values(weights.data(), values.data() + first, kDim, kCount, dim,
                                   alpha.data(), 0, some.data(), false);
      ASSERT_EQ(std::memcmp(some.data(), all.data() + first * panel(),
                            sizeof(float) * static_cast<std::size_t>(some.size())),
                0)
          << "dims " << first << " to " << first + dim;
    }
}

// Leaving hidden values out, whatever they hold, gives the bits that a weight of 0 and a finite value give.
TEST_P(Values, HiddenValuesAreNeverSeen) {
  Random random(3);
  for (const int dim : {1, 7, 8, 17, 64})
    for (const int count : {1, 15, 64, 65}) {
      Floats weights(std::int64_t{count} * panel(), random, 0, 1);
      std::vector<LaneBits> hidden(static_cast<std::size_t>(count));
      Floats clean(std::int64_t{count} * dim, random, -1, 1);
      Floats poisoned = clean;
      for (int k = 0; k < count; ++k) {
        auto& bits = hidden[static_cast<std::size_t>(k)];
        bits = k % 3 == 0 ? ~LaneBits{0} : random.bits();
        for (int lane = 0; lane < panel(); ++lane)
          if ((bits >> lane & 1) != 0) weights[std::int64_t{k} * panel() + lane] = 0;
        if (k % 3 == 0)
          for (int d = 0; d < dim; ++d) poisoned[k * dim + d] = d % 2 == 0 ? kNaN : kInfinity;
      }
      const Floats alpha(panel(), random, 0, 1);
      const Floats before(std::int64_t{dim} * panel(), random, 0.5f, 1);
      Floats expected = before;
      kernel().weighted_sum_values(weights.data(), clean.data(), dim, count, dim, alpha.data(), 0,
                                   expected.data(), false);
      Floats got = before;
      kernel().weighted_sum_visible_values(weights.data(), poisoned.data(), dim, count, dim,
                                           alpha.data(), got.data(), hidden.data());
      ASSERT_EQ(std::memcmp(got.data(), expected.data(),
                            sizeof(float) * static_cast<std::size_t>(got.size())),
                0)
          << "dim " << dim << " keys " << count;
      // a NaN that one lane sees stays in that lane
      hidden[0] = ~LaneBits{1};
      got = before;
      kernel().weighted_sum_visible_values(weights.data(), poisoned.data(), dim, count, dim,
                                           alpha.data(), got.data(), hidden.data());
      for (int d = 0; d < dim; ++d)
        for (int lane = 0; lane < panel(); ++lane)
          ASSERT_EQ(std::isnan(got[std::int64_t{d} * panel() + lane]), lane == 0)
              << "dim " << d << " lane " << lane;
    }
}

// Fresh sums are sums of zeros, whatever lay there.
TEST_P(Values, FreshSumsStartAtZero) {
  Random random(10);
  for (const int dim : {1, 4, 17, 64})
    for (const int count : {1, 15, 64}) {
      const Floats weights(std::int64_t{count} * panel(), random, 0, 1);
      const Floats values(std::int64_t{count} * dim, random, -1, 1);
      const Floats alpha(panel(), random, 0, 1);
      Floats zeros(std::int64_t{dim} * panel(), 0);
      Floats fresh(std::int64_t{dim} * panel(), kNaN);
      kernel().weighted_sum_values(weights.data(), values.data(), dim, count, dim, alpha.data(), 0,
                                   zeros.data(), false);
      kernel().weighted_sum_values(weights.data(), values.data(), dim, count, dim, alpha.data(), 0,
                                   fresh.data(), true);
      for (std::int64_t i = 0; i < zeros.size(); ++i)
        ASSERT_EQ(bits_of(fresh[i]), bits_of(zeros[i])) << "dim " << dim << " keys " << count;
    }
}

TEST_P(Values, WriteOutputsHasTheTwinsBitsAndNoMinusZero) {
  Random random(4);
  for (const int dim : {1, 3, 8, 15, 16, 17, 64, 65})
    for (int count = 1; count <= panel(); ++count) {
      const std::int64_t stride = dim + count % 3;
      Floats acc(std::int64_t{dim} * panel(), random, -1, 1);
      const Floats factor(panel(), random, 0, 1);
      acc[0] = -0.0f;
      if (dim > 1) acc[panel()] = -1e-45f;  // underflows to −0 with the factor
      Floats out(panel() * stride, 777);
      Floats twin(panel() * stride, 777);
      kernel().write_outputs(acc.data(), factor.data(), count, dim, out.data(), stride);
      for (int first = 0; first < count; first += scalar::kPanel)
        scalar::write_outputs(group(acc, panel(), first).data(), factor.data() + first,
                              std::min(count - first, scalar::kPanel), dim,
                              twin.data() + first * stride, stride);
      for (std::int64_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(bits_of(out[i]), bits_of(twin[i]))
            << "dim " << dim << " rows " << count << " at " << i;
      EXPECT_FALSE(std::signbit(out[0]));
      // in the other types: the same numbers, rounded
      using Halves = std::vector<std::uint16_t>;
      Halves half(static_cast<std::size_t>(panel() * stride), 7);
      Halves bfloat16 = half;
      kernel().write_outputs_half(acc.data(), factor.data(), count, dim, half.data(), stride);
      kernel().write_outputs_bfloat16(acc.data(), factor.data(), count, dim, bfloat16.data(),
                                      stride);
      for (std::int64_t i = 0; i < out.size(); ++i) {
        const bool written = i / stride < count && i % stride < dim;
        const auto at = static_cast<std::size_t>(i);
        ASSERT_EQ(half[at], written ? float_to_half(twin[i]) : 7) << "dim " << dim << " at " << i;
        ASSERT_EQ(bfloat16[at], written ? float_to_bfloat16(twin[i]) : 7)
            << "dim " << dim << " at " << i;
      }
    }
}

// A staircase: lanes before the first one keep what they had; no alpha stands for ones.
TEST_P(Values, WeightedSumFromALaneOn) {
  constexpr int kDim = 41, kCount = 37;
  Random random(9);
  const Floats weights(kCount * panel(), random, 0, 1);
  const Floats values(kCount * kDim, random, -1, 1);
  const Floats ones(panel(), 1);
  const Floats before(kDim * panel(), random, -1, 1);
  Floats all = before;
  kernel().weighted_sum_values(weights.data(), values.data(), kDim, kCount, kDim, ones.data(), 0,
                               all.data(), false);
  for (int first = 0; first < panel(); first += kernel().step)
    for (const float* alpha : {ones.data(), static_cast<const float*>(nullptr)}) {
      Floats some = before;
      kernel().weighted_sum_values(weights.data(), values.data(), kDim, kCount, kDim, alpha, first,
                                   some.data(), false);
      for (std::int64_t i = 0; i < some.size(); ++i)
        ASSERT_EQ(bits_of(some[i]), bits_of(i % panel() < first ? before[i] : all[i]))
            << "first lane " << first << ", at " << i;
    }
}

}  // namespace
}  // namespace qkv::kernels::testing
