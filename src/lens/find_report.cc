#include "lens/find_report.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "lens/screen_text.h"

namespace qkv::lens {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

template <std::size_t n>
bool among(const std::string& word, const std::array<std::string_view, n>& list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// "red car" → "a red car". What is no plain noun phrase in the singular comes back between quotation marks: questions, requests,
// plurals, words with an article, words that take none.
std::string with_article(const std::string& prompt) {
  constexpr std::array<std::string_view, 22> kStarts = {
      "a",  "an",   "all",    "any",    "are",  "can",  "each", "every", "find", "how",   "i",
      "is", "look", "please", "select", "show", "some", "the",  "those", "what", "where", "which"};
  constexpr std::array<std::string_view, 6> kMasses = {"grass", "people", "sky",
                                                       "water", "snow",   "sand"};
  const std::string quoted = "“" + prompt + "”";
  const bool plain = std::all_of(prompt.begin(), prompt.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || c == ' ' || c == '-';
  });
  const std::vector<std::string> words = words_of(prompt);
  if (!plain || words.empty() || words.size() > 3 || among(words.front(), kStarts)) return quoted;
  const std::string& last = words.back();
  const bool plural = last.ends_with('s') && !last.ends_with("ss") && !last.ends_with("us");
  if (plural || among(last, kMasses)) return quoted;
  const bool with_y = prompt.starts_with("uni") || prompt.starts_with("eu");  // as it is said
  const bool vowel = !with_y && std::string_view("aeiou").find(prompt[0]) != std::string_view::npos;
  return (vowel ? "an " : "a ") + prompt;
}

}  // namespace

std::string nothing_found(const FindReport& report) {
  const bool unsure = report.present;  // something is there, and no object stands out
  const std::string share = percent(static_cast<double>(report.presence));
  if (report.language == "zh")
    return unsure ? "图里可能有“" + report.prompt + "”（概率 " + share + "），但认不出是哪一个"
                  : "图里没有“" + report.prompt + "”（有的概率：" + share + "）";
  return unsure ? "something here may be " + with_article(report.prompt) +
                      " (probability: " + share + "), but no object stands out"
                : "nothing here is " + with_article(report.prompt) +
                      " (probability that something is: " + share + ")";
}

}  // namespace qkv::lens
