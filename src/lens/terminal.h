// Reports as text for a terminal: aligned for wide characters, in at most Screen::columns cells a line, long sentences capped
// (and what was left out said), harmless whatever the text holds.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lens/alignment.h"
#include "lens/claims.h"
#include "lens/explain.h"
#include "lens/find_report.h"
#include "lens/report.h"
#include "lens/search_report.h"

namespace qkv::lens {

struct Screen {
  int columns = 80;     // at least 40 are used
  bool colour = false;  // ANSI colours
};

std::string to_terminal(const Report& report, const Screen& screen);
std::string to_terminal(const Explanation& explanation, const Screen& screen);
// A line for each word of the translation, with the words it read.
std::string to_terminal(const Alignment& alignment, const Screen& screen);
std::string to_terminal(const Claim& claim, const Screen& screen);
// A line for each title, with the words that matched.
std::string to_terminal(const SearchReport& report, const Screen& screen);
// Of one picture, for each prompt: a line for each object, or that there is none.
std::string to_terminal(std::span<const FindReport> reports, const Screen& screen);

}  // namespace qkv::lens
