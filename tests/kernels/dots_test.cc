// The dot kernels of every instruction set against their scalar twins and long double.
#include "kernels/dots.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Dots : public EveryIsa {
 protected:
  const DotKernels& dots() const { return *dot_kernels_of(kernel().name); }
  static const DotKernels& twin() { return *dot_kernels_of("scalar"); }
};
QKV_FOR_EVERY_ISA(Dots);

constexpr int kSizes[] = {1,  2,  7,   8,   15,  16,  17,  31,   32,   33,   63,
                          64, 65, 100, 384, 511, 512, 513, 1000, 1537, 65536};

// The bound that dots.h states, against the products added in long double.
TEST_P(Dots, RowsAreWithinTheStatedBound) {
  Random random(1);
  for (const int dim : kSizes)
    for (const int count : {1, 2, 3, 4, 5, 7, 8, 9, 128}) {
      if (std::int64_t{dim} * count > 600'000) continue;
      const Floats query(dim, random, -1, 1), rows(std::int64_t{dim} * count, random, -3, 5);
      std::vector<double> got(static_cast<std::size_t>(count)), expected(got.size()), alone(1);
      dots().query_dot_rows(query.data(), rows.data(), count, dim, got.data());
      twin().query_dot_rows(query.data(), rows.data(), count, dim, expected.data());
      for (int k = 0; k < count; ++k) {
        long double sum = 0, size = 0;
        for (int d = 0; d < dim; ++d) {
          const long double product =
              static_cast<long double>(query[d]) * rows[std::int64_t{k} * dim + d];
          sum += product;
          size += std::fabs(product);
        }
        const long double bound = gamma(kDotRoundings) * size + dim * 0x1p-149L;
        const auto at = static_cast<std::size_t>(k);
        ASSERT_LE(std::fabs(got[at] - sum), bound) << dim << " dims, row " << k << " of " << count;
        ASSERT_LE(std::fabs(expected[at] - sum), bound);
        dots().query_dot_rows(query.data(), rows.data() + std::int64_t{k} * dim, 1, dim,
                              alone.data());
        ASSERT_EQ(alone[0], got[at]);  // whatever stands beside it
      }
    }
}

// Whole numbers have no rounding: the same to the last bit, at the ends of what is allowed too.
TEST_P(Dots, CodesAreExact) {
  Random random(2);
  for (const int dim : kSizes)
    for (const int count : {1, 2, 3, 4, 5, 6, 7, 8, 128})
      for (const bool largest : {false, true}) {
        const int most = std::min(32767, 2'147'483'647 / 128 / dim);
        // begin one past the allocation, so that no load is aligned
        std::vector<std::int16_t> query(static_cast<std::size_t>(dim) + 1);
        std::vector<std::int8_t> codes(static_cast<std::size_t>(dim) * count + 1);
        for (auto& x : query)
          x = static_cast<std::int16_t>(largest ? -most : random.between(-most, most));
        for (auto& x : codes)
          x = static_cast<std::int8_t>(largest ? -128 : random.between(-128, 127));
        std::vector<std::int32_t> got(static_cast<std::size_t>(count)), expected(got.size());
        dots().query_dot_codes(query.data() + 1, codes.data() + 1, count, dim, got.data());
        twin().query_dot_codes(query.data() + 1, codes.data() + 1, count, dim, expected.data());
        ASSERT_EQ(got, expected) << dim << " dims, " << count << " rows";
        if (largest) {
          ASSERT_EQ(got[0], 128 * most * dim);
        }
      }
}

TEST_P(Dots, OverflowIsNotFinite) {
  const std::vector<float> query(40, 1e20f), rows(40, 1e20f);
  double dot = 0;
  dots().query_dot_rows(query.data(), rows.data(), 1, 40, &dot);
  EXPECT_FALSE(std::isfinite(dot));
}

}  // namespace
}  // namespace qkv::kernels::testing
