#include "models/wordpiece_text.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace qkv::models {
namespace {

// Whether Unicode 8 had the character.
bool is_old(char32_t c) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] <= 8;
}

// The character's general category in Unicode 8, of those that matter here; a few have changed theirs since.
int category(char32_t c) {
  if (c == 0x166d || c == 0x111c9) return U_OTHER_PUNCTUATION;  // today a symbol and a mark
  if (c == 0x1734) return U_NON_SPACING_MARK;                   // today a spacing mark
  if (c == 0x1885 || c == 0x1886 || c == 0xa9bd) return U_OTHER_LETTER;  // today non-spacing marks
  return is_old(c) ? u_charType(static_cast<UChar32>(c)) : int{U_UNASSIGNED};
}

bool is_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const int type = category(c);
  return type == U_CONTROL_CHAR || type == U_FORMAT_CHAR || type == U_PRIVATE_USE_CHAR;
}

// The blocks that tokenization.py calls Chinese; 2B920 instead of 2B820 is the tokenizers library's.
bool is_chinese(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kBlocks[] = {
      {0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
      {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
  return c >= 0x3400 && std::any_of(std::begin(kBlocks), std::end(kBlocks), [c](const auto& block) {
           return c >= block.first && c <= block.second;
         });
}

void clean(std::vector<Character>& text) {
  std::erase_if(text, [](const Character& each) {
    return each.code == 0 || each.code == 0xfffd || is_control(each.code);
  });
  for (Character& each : text)
    if (is_white_space(each.code)) each.code = ' ';
}

void set_apart_chinese(std::vector<Character>& text) {
  if (std::none_of(text.begin(), text.end(), [](const Character& c) { return is_chinese(c.code); }))
    return;
  std::vector<Character> spaced;
  spaced.reserve(text.size() * 3);
  for (const Character& each : text) {
    const bool apart = is_chinese(each.code);
    if (apart) spaced.push_back({' ', each.begin, each.begin});
    spaced.push_back(each);
    if (apart) spaced.push_back({' ', each.end, each.end});
  }
  text.swap(spaced);
}

// Canonical decomposition (NFD) without non-spacing marks.
void strip_accents(std::vector<Character>& text) {
  if (std::all_of(text.begin(), text.end(), [](const Character& c) { return c.code < 0x80; }))
    return;
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(status);
  if (U_FAILURE(status) != 0) throw std::runtime_error("ICU has no data for normalisation");
  std::vector<Character> all;
  all.reserve(text.size());
  icu::UnicodeString parts;
  for (const Character& each : text) {
    if (each.code >= 0xc0 && is_old(each.code) &&
        nfd->getDecomposition(static_cast<UChar32>(each.code), parts) != 0) {
      for (std::int32_t i = 0; i < parts.length(); i = parts.moveIndex32(i, 1))
        all.push_back({static_cast<char32_t>(parts.char32At(i)), each.begin, each.end});
    } else {
      all.push_back(each);
    }
  }
  // Canonical order: marks on one character stand by their class.
  const auto rank = [&](const Character& c) {
    return c.code < 0x300 ? 0 : nfd->getCombiningClass(static_cast<UChar32>(c.code));
  };
  for (auto first = all.begin(); first != all.end();) {
    if (rank(*first) == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, all.end(), [&](const auto& c) { return rank(c) == 0; });
    std::stable_sort(first, last, [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
    first = last;
  }
  std::erase_if(all, [](const Character& c) { return category(c.code) == U_NON_SPACING_MARK; });
  text.swap(all);
}

void lower_case(std::vector<Character>& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i].code == 0x130) {  // İ, the one character whose lower case is two: i and a dot above
      text[i].code = 'i';
      Character dot = text[i];
      dot.code = 0x307;
      text.insert(text.begin() + static_cast<std::ptrdiff_t>(++i), dot);
    } else {
      text[i].code = static_cast<char32_t>(u_tolower(static_cast<UChar32>(text[i].code)));
    }
  }
}

}  // namespace

bool is_white_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0; }

bool is_bert_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  switch (category(c)) {
    case U_DASH_PUNCTUATION:
    case U_START_PUNCTUATION:
    case U_END_PUNCTUATION:
    case U_CONNECTOR_PUNCTUATION:
    case U_OTHER_PUNCTUATION:
    case U_INITIAL_PUNCTUATION:
    case U_FINAL_PUNCTUATION:
      return true;
    default:
      return false;
  }
}

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> all;
  all.reserve(text.size());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t i = 0; i < length;) {
    const auto begin = static_cast<std::uint32_t>(i);
    UChar32 code;
    U8_NEXT(bytes, i, length, code);
    all.push_back({static_cast<char32_t>(code), begin, static_cast<std::uint32_t>(i)});
  }
  return all;
}

std::vector<Character> normalised(std::vector<Character> text, const TextRules& rules) {
  if (rules.clean) clean(text);
  if (rules.chinese) set_apart_chinese(text);
  if (rules.strip_accents) strip_accents(text);
  if (rules.lower_case) lower_case(text);
  return text;
}

}  // namespace qkv::models
