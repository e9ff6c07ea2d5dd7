// What each object read, as text: a map of the picture's patches in block characters, and beside it the words.
#include <algorithm>
#include <array>
#include <cmath>

#include "lens/find_reading.h"
#include "lens/screen_text.h"
#include "lens/width.h"

namespace qkv::lens {
namespace {

constexpr std::int64_t kMostCells = 16;  // of the map, along a side
constexpr std::size_t kWords = 8;        // bars of words
constexpr int kLabelCells = 14;

// The map's cells: each the sum of a block of patches, −1 where none of them shows the picture. [side, side]
struct Cells {
  std::int64_t side = 0;
  std::vector<float> shares;
};
Cells cells_of(const FindReadings& report, const std::vector<float>& patches) {
  const std::int64_t block = (report.side + kMostCells - 1) / kMostCells;
  Cells cells{(report.side + block - 1) / block, {}};
  cells.shares.assign(static_cast<std::size_t>(cells.side * cells.side), -1.0F);
  for (std::int64_t i = 0; i < std::ssize(patches); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (!report.inside[at]) continue;
    float& cell = cells.shares[static_cast<std::size_t>(i / report.side / block * cells.side +
                                                        i % report.side / block)];
    cell = std::max(cell, 0.0F) + patches[at];
  }
  return cells;
}

// One line for each row of cells that shows some of the picture, shaded from the least share to the largest. Two characters make a
// cell about as high as it is wide.
std::vector<std::string> map_lines(const FindReadings& report, const std::vector<float>& patches) {
  static constexpr std::array<std::string_view, 5> kShades = {"··", "░░", "▒▒", "▓▓", "██"};
  const Cells cells = cells_of(report, patches);
  const float most = *std::max_element(cells.shares.begin(), cells.shares.end());
  float least = most;
  for (const float share : cells.shares)
    if (share >= 0) least = std::min(least, share);
  std::vector<std::string> lines;
  for (std::int64_t y = 0; y < cells.side; ++y) {
    std::string line;
    for (std::int64_t x = 0; x < cells.side; ++x) {
      const float share = cells.shares[static_cast<std::size_t>(y * cells.side + x)];
      if (share < 0) continue;  // beside the picture
      const float part = most > least ? (share - least) / (most - least) : 0;
      line += kShades[static_cast<std::size_t>(std::clamp(part * 5.0F, 0.0F, 4.0F))];
    }
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

// Indices of the words, largest share first.
std::vector<std::size_t> strongest(const std::vector<float>& shares) {
  std::vector<std::size_t> order(shares.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return shares[a] > shares[b]; });
  return order;
}

std::string earlier_layer(const FindReadings& report, std::size_t layer, const FindReading& mean) {
  std::string text = "layer " + std::to_string(layer) + ":";
  const std::vector<std::size_t> order = strongest(mean.words);
  for (std::size_t i = 0; i < std::min<std::size_t>(3, order.size()); ++i)
    text += (i > 0 ? ", " : " ") + fit(shown(report.words[order[i]]), kLabelCells) + " " +
            percent(static_cast<double>(mean.words[order[i]]));
  return text;
}

// What stands beside the map.
std::vector<std::string> beside(const FindReadings& report, const FindAsker& asker, int cells,
                                const Screen& screen) {
  const std::size_t last = asker.layers.size() - 1;
  const FindReading& mean = asker.layers[last].mean;
  const std::vector<std::size_t> order = strongest(mean.words);
  int label = 4;
  for (std::size_t i = 0; i < std::min(kWords, order.size()); ++i)
    label = std::max(label, std::min(kLabelCells, width(shown(report.words[order[i]]))));
  std::vector<std::string> lines = {
      paint(fit("words, layer " + std::to_string(last), cells), Ink::dim, screen)};
  for (std::size_t i = 0; i < std::min(kWords, order.size()); ++i) {
    const std::size_t word = order[i];
    const auto share = static_cast<double>(mean.words[word]);
    const Ink ink = static_cast<int>(word) < report.prompt_words ? Ink::accent : Ink::dim;
    lines.push_back(pad_right(shown(report.words[word]), label) + "  " +
                    pad_left(percent(share), 6) + "  " +
                    paint(bar(share, std::max(4, cells - label - 10)), ink, screen));
  }
  for (std::size_t layer = last; layer-- > 0;)
    lines.push_back(paint(fit(earlier_layer(report, layer, asker.layers[layer].mean), cells),
                          Ink::dim, screen));

  double entropy = 0, outside = 0;
  std::size_t most = 0;
  for (std::size_t i = 0; i < mean.patches.size(); ++i) {
    const auto share = static_cast<double>(mean.patches[i]);
    if (share > 0) entropy -= share * std::log(share);
    if (!report.inside[i]) outside += share;
    if (mean.patches[i] > mean.patches[most]) most = i;
  }
  const auto side = static_cast<std::size_t>(report.side);
  lines.emplace_back();
  lines.push_back(paint(fit("patches, layer " + std::to_string(last), cells), Ink::dim, screen));
  lines.push_back(fit("most: row " + std::to_string(most / side) + ", column " +
                          std::to_string(most % side) + ", " +
                          percent(static_cast<double>(mean.patches[most])),
                      cells));
  lines.push_back(fit(
      "in effect " + decimal(std::exp(entropy), 0) + " of " + std::to_string(mean.patches.size()),
      cells));
  if (!asker.cover.empty()) {
    const OnObject on = on_object(report, asker, mean);
    lines.push_back(
        fit("on the object: " + percent(on.share) + ", by chance " + percent(on.chance), cells));
  }
  if (outside >= 0.0005) lines.push_back(fit("beside the picture: " + percent(outside), cells));
  return lines;
}

std::string name_of(const FindAsker& asker) {
  if (asker.object < 0) return "Presence, " + percent(static_cast<double>(asker.score)) + ", read";
  return "Object " + std::to_string(asker.object + 1) + ", " +
         percent(static_cast<double>(asker.score)) + ", read";
}

}  // namespace

std::string to_terminal(const FindReadings& report, const Screen& wanted) {
  const Screen screen = {std::max(40, wanted.columns), wanted.colour};
  std::string text;
  for (const FindAsker& asker : report.asked) {
    const FindLayer& last = asker.layers.back();
    const std::vector<std::string> map = map_lines(report, last.mean.patches);
    int map_cells = 0;
    for (const std::string& line : map) map_cells = std::max(map_cells, width(line));
    // Beside the map where 26 cells are left, else below it.
    const bool side_by_side = screen.columns - map_cells - 5 >= 26;
    const std::vector<std::string> notes = beside(
        report, asker, side_by_side ? screen.columns - map_cells - 5 : screen.columns - 2, screen);
    const std::string heads = "mean of " + std::to_string(last.heads.size()) + " heads";
    const std::string name = name_of(asker);
    const int gap = std::max(2, screen.columns - width(name) - width(heads));
    text += (text.empty() ? "" : "\n") + paint(name, Ink::bold, screen) +
            std::string(static_cast<std::size_t>(gap), ' ') + paint(heads, Ink::dim, screen) + "\n";
    const std::size_t count = side_by_side ? std::max(map.size(), notes.size()) : map.size();
    for (std::size_t i = 0; i < count; ++i) {
      std::string line = "  " + paint(i < map.size() ? map[i] : "", Ink::accent, screen);
      if (side_by_side && i < notes.size() && !notes[i].empty())
        line +=
            std::string(static_cast<std::size_t>(map_cells - (i < map.size() ? width(map[i]) : 0)),
                        ' ') +
            "   " + notes[i];
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    for (std::size_t i = 0; !side_by_side && i < notes.size(); ++i)
      text += (notes[i].empty() ? "" : "  " + notes[i]) + "\n";
  }
  return text;
}

}  // namespace qkv::lens
