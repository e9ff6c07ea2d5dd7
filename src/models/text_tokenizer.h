// What cuts a text into pieces of an encoder's vocabulary, with the ids of transformers' tokenizer of the same files.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace qkv::models {

class TextTokenizer {
 public:
  virtual ~TextTokenizer() = default;

  // The mark that begins a text ([CLS], <s>), its pieces, the mark that ends it ([SEP], </s>); of a text with more than `most`
  // of them, marks included, the first (`most` ≥ 2). Throws std::invalid_argument if the text is not UTF-8.
  virtual std::vector<Piece> encode(std::string_view text, std::size_t most) const = 0;
  // The ids alone, appended to `ids`.
  virtual void encode(std::string_view text, std::size_t most, std::vector<int>& ids) const = 0;

  // The largest id, plus 1.
  virtual int size() const = 0;
  // tokenizer_config.json's model_max_length; 0 if it says none.
  virtual int model_max_length() const = 0;
};

// WordPiece or Unigram, as tokenizer.json says; WordPiece where there is only vocab.txt. Throws std::runtime_error naming the
// file, the field and what is wrong with it, also for a kind of tokenizer that is neither.
std::unique_ptr<const TextTokenizer> load_text_tokenizer(const std::filesystem::path& folder);

}  // namespace qkv::models
