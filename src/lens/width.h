// Text laid out in cells of a terminal: Chinese characters and emoji take two, combining marks none.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qkv::lens {

// Cells that the text takes: per user-perceived character two if it is wide or full-width (UAX #11) or shown as an emoji,
// none for marks that combine and for format characters, one otherwise (ambiguous ones too).
int width(std::string_view text);

// The text with characters that would move the cursor, change colours or reverse the direction made visible (a line feed
// becomes ␊) and bytes that are not UTF-8 as U+FFFD, so that no text can harm a terminal.
std::string printable(std::string_view text);

// The text in at most `cells` cells; what does not fit ends in "…". Cuts between user-perceived characters.
std::string fit(std::string_view text, int cells);

// fit, then spaces up to `cells`.
std::string pad_right(std::string_view text, int cells);
std::string pad_left(std::string_view text, int cells);

// A bar of share·cells cells in eighths of a cell, without padding.
std::string bar(double share, int cells);

// Words put side by side with one space between them, in lines of at most `cells` cells. A word longer than a line is cut.
std::vector<std::string> wrap(const std::vector<std::string>& words, int cells);

}  // namespace qkv::lens
