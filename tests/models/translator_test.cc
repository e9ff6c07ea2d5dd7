// Tokenizer and translator over a tiny random Marian: places of pieces, batches, alignment, errors.
#include "models/translator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "models/config.h"
#include "models/initial.h"
#include "qkv/attention.h"
#include "tests/models/files.h"

namespace qkv::models::testing {
namespace {

class TinyMarian : public ::testing::Test {
 protected:
  TinyMarian() { write_marian(folder_); }
  Translator load() const { return Translator::load(folder_.path()); }
  std::string load_error() const {
    return message_of<std::runtime_error>([this] { load(); });
  }
  // The message after `file` is changed so.
  std::string error_with(const std::string& file, const std::string& bytes) const {
    const std::string before = folder_.read(file);
    folder_.write(file, bytes);
    const std::string error = load_error();
    folder_.write(file, before);
    return error;
  }
  std::string replaced(const std::string& file, const std::string& from,
                       const std::string& to) const {
    std::string bytes = folder_.read(file);
    const auto at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return bytes.replace(at, from.size(), to);
  }
  Folder folder_;
};

std::string place(std::string_view text, const Piece& piece) {
  return std::string(text.substr(piece.begin, piece.end - piece.begin));
}

TEST_F(TinyMarian, PiecesKnowTheirPlaceInTheText) {
  const Tokenizer tokenizer = Tokenizer::load(folder_.path());
  const std::string text = "  the  cats 猫é\t我😀";
  const auto pieces = tokenizer.encode(text, ">>zh<<");
  std::vector<std::string> spellings, places;
  for (const Piece& p : pieces) spellings.push_back(p.text), places.push_back(place(text, p));
  const std::vector<std::string> expected = {">>zh<<", "▁the", "▁cat",   "s",
                                             "▁",      "猫",   "<0xC3>", "<0xA9>"};
  ASSERT_GE(spellings.size(), expected.size());
  EXPECT_EQ(std::vector(spellings.begin(), spellings.begin() + 8), expected);
  EXPECT_EQ(std::vector(places.begin(), places.begin() + 4),
            (std::vector<std::string>{"", "the", "cat", "s"}));
  EXPECT_EQ(places[5], "猫");
  EXPECT_EQ(places[6], "é");  // both bytes stand for the whole character
  EXPECT_EQ(places[7], "é");
  EXPECT_EQ(places[pieces.size() - 2], "😀");
  EXPECT_EQ(places[pieces.size() - 5], "😀");
  EXPECT_TRUE(pieces.front().special);
  EXPECT_TRUE(pieces.back().special);
  EXPECT_EQ(pieces.back().text, "</s>");
}

TEST_F(TinyMarian, DecodingJoinsPieces) {
  const Tokenizer tokenizer = Tokenizer::load(folder_.path());
  std::vector<int> ids;
  for (const char* piece :
       {">>zh<<", "▁the", "▁cat", "s", "<0xC3>", "<0xA9>", "猫", "</s>", "<pad>"})
    ids.push_back(tokenizer.id_of(piece));
  std::vector<Piece> pieces;
  const std::string text = tokenizer.decode(ids, &pieces);
  EXPECT_EQ(text, "the catsé猫");
  ASSERT_EQ(pieces.size(), ids.size());
  EXPECT_EQ(place(text, pieces[1]), "the");
  EXPECT_EQ(place(text, pieces[2]), "cat");
  EXPECT_EQ(place(text, pieces[4]), "é");
  EXPECT_EQ(place(text, pieces[6]), "猫");
  EXPECT_TRUE(pieces[7].special);
  EXPECT_EQ(tokenizer.decode({}), "");
  EXPECT_EQ(tokenizer.spelling(-1), "<unk>");
  EXPECT_EQ(tokenizer.spelling(1 << 30), "<unk>");
}

TEST_F(TinyMarian, BadTextIsNamed) {
  const Translator translator = load();
  const auto error = [&](const std::string& text, const TranslateOptions& options = {}) {
    return message_of<std::invalid_argument>([&] { translator.translate(text, options); });
  };
  EXPECT_NE(error("").find("empty"), std::string::npos);
  EXPECT_NE(error(" \n\t ").find("empty"), std::string::npos);
  EXPECT_NE(error("the \xff cat").find("not valid UTF-8"), std::string::npos);
  EXPECT_NE(error("\xe7\x8c").find("not valid UTF-8"), std::string::npos);
  EXPECT_NE(error(std::string(100000, 's')).find("at most 24"), std::string::npos);
  EXPECT_NE(error("the cat", {.to = "fr"}).find("does not translate to 'fr'; it has "),
            std::string::npos);
  EXPECT_NE(error("the cat", {.beams = -1}).find("beams"), std::string::npos);
  const std::vector<std::string> texts = {"the", "", "\xff"};
  EXPECT_NE(
      message_of<std::invalid_argument>([&] { translator.translate(texts); }).find("text 3: "),
      std::string::npos);
}

TEST_F(TinyMarian, BatchesGiveTheBitsOfSingleSentences) {
  const Translator translator = load();
  const std::vector<std::string> texts = {"the cat sat", "猫坐在。",         "",  "s",
                                          "我",          "the the the cats", "😀", "猫猫猫猫猫猫"};
  for (const int beams : {1, 2, 3})
    for (const int batch : {1, 2, 32})
      for (const int threads : {1, 2}) {
        TranslateOptions options{
            .beams = beams, .alignment = true, .batch = batch, .threads = threads};
        std::size_t last = 0;
        options.progress = [&](std::size_t done, std::size_t all) {
          EXPECT_EQ(all, texts.size());
          EXPECT_GT(done, last);
          last = done;
        };
        const auto together = translator.translate(texts, options);
        EXPECT_EQ(last, texts.size());
        options.progress = nullptr;
        ASSERT_EQ(together.size(), texts.size());
        EXPECT_TRUE(together[2].text.empty());
        for (std::size_t i = 0; i < texts.size(); ++i) {
          if (texts[i].empty()) continue;
          const Translation alone = translator.translate(texts[i], options);
          EXPECT_EQ(together[i].text, alone.text);
          EXPECT_EQ(together[i].score, alone.score);
          EXPECT_EQ(together[i].alignment, alone.alignment);
          EXPECT_EQ(alone.alignment.size(), alone.source.size() * alone.target.size());
          for (std::size_t t = 0; t < alone.target.size(); ++t) {
            double sum = 0;
            for (std::size_t s = 0; s < alone.source.size(); ++s)
              sum += alone.alignment[t * alone.source.size() + s];
            EXPECT_NEAR(sum, 1, 1e-5);
          }
        }
      }
}

TEST_F(TinyMarian, TapeAndReplayShowTheRun) {
  folder_.write(
      "roles.json",
      R"({"schema":1,"heads":[{"block":"decoder_cross","layer":0,"head":1,"role":"alignment","guided":true}]})");
  const Translator translator = load();
  layers::AttentionTape tape;
  const Encoding encoding = translator.encode("the cat", &tape);
  EXPECT_EQ(encoding.source_language, "en");
  EXPECT_EQ(encoding.target_language, "zh");
  EXPECT_EQ(encoding.states.size(), encoding.pieces.size() * 8);
  ASSERT_EQ(tape.size(), 1u);
  EXPECT_EQ(tape[0].where, "encoder.0.self");
  EXPECT_EQ(tape[0].queries, std::ssize(encoding.pieces));

  const Translation translation = translator.translate("the cat", {.beams = 3, .alignment = true});
  tape.clear();
  translator.replay(translation, tape);
  ASSERT_EQ(tape.size(), 3u);
  const layers::AttentionRecord& cross = tape[2];
  EXPECT_EQ(cross.where, "decoder.0.cross");
  ASSERT_EQ(cross.queries, std::ssize(translation.target));
  // the search's alignment is this very matrix, bit for bit
  AttentionOptions options;
  options.scale = cross.scale;
  std::vector<float> p(static_cast<std::size_t>(2 * cross.queries * cross.keys));
  weights({cross.q.data(), {1, 2, cross.queries, cross.dim_k}},
          {cross.k.data(), {1, 2, cross.keys, cross.dim_k}}, options, cross.lse, {0, cross.queries},
          {0, cross.keys}, {p.data(), {1, 2, cross.queries, cross.keys}});
  EXPECT_EQ(std::vector<float>(p.begin() + cross.queries * cross.keys, p.end()),
            translation.alignment);
}

TEST_F(TinyMarian, UntrainedIsTheSameArchitectureFromASeed) {
  const Translator model = load();
  const auto tape_of = [](const Translator& from) {
    layers::AttentionTape tape;
    from.encode("the cats", &tape);
    return tape;
  };
  const layers::AttentionTape trained = tape_of(model), one = tape_of(model.untrained(1)),
                              again = tape_of(model.untrained(1)),
                              two = tape_of(model.untrained(2));
  ASSERT_EQ(one.size(), trained.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].where, trained[i].where);
    EXPECT_EQ(one[i].q.size(), trained[i].q.size());
    EXPECT_EQ(one[i].q, again[i].q);
    EXPECT_EQ(one[i].lse, again[i].lse);
    EXPECT_NE(one[i].q, two[i].q);
    EXPECT_NE(one[i].q, trained[i].q);
  }
  EXPECT_TRUE(model.untrained(1).roles().empty());
  layers::AttentionTape replayed;
  model.untrained(1).replay(model.translate("the cats"), replayed);
  EXPECT_EQ(replayed[0].q, one[0].q);
}

TEST_F(TinyMarian, ATranslationCanBeStopped) {
  const Translator model = load();
  TranslateOptions options;
  int asked = 0;
  options.stop = [&asked] { return ++asked == 3; };
  EXPECT_THROW(model.translate("the cats", options), Stopped);
  EXPECT_EQ(asked, 3);
  options.stop = [] { return false; };
  EXPECT_EQ(model.translate("the cats", options).text, model.translate("the cats").text);
}

TEST(InitialTensor, HasTheDistributionThatTrainingBeginsWith) {
  const auto moments = [](const std::vector<float>& values) {
    double sum = 0, squares = 0, most = 0;
    for (const float value : values) {
      sum += value;
      squares += static_cast<double>(value) * value;
      most = std::max(most, std::abs(static_cast<double>(value)));
    }
    const auto count = static_cast<double>(values.size());
    return std::array{sum / count, squares / count, most};
  };
  const std::int64_t matrix[] = {256, 64};
  const double bound = std::sqrt(6.0 / (256 + 64));
  // Of 16384 numbers; six standard errors of a mean and of a variance are allowed.
  const auto [mean, variance, most] = moments(initial_tensor("a.q_proj.weight", matrix, 1, -1));
  EXPECT_NEAR(mean, 0, 6 * bound / std::sqrt(3.0 * 16384));
  EXPECT_NEAR(variance, bound * bound / 3, 6 * bound * bound / 3 * std::sqrt(0.8 / 16384));
  EXPECT_LE(most, bound);
  EXPECT_GT(most, 0.99 * bound);
  const std::vector<float> words = initial_tensor("model.shared.weight", matrix, 1, 3);
  const auto [words_mean, words_variance, words_most] = moments(words);
  EXPECT_NEAR(words_mean, 0, 6 * 0.125 / 128);
  EXPECT_NEAR(words_variance, 255.0 / 256 / 64, 6 * std::sqrt(2.0 / 16384) / 64);
  EXPECT_GT(words_most, 3 * 0.125);
  for (std::size_t d = 0; d < 64; ++d) EXPECT_EQ(words[3 * 64 + d], 0);
  EXPECT_NE(initial_tensor("b.weight", matrix, 1, -1), initial_tensor("a.weight", matrix, 1, -1));
  const std::int64_t row[] = {5};
  EXPECT_EQ(initial_tensor("a.norm.weight", row, 1, -1), std::vector<float>(5, 1));
  EXPECT_EQ(initial_tensor("a.norm.bias", row, 1, -1), std::vector<float>(5, 0));
}

TEST_F(TinyMarian, DamagedFilesAreNamed) {
  const std::pair<std::string, std::string> cases[] = {
      {error_with("config.json", "{"), "config.json: is not valid JSON"},
      {error_with("config.json", "[]"), "config.json: expected a JSON object"},
      {error_with("config.json", replaced("config.json", "\"d_model\":8", "\"d_model\":\"8\"")),
       "config.json: d_model: expected an integer"},
      {error_with("config.json", replaced("config.json", "\"d_model\":8", "\"d_model\":7")),
       "config.json: encoder_attention_heads: d_model 7 is not a multiple of 2"},
      {error_with("config.json", replaced("config.json", "\"d_model\":8", "\"other\":8")),
       "config.json: d_model: is missing"},
      {error_with("config.json", replaced("config.json", "\"d_model\":8", "\"d_model\":16")),
       "expected shape ["},
      {error_with("config.json", replaced("config.json", "swish", "swosh")),
       "activation_function: unknown activation \"swosh\""},
      {error_with("config.json", replaced("config.json", "\"marian\"", "\"bart\"")),
       "model_type: expected \"marian\", got \"bart\""},
      {error_with("config.json",
                  replaced("config.json", "\"encoder_layers\":1", "\"encoder_layers\":2")),
       "tensor 'model.encoder.layers.1."},
      {error_with("generation_config.json", R"({"num_beams":0})"),
       "num_beams: expected an integer from 1"},
      {error_with("generation_config.json", R"({"do_sample":true})"),
       "do_sample: is not supported"},
      {error_with("generation_config.json", R"({"early_stopping":"soon"})"),
       "early_stopping: expected true, false or \"never\""},
      {error_with("generation_config.json", R"({"bad_words_ids":[[99999]]})"),
       "bad_words_ids: expected"},
      {error_with("vocab.json", "{}"), "vocab.json: <unk>: is missing"},
      {error_with("vocab.json", R"({"a":-1})"), "vocab.json: a: expected an id"},
      {error_with("vocab.json", R"({"a":1,"b":1})"), "vocab.json: b: has the id 1 of 'a'"},
      {error_with("source.spm", ""), "source.spm: is not a SentencePiece model"},
      {error_with("target.spm", "damaged"), "target.spm: is not a SentencePiece model"},
      {error_with("roles.json", R"({"schema":2,"heads":[]})"), "roles.json: schema"},
      {error_with("roles.json",
                  R"({"schema":1,"heads":[{"block":"middle","layer":0,"head":0,"role":"x"}]})"),
       "block must be"},
      {error_with(
           "roles.json",
           R"({"schema":1,"heads":[{"block":"decoder_cross","layer":4,"head":0,"role":"alignment"}]})"),
       "the model has no decoder layer 4"},
  };
  for (const auto& [got, expected] : cases)
    EXPECT_NE(got.find(expected), std::string::npos)
        << "got: " << got << "\nexpected: " << expected;
  EXPECT_NE(message_of<std::runtime_error>([] {
              Translator::load("/nowhere/at/all");
            }).find("is not a folder"),
            std::string::npos);
}

TEST(DetectLanguage, HanIsChinese) {
  EXPECT_EQ(Translator::detect_language("The cat"), "en");
  EXPECT_EQ(Translator::detect_language("I 爱 you"), "zh");
  EXPECT_EQ(Translator::detect_language(""), "en");
  EXPECT_EQ(Translator::detect_language("，。！"), "en");
}

TEST(Roles, TheBestHeadOfARole) {
  const Folder folder;
  EXPECT_TRUE(load_roles(folder.path()).empty());
  folder.write("roles.json", R"({"schema":1,"heads":[
    {"block":"encoder","layer":1,"head":2,"role":"previous","score":0.9,"chance":0.1},
    {"block":"encoder","layer":2,"head":0,"role":"coreference","score":0.95},
    {"block":"encoder","layer":2,"head":5,"role":"coreference","score":0.9,"guided":true}]})");
  const auto roles = load_roles(folder.path());
  ASSERT_NE(find_role(roles, "coreference"), nullptr);
  EXPECT_EQ(find_role(roles, "coreference")->head, 5);
  EXPECT_EQ(find_role(roles, "previous")->where(), "encoder.1.self");
  EXPECT_EQ(find_role(roles, "next"), nullptr);
}

}  // namespace
}  // namespace qkv::models::testing
