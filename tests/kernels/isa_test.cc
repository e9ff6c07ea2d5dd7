// Which instruction set runs, and that QKV_ISA is obeyed or refused loudly. The choice is made once for a process, so each
// case makes it in a process of its own.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"
#include "qkv/isa.h"

namespace qkv {
namespace {

constexpr int kRefused = 3;

// What a small program would do: asks which instruction set runs, says so on stderr, ends with 0 or, if refused, 3.
[[noreturn]] void ask_with(const char* name) {
  name == nullptr ? unsetenv("QKV_ISA") : setenv("QKV_ISA", name, 1);
  try {
    const std::string chosen(isa());
    std::fprintf(stderr, "chose %s.", chosen.c_str());
    _exit(0);
  } catch (const std::invalid_argument& refused) {
    std::fprintf(stderr, "%s", refused.what());
    _exit(kRefused);
  }
}

std::string listed() {
  std::string names;
  for (const std::string_view name : supported_isas())
    names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

TEST(Isa, SupportedNamesHaveTablesAndEndWithScalar) {
  const std::vector<std::string_view> names = supported_isas();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "scalar");
  for (const std::string_view name : names) {
    const kernels::Kernels* table = kernels::kernels_of(std::string(name).c_str());
    ASSERT_NE(table, nullptr) << name;
    EXPECT_EQ(name, table->name);
    EXPECT_LE(table->panel, kernels::kMaxPanel);
    EXPECT_EQ(table->panel % 8, 0) << "a scalar panel's lanes must divide every panel";
  }
  EXPECT_EQ(kernels::kernels_of("sse9"), nullptr);
  EXPECT_EQ(kernels::kernels_of(""), nullptr);
}

TEST(IsaDeathTest, TheBestIsChosenUnasked) {
  const std::string best = "chose " + std::string(supported_isas().front()) + "\\.";
  EXPECT_EXIT(ask_with(nullptr), testing::ExitedWithCode(0), best);
  EXPECT_EXIT(ask_with(""), testing::ExitedWithCode(0), best);
}

TEST(IsaDeathTest, EverySupportedNameIsObeyed) {
  for (const std::string_view name : supported_isas())
    EXPECT_EXIT(ask_with(std::string(name).c_str()), testing::ExitedWithCode(0),
                "chose " + std::string(name) + "\\.");
}

TEST(IsaDeathTest, UnknownNameIsRefusedWithTheNamesThereAre) {
  for (const char* name : {"sse9", "AVX2", "avx2 ", "avx"})
    EXPECT_EXIT(ask_with(name), testing::ExitedWithCode(kRefused),
                "QKV_ISA: expected one of " + listed() + ", got \"" + name + "\"");
}

TEST(IsaDeathTest, NameThatThisCpuLacksIsRefused) {
  const std::vector<std::string_view> have = supported_isas();
  int lacking = 0;
  for (const char* name : {"avx512", "avx2", "neon"}) {
    if (std::find(have.begin(), have.end(), name) != have.end()) continue;
    ++lacking;
    EXPECT_EXIT(ask_with(name), testing::ExitedWithCode(kRefused),
                std::string("QKV_ISA: .*\"") + name + "\"");
  }
  EXPECT_GT(lacking, 0) << "no CPU runs all of them";
}

}  // namespace
}  // namespace qkv
