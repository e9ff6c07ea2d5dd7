// Unigram, the tokenizer of XLM-RoBERTa and of multilingual sentence encoders (Kudo 2018): the pieces of a word whose log
// probabilities add up to the most. tokenizer.json carries what SentencePiece was trained to, and SentencePiece reads it here.
// The ids are those of transformers' tokenizer but for words that can be cut in two equally probable ways, a ▁ (how a space is
// written) that the text itself has, and white space beside a special token that is spelled out.
#pragma once

#include <filesystem>
#include <memory>

#include "models/text_tokenizer.h"

namespace qkv::models {

class JsonFile;

class Unigram final : public TextTokenizer {
 public:
  // Of a folder's tokenizer.json, and its tokenizer_config.json (optional). Throws std::runtime_error naming the file, the
  // field and what is wrong or not supported.
  static Unigram load(const JsonFile& tokenizer, const std::filesystem::path& folder);

  Unigram(Unigram&&) noexcept;
  Unigram& operator=(Unigram&&) noexcept;
  ~Unigram() override;

  std::vector<Piece> encode(std::string_view text, std::size_t most) const override;
  void encode(std::string_view text, std::size_t most, std::vector<int>& ids) const override;

  int size() const override;
  int model_max_length() const override;

 private:
  struct Impl;
  explicit Unigram(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
