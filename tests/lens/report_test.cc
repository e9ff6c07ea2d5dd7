#include "lens/report.h"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

#include "lens/alignment.h"
#include "lens/explain.h"
#include "tests/lens/synthetic.h"

namespace qkv::lens {
namespace {

using testing::mostly;
using testing::pieces_of;
using testing::record_with;
using testing::Weights;

std::vector<std::string> texts(const std::vector<Word>& words) {
  std::vector<std::string> all;
  for (const Word& word : words) all.push_back(word.text);
  return all;
}

TEST(PieceMap, SpecialsComeLastAndAreLabelled) {
  const std::string text = "The cats sat";
  const std::vector<models::Piece> pieces = pieces_of(text, {"▁The", "▁cat", "s", "▁sat"});
  const PieceMap map(text, pieces);
  EXPECT_EQ(texts(map.words()),
            (std::vector<std::string>{"The", "cats", "sat", "⟨to zh⟩", "⟨end⟩"}));
  EXPECT_EQ(map.sentence_words(), 3);
  EXPECT_EQ(map.words()[3].kind, WordKind::target);
  EXPECT_EQ(map.words()[4].kind, WordKind::end);
  EXPECT_EQ(map.words_of(0)[0].index, 3);
  EXPECT_EQ(map.words_of(5)[0].index, 4);
}

TEST(PieceMap, SumsOverKeysAndAveragesOverQueries) {
  const std::string text = "cats sat";
  const std::vector<models::Piece> pieces = pieces_of(text, {"▁cat", "s", "▁sat"}, "");
  const PieceMap map(text, pieces);
  const std::vector<float> weights = {0.1F, 0.2F, 0.3F, 0.4F,   // cat
                                      0.5F, 0.1F, 0.2F, 0.2F,   // s
                                      0.2F, 0.3F, 0.4F, 0.1F,   // sat
                                      0.0F, 0.0F, 0.0F, 1.0F};  // end
  const std::vector<float> expected = {0.45F, 0.25F, 0.3F,      // (0.3 + 0.6) / 2, …
                                       0.5F,  0.4F,  0.1F, 0.0F, 0.0F, 1.0F};
  const std::vector<float> words = map.to_words(weights);
  ASSERT_EQ(words.size(), expected.size());
  for (std::size_t i = 0; i < words.size(); ++i) EXPECT_NEAR(words[i], expected[i], 1e-6F) << i;
}

TEST(PieceMap, SplitsAPieceByCharacters) {
  const std::string text = "它的书";  // the piece 它的 reaches into the words 它 and 的
  const std::vector<models::Piece> pieces = pieces_of(text, {"它的", "书"}, "");
  const PieceMap map(text, pieces);
  EXPECT_EQ(texts(map.words()), (std::vector<std::string>{"它", "的", "书", "⟨end⟩"}));
  ASSERT_EQ(map.words_of(0).size(), 2U);
  EXPECT_FLOAT_EQ(map.words_of(0)[0].share, 0.5F);
  const std::vector<float> words =
      map.to_words(std::vector<float>{0.6F, 0.3F, 0.1F, 0.2F, 0.5F, 0.3F, 0.1F, 0.1F, 0.8F});
  EXPECT_NEAR(words[0], 0.3F, 1e-6F);  // 它 → 它
  EXPECT_NEAR(words[1], 0.3F, 1e-6F);  // 它 → 的
  EXPECT_NEAR(words[2], 0.3F, 1e-6F);  // 它 → 书
}

TEST(PieceMap, WhiteSpaceAndBytesFindTheirWord) {
  const std::string text = "a 龘 b";
  std::vector<models::Piece> pieces = {{1, "▁a", 0, 1, false},     {1, "▁", 1, 2, false},
                                       {1, "<0xE9>", 2, 5, false}, {1, "<0xBE>", 2, 5, false},
                                       {1, "<0x98>", 2, 5, false}, {1, "▁b", 5, 7, false},
                                       {0, "</s>", 7, 7, true}};
  const PieceMap map(text, pieces);
  EXPECT_EQ(texts(map.words()), (std::vector<std::string>{"a", "龘", "b", "⟨end⟩"}));
  for (int piece = 1; piece <= 4; ++piece) {
    ASSERT_EQ(map.words_of(piece).size(), 1U);
    EXPECT_EQ(map.words_of(piece)[0].index, 1) << piece;
  }
  EXPECT_EQ(map.pieces_of(1).size(), 4U);
}

TEST(PieceMap, RowsOfWordsAddToOne) {
  const std::string text = "那个红色的苹果看起来很好吃，我想吃掉它的";
  const std::vector<models::Piece> pieces = pieces_of(
      text, {"▁", "那个红", "色", "的苹果", "看起来", "很", "好吃", "，我", "想吃", "掉它的"});
  const PieceMap map(text, pieces);
  const auto n = static_cast<std::size_t>(map.pieces());
  std::vector<float> weights(n * n);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 7 + 1);
  for (std::size_t row = 0; row < n; ++row) {
    const float sum =
        std::accumulate(weights.begin() + static_cast<std::ptrdiff_t>(row * n),
                        weights.begin() + static_cast<std::ptrdiff_t>((row + 1) * n), 0.0F);
    for (std::size_t c = 0; c < n; ++c) weights[row * n + c] /= sum;
  }
  const std::vector<float> words = map.to_words(weights);
  const std::size_t columns = map.words().size();
  for (std::size_t row = 0; row < columns; ++row) {
    const float sum =
        std::accumulate(words.begin() + static_cast<std::ptrdiff_t>(row * columns),
                        words.begin() + static_cast<std::ptrdiff_t>((row + 1) * columns), 0.0F);
    EXPECT_NEAR(sum, 1.0F, 1e-5F) << map.words()[row].text;
  }
}

// A sentence of four words and two marks, two layers of two heads. Head (1, 0) was measured to find antecedents, head (0, 1)
// to find syntax.
struct Example {
  std::string text = "cat sat it sat";
  std::vector<models::Piece> pieces = pieces_of(text, {"▁cat", "▁sat", "▁it", "▁sat"});
  layers::AttentionTape tape = {record_with({mostly(6, 5, 0.9F), mostly(6, 2, 0.6F)}, 0),
                                record_with({mostly(6, 1, 0.8F), mostly(6, 3, 0.7F)}, 1)};
  std::vector<models::HeadRole> roles = {{"encoder", 1, 0, "coreference", 0.9, 0.25, true},
                                         {"encoder", 0, 1, "syntax", 0.7, 0.3, false},
                                         {"decoder_cross", 0, 0, "coreference", 1.0, 0.1, true}};
  Run run() const { return {text, "en", pieces, &tape, roles}; }
};

TEST(Report, PronounsAskTheCoreferenceHead) {
  const Example example;
  const Report report = make_report(example.run(), {});
  EXPECT_EQ(report.layers, 2);
  EXPECT_EQ(report.heads, 2);
  ASSERT_EQ(report.asked.size(), 1U);
  const Reading& it = report.asked[0];
  EXPECT_EQ(report.words[static_cast<std::size_t>(it.word)].text, "it");
  EXPECT_EQ(it.layer, 1);
  EXPECT_EQ(it.head, 0);
  EXPECT_EQ(it.role.name, "coreference");
  ASSERT_EQ(it.read.size(), 4U);
  EXPECT_EQ(it.read[0].word, 0);
  EXPECT_NEAR(it.read[0].weight, 0.8F, 1e-5F);
  EXPECT_LT(it.read[1].word, it.read[2].word);  // ties go to the lower index
  ASSERT_EQ(it.specials.size(), 2U);
  float all = it.remainder;
  for (const Read& read : it.read) all += read.weight;
  EXPECT_NEAR(all, 1.0F, 1e-6F);
  EXPECT_NEAR(it.remainder, it.specials[0].weight + it.specials[1].weight, 1e-5F);
  EXPECT_TRUE(report.head_reports.empty());
  EXPECT_FALSE(report.matrix.has_value());
}

TEST(Report, OtherWordsAskSyntaxFirst) {
  const Example example;
  ReportOptions options;
  options.query = "SAT";  // any case; stands twice
  const Report report = make_report(example.run(), options);
  ASSERT_EQ(report.asked.size(), 4U);
  EXPECT_EQ(report.asked[0].word, 1);
  EXPECT_EQ(report.asked[0].role.name, "syntax");
  EXPECT_EQ(report.asked[1].role.name, "coreference");
  EXPECT_EQ(report.asked[2].word, 3);
}

TEST(Report, EveryHeadAndOneMatrix) {
  const Example example;
  ReportOptions options;
  options.every_head = true;
  options.layer = 0;
  options.head = 0;
  options.top = 1;
  const Report report = make_report(example.run(), options);
  ASSERT_EQ(report.asked.size(), 2U);  // the head that was asked for comes after the fitting one
  EXPECT_EQ(report.asked[1].layer, 0);
  EXPECT_TRUE(report.asked[1].role.name.empty());
  EXPECT_EQ(report.asked[1].read.size(), 1U);
  ASSERT_EQ(report.head_reports.size(), 4U);
  EXPECT_NEAR(report.head_reports[0].sink, 0.9F, 1e-5F);
  EXPECT_EQ(report.head_reports[1].roles[0].name, "syntax");
  EXPECT_EQ(report.head_reports[2].asked.size(), 1U);
  const float p = 0.9F;
  const float rest = 0.02F;
  EXPECT_NEAR(report.head_reports[0].entropy, -(p * std::log(p) + 5 * rest * std::log(rest)),
              1e-4F);
  ASSERT_TRUE(report.matrix.has_value());
  EXPECT_EQ(report.matrix->weights.size(), 36U);
  EXPECT_NEAR(report.matrix->weights[5], 0.9F, 1e-5F);  // words: cat sat it sat ⟨to zh⟩ ⟨end⟩
}

TEST(Report, WithoutRolesTheStrongestHeadAnswers) {
  Example example;
  example.roles.clear();
  const Report report = make_report(example.run(), {});
  ASSERT_EQ(report.asked.size(), 1U);
  EXPECT_EQ(report.asked[0].layer, 1);  // cat with 0.8
  EXPECT_EQ(report.asked[0].head, 0);
  EXPECT_TRUE(report.asked[0].role.name.empty());
  example.roles = {{"encoder", 7, 0, "coreference", 0.9, 0.25, true}};  // of another model
  EXPECT_EQ(make_report(example.run(), {}).asked[0].layer, 1);
}

TEST(Report, WithoutPronounThereIsAnOverview) {
  Example example;
  example.text = "cat sat on mat";
  example.pieces = pieces_of(example.text, {"▁cat", "▁sat", "▁on", "▁mat"});
  const Report report = make_report(example.run(), {});
  EXPECT_TRUE(report.asked.empty());
  EXPECT_EQ(report.overview.size(), 4U);
}

TEST(Report, PiecesInsteadOfWords) {
  Example example;
  example.text = "cat itself";
  example.pieces = pieces_of(example.text, {"▁ca", "t", "▁it", "self"});
  ReportOptions options;
  options.unit = Unit::pieces;
  const Report report = make_report(example.run(), options);
  EXPECT_EQ(texts(report.words),
            (std::vector<std::string>{"▁ca", "t", "▁it", "self", "⟨to zh⟩", "⟨end⟩"}));
  ASSERT_EQ(report.asked.size(), 2U);  // both pieces of the pronoun
  EXPECT_EQ(report.asked[0].word, 2);
  EXPECT_EQ(report.asked[1].word, 3);
  options.query = "cat";
  EXPECT_EQ(make_report(example.run(), options).asked[0].word, 0);
}

TEST(Report, WrongQuestionsAreNamed) {
  const Example example;
  ReportOptions options;
  options.query = "dog";
  EXPECT_THROW(
      {
        try {
          make_report(example.run(), options);
        } catch (const std::invalid_argument& error) {
          EXPECT_STREQ(error.what(),
                       "\"dog\" is not a word of the sentence; its words are: cat sat it sat");
          throw;
        }
      },
      std::invalid_argument);
  EXPECT_THROW(make_report(example.run(), {.query = "", .layer = 2, .head = 0}),
               std::invalid_argument);
  EXPECT_THROW(make_report(example.run(), {.query = "", .layer = 0, .head = 2}),
               std::invalid_argument);
}

TEST(Explain, EveryStepFollowsFromTheOneBefore) {
  const Example example;
  const Explanation it = explain(example.run(), {.query = "it", .key = "cat"});
  EXPECT_EQ(it.layer, 1);
  EXPECT_EQ(it.head, 0);
  EXPECT_EQ(it.query_piece, "▁it");
  EXPECT_EQ(it.key_piece, "▁cat");
  EXPECT_EQ(it.q.size(), 6U);
  const Rival& cat = it.rivals[static_cast<std::size_t>(it.key)];
  EXPECT_NEAR(cat.dot, std::log(0.8), 1e-6);
  EXPECT_NEAR(cat.weight, 0.8, 1e-6);
  EXPECT_NEAR(cat.weight, static_cast<double>(cat.engine), 1e-6);
  EXPECT_NEAR(it.word_weight, static_cast<double>(it.word_engine), 1e-6);
  double share = 0;
  double e = 0;
  for (const Rival& rival : it.rivals) {
    share += rival.share;
    e += rival.e;
  }
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_NEAR(e, it.sum, 1e-9);
  EXPECT_LT(it.output_difference, 1e-5);
  EXPECT_NEAR(it.output[1], 1, 1e-9);  // every value has a 1 there
}

TEST(Explain, SpecialsAndChosenHeads) {
  const Example example;
  const Explanation sink =
      explain(example.run(), {.query = "it", .key = "end", .layer = 0, .head = 0});
  EXPECT_EQ(sink.key_piece, "⟨end⟩");
  EXPECT_NEAR(sink.word_weight, 0.9, 1e-5);
  EXPECT_EQ(explain(example.run(), {.query = "", .key = "to"}).key_piece,
            "⟨to zh⟩");  // the first pronoun asks
  EXPECT_THROW(explain(example.run(), {.query = "it", .key = "dog"}), std::invalid_argument);
  EXPECT_THROW(explain(example.run(), {.query = "it", .key = ""}), std::invalid_argument);
}

TEST(Explain, WordsOfSeveralPieces) {
  Example example;
  example.text = "catsat it sat";
  example.pieces = pieces_of(example.text, {"▁cat", "sat", "▁it", "▁sat"});
  const Explanation it = explain(example.run(), {.query = "it", .key = "catsat"});
  EXPECT_EQ(it.key_pieces, 2);
  EXPECT_EQ(it.key_piece, "▁cat");
  EXPECT_NEAR(it.word_weight, 0.84, 1e-5);
  const Report report = make_report(example.run(), {});
  EXPECT_NEAR(report.asked[0].read[0].weight, it.word_engine, 1e-6F);
}

TEST(Alignment, WordsOfBothSides) {
  const std::string source = "the cats";
  const std::string target = "猫";
  const std::vector<models::Piece> source_pieces = pieces_of(source, {"▁the", "▁cat", "s"});
  const std::vector<models::Piece> target_pieces = pieces_of(target, {"▁", "猫"}, "");
  const std::vector<float> weights = {0.1F, 0.1F, 0.4F, 0.2F, 0.2F,   // ▁
                                      0.1F, 0.1F, 0.6F, 0.2F, 0.0F,   // 猫
                                      0.0F, 0.0F, 0.0F, 0.0F, 1.0F};  // end
  const Alignment alignment = align_words(source, source_pieces, target, target_pieces, weights);
  EXPECT_EQ(texts(alignment.source), (std::vector<std::string>{"the", "cats", "⟨to zh⟩", "⟨end⟩"}));
  EXPECT_EQ(texts(alignment.target), (std::vector<std::string>{"猫", "⟨end⟩"}));
  EXPECT_NEAR(alignment.at(0, 1), 0.7F, 1e-6F);
  EXPECT_NEAR(alignment.at(1, 3), 1.0F, 1e-6F);
}

}  // namespace
}  // namespace qkv::lens
