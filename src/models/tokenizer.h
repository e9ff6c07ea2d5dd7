// SentencePiece the way Marian checkpoints use it: source.spm cuts text into pieces, vocab.json numbers them,
// target.spm joins pieces to text. The numbering is transformers' MarianTokenizer's.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::models {

// One piece of a text. [begin, end) are bytes of the text as it was given (or as it was produced), whatever the
// tokenizer's normalisation did to them; a piece made of bytes inside one character has the whole character.
struct Piece {
  int id = 0;
  std::string text;  // as the vocabulary spells it, e.g. "▁cat" or "<0xE7>"
  std::size_t begin = 0;
  std::size_t end = 0;
  bool special = false;  // language token or end of sentence: stands for no text; begin == end
};

class Tokenizer {
 public:
  // Reads source.spm, target.spm, vocab.json, tokenizer_config.json (optional) from the folder.
  // Throws std::runtime_error naming the file and what is wrong with it.
  static Tokenizer load(const std::filesystem::path& folder);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Language token (">>zh<<"; empty for none), the pieces of the text, end of sentence.
  // Throws std::invalid_argument if the text is not UTF-8 or the vocabulary lacks the language token.
  std::vector<Piece> encode(std::string_view text, std::string_view language_token) const;

  // Joins produced ids to a text; special ids are left out of it. `pieces`, if given, receives one piece for each id,
  // with its place in the returned text.
  std::string decode(std::span<const int> ids, std::vector<Piece>* pieces = nullptr) const;

  // How the vocabulary spells an id; "<unk>" for an id that it lacks.
  const std::string& spelling(int id) const;
  // The id of a piece, or −1.
  int id_of(std::string_view piece) const;
  // All ">>xx<<" tokens of the vocabulary.
  const std::vector<std::string>& language_tokens() const;
  int unknown_id() const;
  int end_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
