// The row kernels of every instruction set against their scalar twins.
#include "kernels/rows.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/half.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Rows : public EveryIsa {
 protected:
  const RowKernels& rows() const { return *row_kernels_of(kernel().name); }
  static const RowKernels& twin() { return *row_kernels_of("scalar"); }
};
QKV_FOR_EVERY_ISA(Rows);

// Each activation is a few operations around e^x, tanh or erf, whose vector versions are off by 2e-7, 4e-7 of the result and 5e-7.
TEST_P(Rows, ActivationsAreTheirTwins) {
  Random random(1);
  for (const int count : kLengths)
    for (const auto kernel :
         {&RowKernels::silu, &RowKernels::gelu, &RowKernels::gelu_new, &RowKernels::tanh}) {
      Floats got(count, random, -20, 20);
      Floats expected = got;
      const Floats x = got;
      (rows().*kernel)(got.data(), count);
      (twin().*kernel)(expected.data(), count);
      for (int i = 0; i < count; ++i)
        ASSERT_NEAR(got[i], expected[i], 1e-6 * (1 + std::fabs(x[i]))) << "x = " << x[i];
    }
}

TEST_P(Rows, ActivationsOfLargeNumbersStayFinite) {
  std::vector<float> values = {-1e30f, -200, -100, 100, 200, 1e30f, 0, -0.0f};
  rows().silu(values.data(), std::ssize(values));
  EXPECT_NEAR(values[0], 0, 1e-30);
  EXPECT_NEAR(values[1], 0, 1e-30);
  EXPECT_EQ(values[4], 200);
  EXPECT_EQ(values[5], 1e30f);
  EXPECT_EQ(values[6], 0);
  values = {-1e30f, -200, -10, 10, 200, 1e30f, 0, -0.0f};
  rows().gelu(values.data(), std::ssize(values));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(values[i], 0);
  EXPECT_EQ(values[3], 10);
  EXPECT_EQ(values[5], 1e30f);
  values = {kNaN};
  rows().gelu(values.data(), 1);
  EXPECT_TRUE(std::isnan(values[0]));
}

TEST_P(Rows, LargestAndSumOfExp) {
  Random random(2);
  for (const int count : kLengths) {
    Floats values(count, random, -30, 5);
    values[count / 2] = 6;
    ASSERT_EQ(rows().largest(values.data(), count), 6);
    // every e^x is off by 2e-7 and by the rounding of its argument, 36·2^−24; the sum by γ(count) at most
    double exact = 0;
    for (int i = 0; i < count; ++i) exact += std::exp(static_cast<double>(values[i]) - 6);
    ASSERT_NEAR(rows().sum_of_exp(values.data(), count, 6), exact,
                (kExp2Error + (36 * 3 + count) * kUnit) * exact);
    values[0] = kNaN;
    if (count > 1) {
      ASSERT_EQ(rows().largest(values.data(), count), 6);
    }
    values[0] = -kInfinity;
    ASSERT_FALSE(std::isnan(rows().sum_of_exp(values.data(), count, 6)));
  }
  EXPECT_EQ(rows().largest(nullptr, 0), -kInfinity);
}

TEST_P(Rows, LayerNormIsTheFormula) {
  Random random(3);
  for (const int count : kLengths)
    for (const bool adds : {false, true}) {
      const Floats sum(count, random, -3, 3), add(count, random, -3, 3),
          weight(count, random, 0, 2), bias(count, random, -1, 1);
      Floats got(count);
      rows().layer_norm(sum.data(), adds ? add.data() : nullptr, weight.data(), bias.data(), 1e-5f,
                        count, got.data());
      double mean = 0, variance = 0;
      const auto x = [&](int i) {
        return static_cast<double>(sum[i]) + (adds ? static_cast<double>(add[i]) : 0);
      };
      for (int i = 0; i < count; ++i) mean += x(i) / count;
      for (int i = 0; i < count; ++i) variance += (x(i) - mean) * (x(i) - mean) / count;
      for (int i = 0; i < count; ++i) {
        const double expected = (x(i) - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
        // a row of one number has variance 0 and would be divided by √ε alone: rounding of the mean shows 316-fold
        ASSERT_NEAR(got[i], expected, 1e-4) << count << " at " << i;
      }
      // in place of either operand: the same bits
      Floats in_place = sum;
      rows().layer_norm(in_place.data(), adds ? add.data() : nullptr, weight.data(), bias.data(),
                        1e-5f, count, in_place.data());
      ASSERT_EQ(
          std::memcmp(in_place.data(), got.data(), sizeof(float) * static_cast<std::size_t>(count)),
          0);
    }
}

TEST(Half, EveryHalfIsAFloatAndComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    std::uint16_t back = 0;
    if ((bits & 0x7c00) == 0x7c00) {
      ASSERT_FALSE(std::isfinite(value));
      ASSERT_FALSE(float_is_half(value, &back));
      continue;
    }
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double mantissa = bits & 0x3ff;
    const double size =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(value, bits & 0x8000 ? -size : size);
    ASSERT_TRUE(float_is_half(value, &back));
    ASSERT_EQ(back, half);
    if (value != 0) {
      ASSERT_FALSE(float_is_half(value * (1 + 0x1p-12f), &back));
    }
  }
}

// linear_half gives the bits of linear over the same numbers.
TEST_P(Rows, LinearOfHalvesHasTheBitsOfFloats) {
  Random random(4);
  for (const int rows : {1, 2, 5, 13, 30})
    for (const int out : {5, 32, 130})
      for (const int in : {1, 7, 64}) {
        const int panels = (out + panel() - 1) / panel();
        const auto size = static_cast<std::size_t>(panels * panel() * in);
        std::vector<std::uint16_t> halves(size);
        std::vector<float> floats(size);
        for (std::size_t i = 0; i < size; ++i) {
          halves[i] = static_cast<std::uint16_t>(random.below(0x7c00) | random.below(2) << 15);
          floats[i] = half_to_float(halves[i]);
        }
        const Floats x(std::int64_t{rows} * in, random, -1, 1), bias(out, random, -1, 1);
        Floats expected(std::int64_t{rows} * out), got(std::int64_t{rows} * out);
        kernel().linear(floats.data(), bias.data(), x.data(), in, rows, in, out, expected.data(),
                        out);
        kernel().linear_half(halves.data(), bias.data(), x.data(), in, rows, in, out, got.data(),
                             out);
        ASSERT_EQ(std::memcmp(got.data(), expected.data(),
                              sizeof(float) * static_cast<std::size_t>(got.size())),
                  0);
      }
}

}  // namespace
}  // namespace qkv::kernels::testing
