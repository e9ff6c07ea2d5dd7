// linear: y = bias + x·wᵀ, for every number of rows and for widths that do not fill a panel.
#include <cstdint>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Linear : public EveryIsa {
 protected:
  // w[out][in] packed as the kernel wants it: ⌈out/panel⌉ panels.
  static Floats pack(const Kernels& k, const Floats& w, int in, int out) {
    const int panels = (out + k.panel - 1) / k.panel;
    Floats packed(std::int64_t{panels} * in * k.panel, kNaN);
    for (int first = 0; first < out; first += k.panel)
      k.pack_queries(w.data() + std::int64_t{first} * in, in, std::min(k.panel, out - first), in, 1,
                     packed.data() + std::int64_t{first} * in);
    return packed;
  }
};
QKV_FOR_EVERY_ISA(Linear);

// A chain of `in` multiply-adds that starts at the bias, on both sides: |difference| ≤ 2·γ(in + 2)·(|bias| + Σ|x||w|).
TEST_P(Linear, IsItsTwin) {
  Random random(1);
  const Kernels& twin = *kernels_of("scalar");
  for (const int in : {1, 3, 16, 65})
    for (const int out : {1, 7, 8, 9, 31, 32, 33, 65, 128, 130, 200})
      for (int rows = 1; rows <= 20; ++rows)
        for (const bool biased : {false, true}) {
          const std::int64_t x_stride = in + rows % 3;
          const std::int64_t y_stride = out + rows % 2;
          const Floats w(std::int64_t{out} * in, random, -1, 1);
          const Floats x(rows * x_stride, random, -1, 1);
          const Floats bias(out, random, -1, 1);
          const float* b = biased ? bias.data() : nullptr;
          Floats y(rows * y_stride, 777);
          Floats expected(rows * y_stride, 777);
          kernel().linear(pack(kernel(), w, in, out).data(), b, x.data(), x_stride, rows, in, out,
                          y.data(), y_stride);
          twin.linear(pack(twin, w, in, out).data(), b, x.data(), x_stride, rows, in, out,
                      expected.data(), y_stride);
          for (int r = 0; r < rows; ++r) {
            for (std::int64_t o = out; o < y_stride; ++o)
              ASSERT_EQ(y[r * y_stride + o], 777) << "written between rows";
            for (int o = 0; o < out; ++o) {
              double size = biased ? std::fabs(bias[o]) : 0;
              for (int i = 0; i < in; ++i)
                size += std::fabs(x[r * x_stride + i] * w[std::int64_t{o} * in + i]);
              ASSERT_NEAR(y[r * y_stride + o], expected[r * y_stride + o], 2 * gamma(in + 2) * size)
                  << "in " << in << " out " << out << " rows " << rows << " at " << r << ", " << o;
            }
          }
        }
}

// One row alone takes another path than many; the bits are the same.
TEST_P(Linear, BitsDoNotDependOnTheNumberOfRows) {
  Random random(2);
  constexpr int kRows = 20;
  for (const int in : {5, 64})
    for (const int out : {9, 128, 300}) {
      const Floats w(std::int64_t{out} * in, random, -1, 1);
      const Floats packed = pack(kernel(), w, in, out);
      const Floats x(kRows * in, random, -1, 1);
      const Floats bias(out, random, -1, 1);
      Floats all(kRows * out);
      kernel().linear(packed.data(), bias.data(), x.data(), in, kRows, in, out, all.data(), out);
      for (int rows = 1; rows <= kRows; ++rows)
        for (int first = 0; first + rows <= kRows; ++first) {
          Floats some(std::int64_t{rows} * out);
          kernel().linear(packed.data(), bias.data(), x.data() + first * in, in, rows, in, out,
                          some.data(), out);
          ASSERT_EQ(std::memcmp(some.data(), all.data() + first * out,
                                sizeof(float) * static_cast<std::size_t>(some.size())),
                    0)
              << "out " << out << ", rows " << first << " to " << first + rows;
        }
    }
}

}  // namespace
}  // namespace qkv::kernels::testing
