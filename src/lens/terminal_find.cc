// Found objects as text: a line each with its score, its box and its share of the picture.
#include <algorithm>
#include <cmath>

#include "lens/screen_text.h"
#include "lens/terminal.h"
#include "lens/width.h"

namespace qkv::lens {
namespace {

std::string whole(float value) { return std::to_string(std::lround(value)); }

std::string line(std::size_t number, const FoundObject& object, const FindReport& report,
                 const Screen& screen) {
  const double share =
      static_cast<double>(object.area) / static_cast<double>(report.width * report.height);
  const std::string box = whole(object.width) + "×" + whole(object.height) + " at " +
                          whole(object.x) + "," + whole(object.y);
  return pad_left(std::to_string(number), 3) + "  " +
         paint("score " + pad_left(percent(static_cast<double>(object.score)), 6), Ink::accent,
               screen) +
         "  box " + pad_right(box, 20) + "  " + percent(share) + " of the picture\n";
}

std::string answer(const FindReport& report, const Screen& screen) {
  if (report.objects.empty())
    return paint(printable(nothing_found(report)), Ink::bold, screen) + "\n";
  const std::string found = ": " + std::to_string(report.objects.size()) + " found, present " +
                            percent(static_cast<double>(report.presence));
  const int cells = std::max(screen.columns, 40) - width(found);
  std::string text = paint(fit(printable(report.prompt), cells), Ink::bold, screen) + found + "\n";
  for (std::size_t i = 0; i < report.objects.size(); ++i)
    text += line(i + 1, report.objects[i], report, screen);
  return text;
}

}  // namespace

std::string to_terminal(std::span<const FindReport> reports, const Screen& screen) {
  std::string text;
  for (const FindReport& report : reports) {
    if (text.empty())
      text = paint(fit(printable(report.file) + ", " + std::to_string(report.width) + "×" +
                           std::to_string(report.height) + " pixels",
                       std::max(screen.columns, 40)),
                   Ink::dim, screen) +
             "\n";
    if (report.read && &report != &reports.front()) text += "\n";
    text += answer(report, screen);
    if (report.read) text += "\n" + to_terminal(*report.read, screen);
  }
  return text;
}

}  // namespace qkv::lens
