#include "lens/width.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lens/unicode.h"

namespace qkv::lens {
namespace {

constexpr char32_t kEmojiPresentation = 0xFE0F;
constexpr char32_t kHalfWidthVoiced = 0xFF9E;  // marks that combine, yet have a cell of their own
constexpr char32_t kHalfWidthSemiVoiced = 0xFF9F;

int width_of(char32_t c) {
  const auto code = static_cast<UChar32>(c);
  switch (u_charType(code)) {
    case U_NON_SPACING_MARK:
    case U_ENCLOSING_MARK:
    case U_FORMAT_CHAR:
    case U_CONTROL_CHAR:
      return 0;
    default:
      break;
  }
  const int east_asian = u_getIntPropertyValue(code, UCHAR_EAST_ASIAN_WIDTH);
  return east_asian == U_EA_WIDE || east_asian == U_EA_FULLWIDTH ? 2 : 1;
}

// One user-perceived character is as wide as its widest code point; two regional indicators make a flag.
int width_of_character(std::string_view character) {
  int widest = 0;
  int regional = 0;
  int extra = 0;
  for (std::size_t at = 0; at < character.size();) {
    const char32_t c = next_code_point(character, at);
    widest = std::max(widest, c == kEmojiPresentation && widest > 0 ? 2 : width_of(c));
    regional += u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_REGIONAL_INDICATOR);
    extra += widest > 0 && (c == kHalfWidthVoiced || c == kHalfWidthSemiVoiced);
  }
  return regional >= 2 ? 2 : widest + extra;
}

bool is_bidi_control(char32_t c) {
  return c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    text += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
             static_cast<char>(0x80 | (c & 0x3F))};
  }
}

}  // namespace

int width(std::string_view text) {
  int cells = 0;
  for (const Span at : characters(text)) {
    cells += width_of_character(text.substr(at.begin, at.end - at.begin));
  }
  return cells;
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c < 0x20) {
      append_utf8(result, 0x2400 + c);  // control pictures: ␀ …
    } else if (c == 0x7F) {
      append_utf8(result, 0x2421);
    } else if ((c >= 0x80 && c < 0xA0) || c == 0xFFFD || c == 0x2028 || c == 0x2029) {
      append_utf8(result, 0xFFFD);
    } else if (!is_bidi_control(c)) {
      result += text.substr(begin, at - begin);
    }
  }
  return result;
}

std::string fit(std::string_view text, int cells) {
  std::string result;
  std::size_t with_ellipsis = 0;  // bytes that fit with "…" behind them
  int used = 0;
  for (const Span at : characters(text)) {
    const std::string_view character = text.substr(at.begin, at.end - at.begin);
    const int wide = width_of_character(character);
    if (used + wide > cells) {
      result.resize(with_ellipsis);
      return cells > 0 ? result + "…" : result;
    }
    used += wide;
    result += character;
    if (used < cells) with_ellipsis = result.size();
  }
  return result;
}

std::string pad_right(std::string_view text, int cells) {
  std::string result = fit(text, cells);
  return result + std::string(static_cast<std::size_t>(std::max(0, cells - width(result))), ' ');
}

std::string pad_left(std::string_view text, int cells) {
  const std::string result = fit(text, cells);
  return std::string(static_cast<std::size_t>(std::max(0, cells - width(result))), ' ') + result;
}

std::string bar(double share, int cells) {
  static constexpr std::array<std::string_view, 8> kEighths = {"",  "▏", "▎", "▍",
                                                               "▌", "▋", "▊", "▉"};
  const double clamped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const auto eighths = static_cast<std::size_t>(std::lround(clamped * cells * 8));
  std::string result;
  for (std::size_t i = 0; i < eighths / 8; ++i) result += "█";
  result += kEighths[eighths % 8];
  return result;
}

std::vector<std::string> wrap(const std::vector<std::string>& words, int cells) {
  std::vector<std::string> lines;
  int used = 0;
  for (const std::string& word : words) {
    const std::string shown = fit(word, cells);
    const int wide = width(shown);
    if (lines.empty() || used + 1 + wide > cells) {
      lines.push_back(shown);
      used = wide;
    } else {
      lines.back() += " " + shown;
      used += 1 + wide;
    }
  }
  return lines;
}

}  // namespace qkv::lens
