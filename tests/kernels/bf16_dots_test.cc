// The bfloat16 dot products of the CPU against their scalar twin: the same bits, at awkward sizes and with numbers of every
// kind. On a CPU without them only the twin is there, and nothing is compared.
#include "kernels/bf16_dots.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/half.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Bf16Dots : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cpu == nullptr) GTEST_SKIP() << "this CPU has no bfloat16 dot product";
  }
  const Bf16DotKernels* const cpu = bf16_dot_kernels_of("avx512_bf16");
  const Bf16DotKernels& twin = *bf16_dot_kernels_of("scalar");
};

// Ordinary numbers, or any bits: NaN, Inf, and numbers below 2^−126 among them.
std::vector<std::uint16_t> numbers(std::size_t count, bool any, Random& random) {
  std::vector<std::uint16_t> list(count);
  for (std::uint16_t& x : list)
    x = any && random.chance(0.1)
            ? static_cast<std::uint16_t>(random.chance(0.5) ? random.below(256) << 15 >> 8
                                                            : random.below(0x10000))
            : float_to_bfloat16(random.uniform(-2, 2) * (any ? 0x1p-60f : 1.0f));
  return list;
}

bool same(float a, float b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

TEST_F(Bf16Dots, HaveTheBitsOfTheirTwin) {
  Random random(1);
  for (const bool any : {false, true})
    for (const int dim : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 130})
      for (const int keys : {1, 2, 15, 16, 17, 33, 64, 127, 128})
        for (const int rows : {1, 2, 3, 4, 5, 8, 11}) {
          const std::int64_t stride = dim + 3;
          const auto stored = numbers(static_cast<std::size_t>(keys * stride), any, random);
          const StoredRows list{stored.data(), stride, keys, dim};
          const int pairs = (dim + 1) / 2;
          const auto halves = numbers(static_cast<std::size_t>(rows * pairs * 2), any, random);
          std::vector<std::uint32_t> queries(static_cast<std::size_t>(rows * pairs));
          for (std::size_t i = 0; i < queries.size(); ++i) {
            const bool odd = dim % 2 == 1 && i % static_cast<std::size_t>(pairs) + 1 ==
                                                 static_cast<std::size_t>(pairs);
            queries[i] =
                halves[2 * i] | (odd ? 0u : static_cast<std::uint32_t>(halves[2 * i + 1]) << 16);
          }
          const auto size = static_cast<std::size_t>(rows * kScoreStride);
          std::vector<float> got(size), expected(size);
          cpu->query_dot_keys(queries.data(), rows, list, {}, 1.5f, got.data());
          twin.query_dot_keys(queries.data(), rows, list, {}, 1.5f, expected.data());
          for (int r = 0; r < rows; ++r)
            for (int k = 0; k < keys; ++k) {
              const auto i = static_cast<std::size_t>(r * kScoreStride + k);
              ASSERT_TRUE(same(got[i], expected[i]))
                  << got[i] << " " << expected[i] << ", dim " << dim << ", any " << any;
            }

          std::vector<float> weights(size);
          for (int r = 0; r < rows; ++r)
            for (int k = 0; k < keys; ++k)
              weights[static_cast<std::size_t>(r * kScoreStride + k)] =
                  random.uniform(0, 1) * (any && random.chance(0.1) ? 0x1p-127f : 1.0f);
          std::vector<std::uint16_t> narrow(size), twin_narrow(size);
          cpu->narrow_weights(weights.data(), rows, keys, narrow.data());
          twin.narrow_weights(weights.data(), rows, keys, twin_narrow.data());
          ASSERT_EQ(narrow, twin_narrow);

          const auto acc_size = static_cast<std::size_t>(rows * acc_stride(dim));
          std::vector<float> acc(acc_size, 0.25f), twin_acc = acc;
          const std::vector<float> alpha(static_cast<std::size_t>(rows), 0.75f);
          cpu->weighted_sum_values(narrow.data(), rows, list, {}, alpha.data(), acc.data());
          twin.weighted_sum_values(narrow.data(), rows, list, {}, alpha.data(), twin_acc.data());
          for (int r = 0; r < rows; ++r)
            for (int d = 0; d < dim; ++d) {
              const auto i = static_cast<std::size_t>(r * acc_stride(dim) + d);
              ASSERT_TRUE(same(acc[i], twin_acc[i]))
                  << acc[i] << " " << twin_acc[i] << ", dim " << dim << ", keys " << keys;
            }
        }
}

}  // namespace
}  // namespace qkv::kernels::testing
