#include "lens/words.h"

#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>

namespace qkv::lens {
namespace {

using std::string_view;

constexpr std::array<string_view, 17> kEnglishPronouns = {
    "he",  "him",    "his",  "himself", "she",   "her",    "hers",       "herself", "it",
    "its", "itself", "they", "them",    "their", "theirs", "themselves", "themself"};
constexpr std::array<string_view, 13> kChinesePronouns = {
    "他", "她", "它", "牠", "祂", "他们", "她们", "它们", "牠们", "他們", "她們", "它們", "牠們"};
// Characters that are cut out of what ICU takes for one word (它的, 我想); the first five stand for somebody else.
constexpr std::array<string_view, 9> kPronounCharacters = {"他", "她", "它", "牠", "祂",
                                                           "我", "你", "您", "咱"};
constexpr std::array<string_view, 2> kPluralMarks = {"们", "們"};
// Words in which those characters are no pronouns.
constexpr std::array<string_view, 32> kNoPronounIn = {
    "其他", "其它",   "吉他",   "他人", "他乡",     "他鄉",     "他国",     "他國",
    "他日", "他处",   "他處",   "他方", "他杀",     "他殺",     "他律",     "利他",
    "排他", "维他命", "維他命", "自我", "忘我",     "敌我",     "敵我",     "我国",
    "我國", "本我",   "超我",   "小我", "我行我素", "尔虞我诈", "爾虞我詐", "唯我独尊"};
constexpr std::array<string_view, 12> kClitics = {"'s", "'re", "'ll", "'d", "'ve", "'m",
                                                  "’s", "’re", "’ll", "’d", "’ve", "’m"};

template <std::size_t N>
bool holds(const std::array<string_view, N>& list, string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// Where ICU's rules of `kind` break the text; 0 and the text's size included.
std::set<std::size_t> icu_borders(string_view text, UBreakIteratorType kind, const char* locale) {
  UErrorCode error = U_ZERO_ERROR;
  UText source = UTEXT_INITIALIZER;
  utext_openUTF8(&source, text.data(), static_cast<std::int64_t>(text.size()), &error);
  const std::unique_ptr<UText, decltype(&utext_close)> closer(&source, &utext_close);
  const std::unique_ptr<UBreakIterator, decltype(&ubrk_close)> breaks(
      ubrk_open(kind, locale, nullptr, 0, &error), &ubrk_close);
  if (U_SUCCESS(error)) ubrk_setUText(breaks.get(), &source, &error);
  if (U_FAILURE(error))
    throw std::runtime_error(std::string("ICU: text break: ") + u_errorName(error));
  std::set<std::size_t> borders = {0, text.size()};
  for (std::int32_t at = ubrk_first(breaks.get()); at != UBRK_DONE; at = ubrk_next(breaks.get())) {
    borders.insert(static_cast<std::size_t>(at));
  }
  return borders;
}

// The character that ends at `end`.
char32_t code_point_before(string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return next_code_point(text, at);
}

bool all_han(string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (!is_han(next_code_point(text, at))) return false;
  }
  return !text.empty();
}

// Between two Han characters any cut can be right; elsewhere only ICU's.
bool within_han(string_view text, std::size_t at) {
  if (at == 0 || at >= text.size()) return false;
  std::size_t next = at;
  return is_han(next_code_point(text, next)) && is_han(code_point_before(text, at));
}

void erase_between(std::set<std::size_t>& borders, Span span) {
  borders.erase(borders.upper_bound(span.begin), borders.lower_bound(span.end));
}

bool border_between(const std::set<std::size_t>& borders, Span span) {
  return borders.upper_bound(span.begin) != borders.lower_bound(span.end);
}

void cut_clitics(string_view text, std::set<std::size_t>& borders) {
  const std::vector<std::size_t> old(borders.begin(), borders.end());
  for (std::size_t i = 0; i + 1 < old.size(); ++i) {
    const string_view word = text.substr(old[i], old[i + 1] - old[i]);
    if (word.find('\'') == string_view::npos && word.find("’") == string_view::npos) continue;
    const std::string folded = fold_case(word);
    for (const string_view clitic : kClitics) {
      // All clitics are ASCII letters, so folding left their length.
      if (word.size() > clitic.size() && folded.ends_with(clitic))
        borders.insert(old[i + 1] - clitic.size());
    }
  }
}

bool inside_a_word_without_pronoun(string_view text, std::size_t at) {
  for (const string_view word : kNoPronounIn) {
    const std::size_t from = at < word.size() ? 0 : at - word.size() + 1;
    const std::size_t found = text.substr(0, at + word.size()).find(word, from);
    if (found != string_view::npos && found <= at) return true;
  }
  return false;
}

// Cuts the pronouns out; returns the borders that made them.
std::set<std::size_t> cut_chinese_pronouns(string_view text, std::set<std::size_t>& borders) {
  std::set<std::size_t> fixed;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    next_code_point(text, at);
    if (!holds(kPronounCharacters, text.substr(begin, at - begin))) continue;
    std::size_t end = at;
    for (const string_view plural : kPluralMarks) {
      if (text.substr(at).starts_with(plural)) end = at + plural.size();
    }
    if (inside_a_word_without_pronoun(text, begin)) continue;
    erase_between(borders, {begin, end});
    borders.insert({begin, end});
    fixed.insert({begin, end});
    at = end;
  }
  return fixed;
}

void move_borders_to_pieces(string_view text, std::span<const Span> pieces,
                            const std::set<std::size_t>& fixed, std::set<std::size_t>& borders) {
  for (const Span piece : pieces) {
    if (piece.begin >= piece.end || piece.end > text.size()) continue;
    if (!border_between(borders, piece) || border_between(fixed, piece)) continue;
    if (!all_han(text.substr(piece.begin, piece.end - piece.begin))) continue;
    erase_between(borders, piece);
    borders.insert({piece.begin, piece.end});
  }
}

string_view between(string_view text, Span span) {
  return text.substr(span.begin, span.end - span.begin);
}

// Where `phrase` stands in the text, any case of ASCII letters. Places may not overlap.
std::vector<Span> find_all(string_view text, string_view phrase) {
  const auto same = [](char a, char b) {
    const auto lower = [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    };
    return lower(a) == lower(b);
  };
  std::vector<Span> places;
  if (phrase.empty()) return places;
  for (auto at = text.begin();;) {
    at = std::search(at, text.end(), phrase.begin(), phrase.end(), same);
    if (at == text.end()) return places;
    const auto begin = static_cast<std::size_t>(at - text.begin());
    places.push_back({begin, begin + phrase.size()});
    at += static_cast<std::ptrdiff_t>(phrase.size());
  }
}

// Makes the phrase a word wherever it may be one, unless it already is one somewhere.
void join_phrase(string_view text, string_view phrase, std::set<std::size_t>& borders) {
  const std::vector<Span> places = find_all(text, phrase);
  for (const Span place : places) {
    if (borders.contains(place.begin) && borders.contains(place.end) &&
        !border_between(borders, place))
      return;
  }
  for (const Span place : places) {
    const auto may_cut = [&](std::size_t at) {
      return borders.contains(at) || within_han(text, at);
    };
    if (!may_cut(place.begin) || !may_cut(place.end)) continue;
    erase_between(borders, place);
    borders.insert({place.begin, place.end});
  }
}

// Whether what follows `border` belongs to the sentence before it: a small letter ("Hi!" he said), or Chinese behind a
// closing quotation mark (“真的吗？”他说).
bool goes_on(string_view text, std::size_t border) {
  const string_view before = trim(text.substr(0, border));
  std::size_t at = border;
  const char32_t next = next_code_point(text, at);
  const char32_t last = before.empty() ? 0 : code_point_before(before, before.size());
  return u_islower(static_cast<UChar32>(next)) ||
         ((last == U'”' || last == U'」' || last == U'』') && is_han(next));
}

// Where the opening quotation mark begins that ends at `border`, or `border`.
std::size_t before_opening_quote(string_view text, std::size_t border) {
  const string_view before = text.substr(0, border);
  for (const string_view quote : {"“", "‘", "「", "『", "《"}) {
    if (before.ends_with(quote)) return border - quote.size();
  }
  return border;
}

}  // namespace

std::string_view kind_name(WordKind kind) {
  switch (kind) {
    case WordKind::word:
      return "word";
    case WordKind::punctuation:
      return "punctuation";
    case WordKind::target:
      return "target";
    case WordKind::end:
      break;
  }
  return "end";
}

bool is_pronoun(string_view word) {
  return holds(kChinesePronouns, word) || holds(kEnglishPronouns, fold_case(word));
}

std::vector<Word> split_words(string_view text, std::span<const Span> pieces,
                              std::span<const string_view> phrases) {
  std::set<std::size_t> borders = icu_borders(text, UBRK_WORD, "");
  cut_clitics(text, borders);
  const std::set<std::size_t> fixed = cut_chinese_pronouns(text, borders);
  move_borders_to_pieces(text, pieces, fixed, borders);
  for (const string_view phrase : phrases) join_phrase(text, trim(phrase), borders);
  std::vector<Word> words;
  for (auto begin = borders.begin(); begin != borders.end() && std::next(begin) != borders.end();
       ++begin) {
    const Span at = {*begin, *std::next(begin)};
    const string_view word = between(text, at);
    if (trim(word).empty()) continue;
    words.push_back({.text = std::string(word),
                     .at = at,
                     .kind = is_punctuation(word) ? WordKind::punctuation : WordKind::word,
                     .pronoun = is_pronoun(word)});
  }
  return words;
}

std::vector<Span> split_sentences(string_view text) {
  // ss=standard knows abbreviations such as "Mr.".
  std::set<std::size_t> borders = icu_borders(text, UBRK_SENTENCE, "en@ss=standard");
  const std::vector<std::size_t> all(borders.begin(), borders.end());
  for (std::size_t i = 1; i + 1 < all.size(); ++i) {
    if (goes_on(text, all[i])) borders.erase(all[i]);
  }
  std::vector<Span> sentences;
  std::size_t begin = 0;
  for (const std::size_t border : borders) {
    // ICU counts an opening quotation mark to the sentence before it.
    const std::size_t end = border < text.size() ? before_opening_quote(text, border) : border;
    if (end <= begin) continue;
    const string_view sentence = trim(between(text, {begin, end}));
    const auto at = static_cast<std::size_t>(sentence.data() - text.data());
    if (!sentence.empty()) sentences.push_back({at, at + sentence.size()});
    begin = end;
  }
  return sentences;
}

}  // namespace qkv::lens
