#include "lens/unicode.h"

#include <unicode/ubrk.h>
#include <unicode/ucasemap.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <memory>
#include <stdexcept>

namespace qkv::lens {
namespace {

void check(UErrorCode error, const char* what) {
  if (U_FAILURE(error))
    throw std::runtime_error(std::string("ICU: ") + what + ": " + u_errorName(error));
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  auto position = static_cast<std::int64_t>(at);
  const auto length = static_cast<std::int64_t>(text.size());
  UChar32 c = 0;
  U8_NEXT(bytes, position, length, c);
  at = static_cast<std::size_t>(position);
  return c < 0 ? U'\uFFFD' : static_cast<char32_t>(c);
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int64_t>(text.size());
  for (std::int64_t at = 0; at < length;) {
    const std::int64_t start = at;
    UChar32 c = 0;
    U8_NEXT(bytes, at, length, c);
    if (c < 0) return static_cast<std::size_t>(start);
  }
  return std::nullopt;
}

std::size_t count_code_points(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) next_code_point(text, at);
  return count;
}

bool is_han(char32_t c) {
  UErrorCode error = U_ZERO_ERROR;
  return uscript_getScript(static_cast<UChar32>(c), &error) == USCRIPT_HAN;
}

bool is_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }

bool is_punctuation(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (u_isalnum(static_cast<UChar32>(next_code_point(text, at)))) return false;
  }
  return true;
}

std::string_view trim(std::string_view text) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t next = begin;
    if (!is_space(next_code_point(text, next))) break;
    begin = next;
  }
  std::size_t end = begin;  // behind the last character that is no space
  for (std::size_t at = begin; at < text.size();) {
    if (!is_space(next_code_point(text, at))) end = at;
  }
  return text.substr(begin, end - begin);
}

std::string fold_case(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const std::unique_ptr<UCaseMap, decltype(&ucasemap_close)> map(ucasemap_open("", 0, &error),
                                                                 &ucasemap_close);
  check(error, "case map");
  std::string folded(text.size() * 3 + 1,
                     '\0');  // no character folds to more than three times its bytes
  const std::int32_t length =
      ucasemap_utf8FoldCase(map.get(), folded.data(), static_cast<std::int32_t>(folded.size()),
                            text.data(), static_cast<std::int32_t>(text.size()), &error);
  check(error, "case folding");
  folded.resize(static_cast<std::size_t>(length));
  return folded;
}

std::vector<Span> characters(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  UText source = UTEXT_INITIALIZER;
  utext_openUTF8(&source, text.data(), static_cast<std::int64_t>(text.size()), &error);
  const std::unique_ptr<UText, decltype(&utext_close)> closer(&source, &utext_close);
  const std::unique_ptr<UBreakIterator, decltype(&ubrk_close)> breaks(
      ubrk_open(UBRK_CHARACTER, "", nullptr, 0, &error), &ubrk_close);
  check(error, "character break");
  ubrk_setUText(breaks.get(), &source, &error);
  check(error, "character break");
  std::vector<Span> spans;
  std::int32_t begin = ubrk_first(breaks.get());
  for (std::int32_t end = ubrk_next(breaks.get()); end != UBRK_DONE;
       end = ubrk_next(breaks.get())) {
    spans.push_back({static_cast<std::size_t>(begin), static_cast<std::size_t>(end)});
    begin = end;
  }
  return spans;
}

}  // namespace qkv::lens
