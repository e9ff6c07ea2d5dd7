// UTF-8 as people see it: characters, cells of a terminal, scripts. Text is std::string in UTF-8 everywhere in this room.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::lens {

// Byte range [begin, end) of a text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool operator==(const Span&) const = default;
};

// The code point that starts at `at`, which is moved behind it; U+FFFD for a byte that is not UTF-8.
char32_t next_code_point(std::string_view text, std::size_t& at);

// Where the first byte lies that is not UTF-8, if there is one.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// Code points in the text.
std::size_t count_code_points(std::string_view text);

bool is_han(char32_t c);
// True if the text holds no letter and no digit: white space, punctuation, symbols.
bool is_punctuation(std::string_view text);
bool is_space(char32_t c);
// Without the white space at its ends.
std::string_view trim(std::string_view text);
// As ICU folds case, for comparing words.
std::string fold_case(std::string_view text);

// The user-perceived characters (grapheme clusters, UAX #29): é as e + accent, a flag, a family of emoji are one each.
std::vector<Span> characters(std::string_view text);

}  // namespace qkv::lens
