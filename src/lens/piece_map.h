// A model reads pieces of words, a reader wants words: how the two belong together.
//
// weight(word → word) is summed over the pieces of the word that was read and averaged over the pieces of the word that
// asked. A piece that reaches into several words is split by the number of characters it has in each; a piece that stands
// for white space alone belongs to the word behind it. So every row of words adds to 1, as the row of pieces did.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lens/words.h"
#include "models/tokenizer.h"

namespace qkv::lens {

enum class Unit : std::uint8_t { words, pieces };

class PieceMap {
 public:
  struct Part {
    int index;
    float share;
  };

  // The pieces' begin and end are bytes of `text`. `phrases`: see split_words.
  PieceMap(std::string_view text, std::span<const models::Piece> pieces, Unit unit = Unit::words,
           std::span<const std::string_view> phrases = {});

  // The sentence's words (or its pieces, as the vocabulary spells them), then the special ones, labelled: ⟨to zh⟩, ⟨end⟩.
  const std::vector<Word>& words() const { return words_; }
  // How many of them are the sentence's.
  int sentence_words() const { return sentence_words_; }
  int pieces() const { return static_cast<int>(words_of_.size()); }

  // The words of a piece; shares add to 1.
  const std::vector<Part>& words_of(int piece) const {
    return words_of_[static_cast<std::size_t>(piece)];
  }
  // The pieces of a word; shares add to 1. None if the tokenizer dropped the word.
  const std::vector<Part>& pieces_of(int word) const {
    return pieces_of_[static_cast<std::size_t>(word)];
  }

  // row[word] += factor · Σ_piece share(piece → word) · piece_row[piece].
  void add_read(std::span<const float> piece_row, float factor, std::span<float> row) const;

  // [words, words] from [pieces, pieces].
  std::vector<float> to_words(std::span<const float> piece_weights) const;

 private:
  std::vector<Word> words_;
  int sentence_words_ = 0;
  std::vector<std::vector<Part>> words_of_;
  std::vector<std::vector<Part>> pieces_of_;
};

// A piece that stands for no text, labelled: ">>zh<<" → ⟨to zh⟩, "</s>" → ⟨end⟩.
Word special_word(const models::Piece& piece);

// [words of query_map, words of key_map] from [query pieces, key pieces].
std::vector<float> to_words(const PieceMap& query_map, const PieceMap& key_map,
                            std::span<const float> piece_weights);

}  // namespace qkv::lens
