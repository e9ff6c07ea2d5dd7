#include "lens/width.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace qkv::lens {
namespace {

TEST(Width, CountsCells) {
  EXPECT_EQ(width(""), 0);
  EXPECT_EQ(width("cat"), 3);
  EXPECT_EQ(width("苹果，"), 6);
  EXPECT_EQ(width("e\u0301"), 1);  // combining accent
  EXPECT_EQ(width("ｶﾞ"), 2);       // half-width letter with its mark, which takes a cell of its own
  EXPECT_EQ(width("👨‍👩‍👧"), 2);  // joined emoji
  EXPECT_EQ(width("🇨🇳"), 2);
  EXPECT_EQ(width("1\uFE0F\u20E3"), 2);  // keycap
  EXPECT_EQ(width("\u200B\u200D"), 0);
  EXPECT_EQ(width("⟨end⟩"), 5);
}

TEST(Width, FitsAndPads) {
  EXPECT_EQ(fit("苹果", 4), "苹果");
  EXPECT_EQ(fit("苹果汁", 4), "苹…");
  EXPECT_EQ(fit("苹果汁", 5), "苹果…");
  EXPECT_EQ(fit("apple", 1), "…");
  EXPECT_EQ(fit("apple", 0), "");
  EXPECT_EQ(pad_right("苹果", 6) + "|", "苹果  |");
  EXPECT_EQ(pad_right("苹果汁", 4) + "|", "苹… |");
  EXPECT_EQ(pad_left("12", 4), "  12");
  EXPECT_EQ(fit("e\u0301e\u0301e\u0301", 2), "e\u0301…");
}

TEST(Width, Bars) {
  EXPECT_EQ(bar(0, 4), "");
  EXPECT_EQ(bar(1, 4), "████");
  EXPECT_EQ(bar(0.5, 1), "▌");
  EXPECT_EQ(bar(2, 2), "██");
  EXPECT_EQ(bar(std::nan(""), 2), "");
}

TEST(Width, NothingHarmsTheTerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\n"), "a␛[31mb␊");
  EXPECT_EQ(printable("\x7F\u0085\u202Ex"), "␡\uFFFDx");
  EXPECT_EQ(printable("ok\xFF"), "ok\uFFFD");
}

TEST(Width, Wraps) {
  EXPECT_EQ(wrap({"one", "two", "三", "four"}, 7),
            (std::vector<std::string>{"one two", "三 four"}));
  EXPECT_EQ(wrap({"abcdefgh", "x"}, 5), (std::vector<std::string>{"abcd…", "x"}));
  EXPECT_TRUE(wrap({}, 5).empty());
}

}  // namespace
}  // namespace qkv::lens
