// What the terminal renderers share: colours, percentages, labels.
#pragma once

#include <string>
#include <string_view>

#include "lens/report.h"
#include "lens/terminal.h"

namespace qkv::lens {

enum class Ink : std::uint8_t { plain, bold, dim, accent };

// The text in a colour, if the screen has colours.
std::string paint(std::string_view text, Ink ink, const Screen& screen);

// "81.2%", "<0.1%"
std::string percent(double share);
// "0.912", as many decimals as asked for; never "-0.000".
std::string decimal(double value, int decimals);
// "12.3", "-0.0412", "1.2e-08": significant digits, for numbers of any size.
std::string number(double value);

// A word as it may be shown: harmless, spaces visible.
std::string shown(const Word& word);

// "layer 2, head 3 · coreference: right 91%, by chance 23%"
std::string describe(int layer, int head, const Role& role);

// Lines of prose in at most `columns` cells.
std::string paragraph(std::string_view text, int columns, std::string_view indent = "");

}  // namespace qkv::lens
