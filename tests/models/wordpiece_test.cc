// WordPiece and the sentence encoder where no Python is: tiny folders written here, right and wrong. Parity with transformers is in
// tests/python.
#include "models/text_tokenizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "models/sentence_encoder.h"
#include "tests/models/files.h"

namespace qkv::models {
namespace {

using nlohmann::json;
using testing::Folder;
using testing::message_of;

constexpr const char* kVocabulary =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\nun\n##able\n量\n子\n,\ncafe\n";

std::vector<int> ids_of(const Folder& folder, const std::string& text, std::size_t most = 100) {
  std::vector<int> ids;
  load_text_tokenizer(folder.path())->encode(text, most, ids);
  return ids;
}

// A BERT of random weights: width 8, two heads, one layer.
void write_bert(const Folder& folder) {
  folder.write("vocab.txt", kVocabulary);
  folder.write("config.json", json{{"model_type", "bert"},
                                   {"hidden_size", 8},
                                   {"num_hidden_layers", 1},
                                   {"num_attention_heads", 2},
                                   {"intermediate_size", 12},
                                   {"vocab_size", 14},
                                   {"max_position_embeddings", 16}}
                                  .dump());
  testing::RandomCheckpoint tensors(1);
  tensors.add("embeddings.word_embeddings.weight", {14, 8});
  tensors.add("embeddings.position_embeddings.weight", {16, 8});
  tensors.add("embeddings.token_type_embeddings.weight", {2, 8});
  tensors.norm("embeddings.LayerNorm", 8);
  const std::string layer = "encoder.layer.0.";
  for (const char* name : {"attention.self.query", "attention.self.key", "attention.self.value",
                           "attention.output.dense"})
    tensors.affine(layer + name, 8, 8);
  tensors.norm(layer + "attention.output.LayerNorm", 8);
  tensors.affine(layer + "intermediate.dense", 12, 8);
  tensors.affine(layer + "output.dense", 8, 12);
  tensors.norm(layer + "output.LayerNorm", 8);
  tensors.write(folder);
}

TEST(WordPiece, CutsGreedily) {
  const Folder folder;
  folder.write("vocab.txt", kVocabulary);
  EXPECT_EQ(ids_of(folder, "The cats"), (std::vector<int>{2, 5, 6, 7, 3}));
  EXPECT_EQ(ids_of(folder, "unable, UNABLE"), (std::vector<int>{2, 8, 9, 12, 8, 9, 3}));
  EXPECT_EQ(ids_of(folder, "量子café"), (std::vector<int>{2, 10, 11, 13, 3}));
  EXPECT_EQ(ids_of(folder, "catx [MASK]"), (std::vector<int>{2, 1, 4, 3}));
  EXPECT_EQ(ids_of(folder, ""), (std::vector<int>{2, 3}));
  EXPECT_EQ(ids_of(folder, "the the the", 4), (std::vector<int>{2, 5, 5, 3}));
}

TEST(WordPiece, PiecesKnowTheirPlaces) {
  const Folder folder;
  folder.write("vocab.txt", kVocabulary);
  const std::string text = " cats 量子Café";
  std::vector<std::string> read;
  for (const Piece& piece : load_text_tokenizer(folder.path())->encode(text, 100))
    read.push_back(text.substr(piece.begin, piece.end - piece.begin));
  EXPECT_EQ(read, (std::vector<std::string>{"", "cat", "s", "量", "子", "Café", ""}));
}

TEST(WordPiece, RefusesWhatIsNoText) {
  const Folder folder;
  folder.write("vocab.txt", kVocabulary);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { ids_of(folder, "a\xff"); }),
            "tokenizer: the text is not valid UTF-8");
}

TEST(SentenceEncoder, VectorsDoNotDependOnCompanyOrThreads) {
  const Folder folder;
  write_bert(folder);
  const SentenceEncoder encoder = SentenceEncoder::load(folder.path());
  ASSERT_EQ(encoder.dim(), 8);
  EXPECT_EQ(encoder.max_pieces(), 16);
  std::vector<std::string_view> texts;
  for (int i = 0; i < 200; ++i)
    texts.emplace_back(i % 3 == 0 ? "the cats" : i % 3 == 1 ? "量子, unable the cat cafe" : "");
  std::vector<float> all(texts.size() * 8), again(texts.size() * 8);
  encoder.embed(texts, TextRole::plain, all.data(), 2);
  encoder.embed(texts, TextRole::plain, again.data(), 1);
  EXPECT_EQ(all, again);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(encoder.embed(texts[i], TextRole::plain),
              std::vector<float>(all.data() + i * 8, all.data() + i * 8 + 8));
  const TokenStates tokens = encoder.tokens("the cats", TextRole::plain);
  ASSERT_EQ(tokens.states.size(), 5 * 8u);
  for (std::size_t d = 0; d < 8; ++d) {  // the mean of the tokens, as there is no modules.json
    float sum = 0;
    for (std::size_t t = 0; t < 5; ++t) sum += tokens.states[t * 8 + d];
    EXPECT_NEAR(all[d], sum / 5, 1e-6);
  }
}

TEST(SentenceEncoder, NamesTheTextThatIsWrong) {
  const Folder folder;
  write_bert(folder);
  const SentenceEncoder encoder = SentenceEncoder::load(folder.path());
  const std::vector<std::string_view> texts = {"the", "\xff"};
  std::vector<float> out(16);
  EXPECT_EQ(
      message_of<std::invalid_argument>([&] { encoder.embed(texts, TextRole::plain, out.data()); }),
      "text 2: tokenizer: the text is not valid UTF-8");
}

}  // namespace
}  // namespace qkv::models
