#include "lens/screen_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <vector>

#include "lens/width.h"

namespace qkv::lens {

std::string paint(std::string_view text, Ink ink, const Screen& screen) {
  if (!screen.colour || ink == Ink::plain || text.empty()) return std::string(text);
  const char* code = ink == Ink::bold ? "\x1b[1m" : ink == Ink::dim ? "\x1b[2m" : "\x1b[36m";
  const std::size_t end =
      text.ends_with('\n') ? text.size() - 1 : text.size();  // the colour ends with the line
  return code + std::string(text.substr(0, end)) + "\x1b[0m" + std::string(text.substr(end));
}

std::string decimal(double value, int decimals) {
  char buffer[400];  // the largest double has 309 digits before the point
  std::snprintf(buffer, sizeof buffer, "%.*f", decimals, value);
  std::string text = buffer;
  if (text.starts_with('-') && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);
  return text;
}

std::string number(double value) {
  char buffer[64];
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e7)) {
    std::snprintf(buffer, sizeof buffer, "%.2e", value);
  } else {
    std::snprintf(buffer, sizeof buffer, "%.*g", size >= 1000 ? 7 : 4, value);
  }
  return buffer;
}

std::string percent(double share) {
  if (share > 0 && share < 0.0005) return "<0.1%";
  return decimal(share * 100, 1) + "%";
}

std::string shown(const Word& word) { return printable(word.text); }

std::string describe(int layer, int head, const Role& role) {
  std::string text = "layer " + std::to_string(layer) + ", head " + std::to_string(head);
  if (role.name.empty()) return text + " · role not measured";
  return text + " · " + printable(role.name) + ": right " + decimal(role.score * 100, 0) +
         "%, by chance " + decimal(role.chance * 100, 0) + "%";
}

std::string paragraph(std::string_view text, int columns, std::string_view indent) {
  std::vector<std::string> words;
  std::istringstream stream{std::string(text)};
  for (std::string word; stream >> word;) words.push_back(word);
  std::string result;
  for (const std::string& line : wrap(words, std::max(10, columns - width(indent)))) {
    result += std::string(indent) + line + "\n";
  }
  return result;
}

}  // namespace qkv::lens
