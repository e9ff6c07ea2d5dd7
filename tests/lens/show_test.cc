// The reports as text and as JSON.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "lens/json.h"
#include "lens/terminal.h"
#include "lens/width.h"
#include "tests/lens/synthetic.h"

namespace qkv::lens {
namespace {

using nlohmann::json;
using testing::mostly;
using testing::pieces_of;
using testing::record_with;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void expect_within(const std::string& text, int columns) {
  for (const std::string& line : lines_of(text)) EXPECT_LE(width(line), columns) << line;
}

// A sentence in which 它 reads 苹果.
struct Chinese {
  std::string text = "红色的苹果很好吃，我想吃掉它";
  std::vector<models::Piece> pieces = pieces_of(
      text, {"▁红色", "的", "苹果", "很", "好吃", "，", "我", "想", "吃掉", "它"}, ">>en<<");
  layers::AttentionTape tape = {
      record_with(std::vector<testing::Weights>(8, mostly(12, 11, 0.6F)), 0),
      record_with(std::vector<testing::Weights>(8, mostly(12, 3, 0.812F)), 1)};
  std::vector<models::HeadRole> roles = {{"encoder", 1, 2, "coreference", 0.91, 0.2, true},
                                         {"encoder", 0, 4, "punctuation", 0.99, 0.12, false}};
  Run run() const { return {text, "zh", pieces, &tape, roles}; }
};

TEST(Terminal, OpensWithTheAnswer) {
  const Chinese example;
  const std::vector<std::string> lines = lines_of(to_terminal(make_report(example.run(), {}), {}));
  ASSERT_GE(lines.size(), 6U);
  EXPECT_EQ(lines[0], "Chinese, 10 words");
  EXPECT_EQ(lines[1], "红色 的 苹果 很 好吃 ， 我 想 吃掉 它");
  EXPECT_EQ(lines[3].substr(0, std::string("它 read").size()), "它 read");
  EXPECT_NE(lines[3].find("layer 1, head 2 · coreference: right 91%, by chance 20%"),
            std::string::npos);
  EXPECT_TRUE(lines[4].starts_with("  苹果       81.2%  ████")) << lines[4];
}

TEST(Terminal, StaysWithinTheScreen) {
  const Chinese example;
  ReportOptions options;
  options.every_head = true;
  options.layer = 1;
  options.head = 2;
  for (const int columns : {40, 60, 80, 120, 200}) {
    expect_within(to_terminal(make_report(example.run(), options), {columns, false}), columns);
    expect_within(to_terminal(explain(example.run(), {.query = "它", .key = "苹果"}),
                              {std::max(columns, 80), false}),
                  std::max(columns, 80));
  }
  expect_within(to_terminal(make_report(example.run(), options), {1, false}), 40);
}

TEST(Terminal, LongSentencesAreCapped) {
  std::string text;
  std::vector<std::string> spellings;
  for (int i = 0; i < 150; ++i) {
    text += (i > 0 ? " " : "") + std::string(i % 5 == 0 ? "it" : "word" + std::to_string(i));
    spellings.push_back(std::string("▁") + (i % 5 == 0 ? "it" : "word" + std::to_string(i)));
  }
  const std::vector<models::Piece> pieces = pieces_of(text, spellings);
  const layers::AttentionTape tape = {record_with({mostly(152, 2, 0.5F)}, 0)};
  const lens::Run run = {text, "en", pieces, &tape, {}};
  const std::string shown = to_terminal(make_report(run, {.query = "", .layer = 0, .head = 0}), {});
  expect_within(shown, 80);
  EXPECT_NE(shown.find("more"), std::string::npos);
  EXPECT_NE(shown.find("… and 18 more answers"), std::string::npos);
  EXPECT_NE(shown.find("more words; --json has them all"), std::string::npos);
  EXPECT_LT(lines_of(shown).size(), 350U);
}

TEST(Terminal, ColourOnlyIfAskedFor) {
  const Chinese example;
  const Report report = make_report(example.run(), {});
  EXPECT_EQ(to_terminal(report, {80, false}).find('\x1b'), std::string::npos);
  EXPECT_NE(to_terminal(report, {80, true}).find("\x1b[1m"), std::string::npos);
}

TEST(Terminal, TextCannotSendEscapes) {
  Chinese example;
  example.text = "it \x1b[31m";
  example.pieces =
      pieces_of(example.text, {"▁it", "\x1b", "[", "31", "m", "▁", "▁", "▁", "▁", "▁"});
  ReportOptions options;
  options.every_head = true;
  options.unit = Unit::pieces;
  EXPECT_EQ(to_terminal(make_report(example.run(), options), {}).find('\x1b'), std::string::npos);
  options.unit = Unit::words;
  EXPECT_EQ(to_terminal(make_report(example.run(), options), {}).find('\x1b'), std::string::npos);
}

TEST(Terminal, ExplanationShowsEveryStep) {
  const Chinese example;
  const std::string text = to_terminal(explain(example.run(), {.query = "它", .key = "苹果"}), {});
  for (const char* part :
       {"Why 它 read 苹果 with 81.2%", "1. query_dot_keys", "q·k = ", "2. softmax", "the rest",
        "3. weighted_sum_values", "recomputed 0.8120000, by the engine 0.81"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Json, LooksAsDocumented) {
  const Chinese example;
  ReportOptions options;
  options.every_head = true;
  options.layer = 0;
  options.head = 4;
  options.top = 2;
  const json report = json::parse(to_json(make_report(example.run(), options)));
  EXPECT_EQ(report["schema"], 1);
  EXPECT_EQ(report["language"], "zh");
  EXPECT_EQ(report["words"][2], "苹果");
  EXPECT_EQ(report["specials"][1]["kind"], "end");
  EXPECT_EQ(report["specials"][1]["index"], 11);
  const json& it = report["asked"][0];
  EXPECT_EQ(it["word"], "它");
  EXPECT_EQ(it["index"], 9);
  EXPECT_EQ(it["layer"], 1);
  EXPECT_EQ(it["head"], 2);
  EXPECT_EQ(it["role"], "coreference");
  EXPECT_EQ(it["read"].size(), 2U);
  EXPECT_EQ(it["read"][0]["word"], "苹果");
  EXPECT_EQ(it["read"][0]["index"], 2);
  EXPECT_NEAR(it["read"][0]["weight"].get<double>(), 0.812, 1e-5);
  EXPECT_EQ(report["heads"].size(), 16U);
  EXPECT_EQ(report["matrix"]["weights"].size(), 12U);
}

TEST(Json, ExplanationAndClaims) {
  const Chinese example;
  const json it = json::parse(to_json(explain(example.run(), {.query = "它", .key = "苹果"})));
  EXPECT_EQ(it["query"]["word"], "它");
  EXPECT_EQ(it["rivals"].size(), 12U);
  EXPECT_NEAR(it["weight"].get<double>(), it["engine"].get<double>(), 1e-6);
  Claim claim = {
      .id = "x", .statement = "X.", .holds = true, .columns = {"a", "b"}, .rows = {{1, 2.5}}};
  const json claims = json::parse(to_json(std::vector<Claim>{claim}));
  EXPECT_EQ(claims["claims"][0]["numbers"][0]["b"], 2.5);
}

TEST(Json, TranslationsFollowOneAnother) {
  const std::string source = "cat";
  const std::string target = "猫";
  const std::vector<models::Piece> source_pieces = pieces_of(source, {"▁cat"}, "");
  const std::vector<models::Piece> target_pieces = pieces_of(target, {"猫"}, "");
  const Alignment one = align_words(source, source_pieces, target, target_pieces,
                                    std::vector<float>{0.75F, 0.25F, 0.1F, 0.9F});
  const json two = json::parse(to_json(TranslationReport{"猫猫", "en", "zh", {one, one}}));
  EXPECT_EQ(two["source"], json({"cat", "cat"}));
  EXPECT_EQ(two["alignment"], json::parse("[[0.75, 0.0], [0.0, 0.75]]"));
}

TEST(ClaimsSlow, ComeOutAsMathematicsSays) {
  for (const Claim& claim : check_claims()) {
    EXPECT_EQ(claim.holds, claim.expected) << claim.id << "\n" << to_terminal(claim, {});
    EXPECT_FALSE(claim.rows.empty());
    for (const std::vector<double>& row : claim.rows) EXPECT_EQ(row.size(), claim.columns.size());
    expect_within(to_terminal(claim, {}), 80);
  }
}

}  // namespace
}  // namespace qkv::lens
