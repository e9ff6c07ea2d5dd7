// A search as text: a line for each title with its share, the words that matched below it, and the rest.
#include <algorithm>

#include "lens/screen_text.h"
#include "lens/terminal.h"
#include "lens/width.h"

namespace qkv::lens {
namespace {

constexpr int kPercentCells = 6;  // "100.0%"
constexpr int kBarCells = 16;
constexpr std::size_t kWords = 4;  // matches shown below a title

// "physics ~ 物理 0.83", the best first.
std::string matches(const SearchHit& hit) {
  std::vector<WordMatch> words = hit.words;
  std::erase_if(words, [](const WordMatch& word) { return word.similarity < kMatched; });
  std::stable_sort(words.begin(), words.end(), [](const WordMatch& a, const WordMatch& b) {
    return a.similarity > b.similarity;
  });
  std::string text;
  for (std::size_t i = 0; i < std::min(words.size(), kWords); ++i)
    text += (i > 0 ? "   " : "") + printable(words[i].word) + " ~ " + printable(words[i].like) +
            " " + decimal(words[i].similarity, 2);
  return text;
}

std::string line(double share, const std::string& text, Ink ink, const Screen& screen) {
  const int columns = std::max(screen.columns, 40);
  const std::string head = "  " + pad_left(percent(share), kPercentCells) + "  ";
  return head + paint(pad_right(bar(share, kBarCells), kBarCells), Ink::accent, screen) + "  " +
         paint(fit(text, columns - width(head) - kBarCells - 2), ink, screen) + "\n";
}

}  // namespace

std::string to_terminal(const SearchReport& report, const Screen& screen) {
  std::string text =
      paint(fit(std::to_string(report.rows) + (report.rows == 1 ? " title" : " titles") + " of " +
                    printable(report.file) + ", column " + printable(report.column) +
                    ", temperature " + number(report.temperature),
                std::max(screen.columns, 40)),
            Ink::dim, screen) +
      "\n\n";
  const std::string indent(static_cast<std::size_t>(kPercentCells + kBarCells + 6), ' ');
  for (const SearchHit& hit : report.hits) {
    text += line(hit.weight, printable(hit.title), Ink::bold, screen);
    if (const std::string words = matches(hit); !words.empty())
      text += paint(indent + fit(words, std::max(screen.columns, 40) - width(indent)), Ink::dim,
                    screen) +
              "\n";
  }
  const std::int64_t rest = report.rows - static_cast<std::int64_t>(report.hits.size());
  if (rest > 0)
    text += line(report.remainder,
                 "the rest: " + std::to_string(rest) + (rest == 1 ? " title" : " titles"), Ink::dim,
                 screen);
  return text;
}

}  // namespace qkv::lens
