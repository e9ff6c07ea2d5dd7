// WordPiece, the tokenizer of BERT: words cut greedily into the longest pieces that the vocabulary has, ids equal to those of
// transformers' BertTokenizer.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/text_tokenizer.h"

namespace qkv::models {

class JsonFile;

class WordPiece final : public TextTokenizer {
 public:
  // Of a folder's tokenizer.json, or of its vocab.txt (one piece a line), and in both cases its tokenizer_config.json
  // (optional). Throws std::runtime_error naming the file, the field and what is wrong with it.
  static WordPiece load(const JsonFile& tokenizer, const std::filesystem::path& folder);
  static WordPiece load_vocabulary(const std::filesystem::path& folder);

  WordPiece(WordPiece&&) noexcept;
  WordPiece& operator=(WordPiece&&) noexcept;
  ~WordPiece() override;

  // A special token that is spelled out in the text, such as [MASK], is that token.
  std::vector<Piece> encode(std::string_view text, std::size_t most) const override;
  void encode(std::string_view text, std::size_t most, std::vector<int>& ids) const override;

  int size() const override;
  int model_max_length() const override;

 private:
  struct Impl;
  explicit WordPiece(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
