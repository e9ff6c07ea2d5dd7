#include "lens/words.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace qkv::lens {
namespace {

std::string joined(std::string_view text, std::span<const Span> pieces = {},
                   std::vector<std::string_view> phrases = {}) {
  std::string all;
  for (const Word& word : split_words(text, pieces, phrases)) {
    EXPECT_EQ(word.text, text.substr(word.at.begin, word.at.end - word.at.begin));
    all += (all.empty() ? "" : "|") + word.text + (word.pronoun ? "*" : "") +
           (word.kind == WordKind::punctuation ? "^" : "");
  }
  return all;
}

TEST(Words, EnglishAndChinese) {
  EXPECT_EQ(joined("The cat sat on the mat because it was tired."),
            "The|cat|sat|on|the|mat|because|it*|was|tired|.^");
  EXPECT_EQ(joined("我爱吃苹果"), "我|爱|吃|苹果");
  EXPECT_EQ(joined("我用Python写程序"), "我|用|Python|写|程序");
  EXPECT_EQ(joined(""), "");
  EXPECT_EQ(joined(" \t　\n"), "");
}

TEST(Words, PronounsStandAlone) {
  EXPECT_EQ(joined("It's THEIR mat; they're tired"), "It*|'s|THEIR*|mat|;^|they*|'re|tired");
  EXPECT_EQ(joined("he’d seen her"), "he*|’d|seen|her*");
  // ICU keeps 它的, 他是, 它是, 我想 together.
  EXPECT_EQ(joined("他们把它的书给了她们。"), "他们*|把|它*|的|书|给|了|她们*|。^");
  EXPECT_EQ(joined("他是老师，他说它是我的"), "他*|是|老师|，^|他*|说|它*|是|我|的");
  EXPECT_EQ(joined("牠們很好"), "牠們*|很好");
}

TEST(Words, WordsThatOnlyContainAPronounStayWhole) {
  EXPECT_EQ(joined("其他人弹吉他"), "其他|人|弹|吉他");
  EXPECT_EQ(joined("the item is hers"), "the|item|is|hers*");
  for (const char* no : {"I", "you", "we", "this", "我", "你们", "自己", "sit", "theme", ""})
    EXPECT_FALSE(is_pronoun(no)) << no;
  for (const char* yes : {"IT", "Himself", "theirs", "她们", "祂"})
    EXPECT_TRUE(is_pronoun(yes)) << yes;
}

TEST(Words, BordersMoveToHanPieces) {
  const std::string text = "很好吃";
  EXPECT_EQ(joined(text), "很好|吃");
  const std::vector<Span> pieces = {{0, 3}, {3, 9}};  // 很 好吃
  EXPECT_EQ(joined(text, pieces), "很|好吃");
  // A pronoun's borders stay: the weight of the piece 它的 is split instead.
  const std::vector<Span> crossing = {{0, 6}};
  EXPECT_EQ(joined("它的书", crossing), "它*|的|书");
  // Latin words keep ICU's borders whatever the pieces are.
  const std::vector<Span> latin = {{0, 5}};
  EXPECT_EQ(joined("a bcd", latin), "a|bcd");
}

TEST(Words, PhrasesBecomeWords) {
  EXPECT_EQ(joined("红色的苹果", {}, {"红色的"}), "红色的|苹果");
  EXPECT_EQ(joined("a red apple", {}, {"Red Apple"}), "a|red apple");
  EXPECT_EQ(joined("吃掉它", {}, {"吃"}), "吃|掉|它*");
  EXPECT_EQ(joined("吃苹果，吃掉它", {}, {"吃"}), "吃|苹果|，^|吃掉|它*");  // it is a word already
  EXPECT_EQ(joined("sit down", {}, {"it"}), "sit|down");  // no cut inside an English word
  EXPECT_EQ(joined("sit down", {}, {""}), "sit|down");
}

TEST(Words, OddTextIsKept) {
  EXPECT_EQ(joined("👨‍👩‍👧 ok"), "👨‍👩‍👧^|ok");
  std::string han;
  for (int i = 0; i < 30000; ++i) han += "他";
  EXPECT_EQ(split_words(han).size(), 30000U);
  std::string restored;
  const std::string mixed = "don't  stop他们的U.S.A. 3.14%";
  for (const Word& word : split_words(mixed)) restored += word.text;
  EXPECT_EQ(restored, "don'tstop他们的U.S.A.3.14%");
}

std::vector<std::string> sentences(std::string_view text) {
  std::vector<std::string> all;
  for (const Span at : split_sentences(text))
    all.emplace_back(text.substr(at.begin, at.end - at.begin));
  return all;
}

TEST(Sentences, AreCutAtTheirEnds) {
  using Strings = std::vector<std::string>;
  EXPECT_EQ(sentences("Mr. Smith left. Did he? Yes!"),
            (Strings{"Mr. Smith left.", "Did he?", "Yes!"}));
  EXPECT_EQ(sentences("你好。我很好！ 真的吗？"), (Strings{"你好。", "我很好！", "真的吗？"}));
  EXPECT_EQ(sentences("\"Hi!\" he said. \"Bye.\" He left."),
            (Strings{"\"Hi!\" he said.", "\"Bye.\"", "He left."}));
  EXPECT_EQ(sentences("我很好！“真的吗？”他说。走吧。"),
            (Strings{"我很好！", "“真的吗？”他说。", "走吧。"}));
  EXPECT_EQ(sentences("It is 3.14. U.S. people say so..."),
            (Strings{"It is 3.14.", "U.S. people say so..."}));
  EXPECT_EQ(sentences("  no end  "), (Strings{"no end"}));
  EXPECT_EQ(sentences(" "), Strings{});
}

TEST(Utf8, InvalidBytesAreFound) {
  EXPECT_EQ(find_invalid_utf8("好ok"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("ok\xFF"), 2U);
  EXPECT_EQ(find_invalid_utf8("\xE5\xA5"), 0U);       // cut
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF"), 0U);       // overlong
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80"), 1U);  // surrogate
  EXPECT_EQ(trim(" \t　好 x\n"), "好 x");
  EXPECT_EQ(trim("　"), "");
}

}  // namespace
}  // namespace qkv::lens
