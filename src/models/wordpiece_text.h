// Text as BERT's tokenizers see it before they look into their vocabulary: cleaned, Chinese characters apart, without accents,
// in lower case (each if the model wants it), every character with its place in the text it came from.
//
// Devlin et al. 2018 and their tokenization.py gave the rules. What counts as a control character, a mark or punctuation is
// what Unicode 8 said, the version that the tokenizers library carries its tables of; case is today's.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace qkv::models {

struct Character {
  char32_t code = 0;
  std::uint32_t begin = 0, end = 0;  // bytes of the text
};

struct TextRules {
  bool clean = true;    // control characters away, every white space a space
  bool chinese = true;  // spaces around Chinese characters
  bool lower_case = true;
  bool strip_accents = true;
};

// The characters of valid UTF-8 as they are.
std::vector<Character> characters_of(std::string_view text);

std::vector<Character> normalised(std::vector<Character> text, const TextRules& rules);

bool is_white_space(char32_t c);
// A mark that becomes a word of its own.
bool is_bert_punctuation(char32_t c);

}  // namespace qkv::models
