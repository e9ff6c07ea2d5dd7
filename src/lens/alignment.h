// Which words of a text each word of its translation read: the weights of the decoder's alignment head, words by words.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lens/piece_map.h"

namespace qkv::lens {

struct Alignment {
  std::vector<Word> source;  // the sentence's words, then the special ones
  int source_words = 0;      // how many are the sentence's
  std::vector<Word> target;
  int target_words = 0;
  std::vector<float> weights;  // [target, source], special ones included; every row adds to 1

  float at(int target_word, int source_word) const {
    return weights[static_cast<std::size_t>(target_word) * source.size() +
                   static_cast<std::size_t>(source_word)];
  }
};

// From the weights [target pieces, source pieces] that the model gave; see piece_map.h.
Alignment align_words(std::string_view source_text, std::span<const models::Piece> source_pieces,
                      std::string_view target_text, std::span<const models::Piece> target_pieces,
                      std::span<const float> piece_weights);

}  // namespace qkv::lens
