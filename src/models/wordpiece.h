// WordPiece, the tokenizer of BERT: words cut greedily into the longest pieces that the vocabulary has, ids equal to those of
// transformers' BertTokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace qkv::models {

class WordPiece {
 public:
  // Reads tokenizer.json, or else vocab.txt (one piece a line), and tokenizer_config.json (optional), from the folder.
  // Throws std::runtime_error naming the file, the field and what is wrong with it, also for a kind of tokenizer that this is
  // not.
  static WordPiece load(const std::filesystem::path& folder);

  WordPiece(WordPiece&&) noexcept;
  WordPiece& operator=(WordPiece&&) noexcept;
  ~WordPiece();

  // [CLS], the pieces of the text, [SEP]; of a text with more than `most` of them, marks included, the first (`most` ≥ 2).
  // A special token that is spelled out in the text, such as [MASK], is that token.
  // Throws std::invalid_argument if the text is not UTF-8.
  std::vector<Piece> encode(std::string_view text, std::size_t most) const;
  // The ids alone, appended to `ids`.
  void encode(std::string_view text, std::size_t most, std::vector<int>& ids) const;

  // The largest id, plus 1.
  int size() const;
  int unknown_id() const;
  // tokenizer_config.json's model_max_length; 0 if it says none.
  int model_max_length() const;

 private:
  struct Impl;
  explicit WordPiece(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
