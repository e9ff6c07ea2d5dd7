// What the kernel tests share: numbers, awkward lengths, and the way a kernel is held against its scalar twin.
//
// A twin works on panels of 8 lanes, a kernel on panels of 8 to 64: `group` cuts a panel's lanes out eight at a time.
//
// Bounds. u = 2^−24 is the unit roundoff of float, γ(n) = n·u / (1 − n·u). A chain of n multiply-adds, fused or not, is off by
// at most γ(n + 1)·Σ|a||b| (Higham, Accuracy and Stability of Numerical Algorithms, §3.1), so two chains in different orders
// differ by at most twice that.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include "qkv/isa.h"
#include "tests/kernels/random.h"

namespace qkv::kernels::testing {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr double kUnit = 0x1p-24;
inline constexpr double kExp2Error =
    2e-7;  // relative, of the vectors' 2^x (tile.h); the scalar one is better
inline double gamma(double n) { return n * kUnit / (1 - n * kUnit); }

inline constexpr int kLengths[] = {1,  2,  3,  4,  5,  7,  8,  11, 12,  13,
                                   15, 16, 17, 31, 33, 63, 64, 65, 127, 128};  // at most kMaxChunk
inline constexpr int kDims[] = {1,  2,  3,  7,  8,  9,   15,  16,  17,  31,
                                32, 33, 63, 64, 65, 100, 127, 128, 1024};

using tests::Random;

// Floats that begin one float after the allocation, so that no vector load of them is aligned.
class Floats {
 public:
  explicit Floats(std::int64_t size, float fill = 0)
      : storage_(static_cast<std::size_t>(size) + 1, fill) {}
  Floats(std::int64_t size, Random& random, float low, float high) : Floats(size) {
    for (std::size_t i = 1; i < storage_.size(); ++i) storage_[i] = random.uniform(low, high);
  }
  float* data() { return storage_.data() + 1; }
  const float* data() const { return storage_.data() + 1; }
  std::int64_t size() const { return static_cast<std::int64_t>(storage_.size()) - 1; }
  float& operator[](std::int64_t i) { return storage_[static_cast<std::size_t>(i) + 1]; }
  float operator[](std::int64_t i) const { return storage_[static_cast<std::size_t>(i) + 1]; }

 private:
  std::vector<float> storage_;
};

// lanes [first, first + 8) of rows[i][lane] of a panel `width` lanes wide.
inline Floats group(const Floats& panel, int width, int first) {
  Floats lanes(panel.size() / width * scalar::kPanel);
  for (std::int64_t i = 0; i < panel.size() / width; ++i)
    for (int lane = 0; lane < scalar::kPanel; ++lane)
      lanes[i * scalar::kPanel + lane] = panel[i * width + first + lane];
  return lanes;
}

inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Every instruction set that this machine runs, one after the other, and its narrower panels: "avx512", "avx512_32".
class EveryIsa : public ::testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernel() const {
    const std::string& name = GetParam();
    if (const Kernels* table = kernels_of(name.c_str())) return *table;
    const std::size_t panel = name.rfind('_');
    const Kernels* table = kernels_of(name.substr(0, panel).c_str());
    while (std::to_string(table->panel) != name.substr(panel + 1)) table = table->narrow;
    return *table;
  }
  int panel() const { return kernel().panel; }
};

inline std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const std::string_view name : supported_isas()) {
    if (name == "avx512_bf16") continue;  // avx512's kernels, and those of pairs_test.cc
    names.emplace_back(name);
    for (const Kernels* k = kernels_of(names.back().c_str())->narrow; k != nullptr; k = k->narrow)
      names.push_back(std::string(name) + "_" + std::to_string(k->panel));
  }
  return names;
}

#define QKV_FOR_EVERY_ISA(suite)                                                                  \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, ::testing::ValuesIn(::qkv::kernels::testing::isa_names()), \
                           [](const auto& which) { return which.param; })

}  // namespace qkv::kernels::testing
