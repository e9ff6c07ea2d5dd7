// Sentences to vectors, near where meanings are near: a BERT, its token states pooled to one vector, as the files of a
// sentence-transformers folder say (Reimers & Gurevych 2019).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace qkv::models {

// Some models want a prompt before a text, another one for questions than for what is searched
// (config_sentence_transformers.json: prompts). plain takes the one called default_prompt_name.
enum class TextRole : std::uint8_t { plain, query, document };

// The last layer's states of one text's pieces, before pooling.
struct TokenStates {
  std::vector<Piece> pieces;  // marks and a prompt are special
  std::vector<float> states;  // [pieces, dim]
};

class SentenceEncoder {
 public:
  // A folder with a BertModel (config.json, model.safetensors, tokenizer.json or vocab.txt, tokenizer_config.json) and, all
  // optional, modules.json and what it names (pooling, normalisation), sentence_bert_config.json (longest text) and
  // config_sentence_transformers.json. Without modules.json: the mean of the tokens, not normalised. Throws std::runtime_error
  // naming the file, the field and what is wrong or not supported.
  static SentenceEncoder load(const std::filesystem::path& folder);

  SentenceEncoder(SentenceEncoder&&) noexcept;
  SentenceEncoder& operator=(SentenceEncoder&&) noexcept;
  ~SentenceEncoder();

  int dim() const;
  // What a text may have, [CLS] and [SEP] included; the rest of a longer one is not read.
  int max_pieces() const;
  // Every file that the vectors depend on.
  const std::vector<std::filesystem::path>& files() const;

  // out [texts, dim]. A text's vector has the same bits in any company, on any number of threads (0: as qkv/threads.h says).
  // Throws std::invalid_argument that names the text, from 1, if it is not UTF-8. May be called from many threads at once.
  void embed(std::span<const std::string_view> texts, TextRole role, float* out,
             int threads = 0) const;
  std::vector<float> embed(std::string_view text, TextRole role, int threads = 0) const;

  TokenStates tokens(std::string_view text, TextRole role, int threads = 0) const;

 private:
  struct Impl;
  explicit SentenceEncoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
