#include <algorithm>
#include <cmath>
#include <numeric>

#include "lens/screen_text.h"
#include "lens/terminal.h"
#include "lens/width.h"

namespace qkv::lens {
namespace {

constexpr std::size_t kTerms = 3;   // largest products of a dot product
constexpr std::size_t kRivals = 8;  // keys in the table of the softmax

// "[ 0.12 -0.40  1.03 … 0.07]  (32 numbers)", as many as fit.
std::string vector_text(const std::vector<double>& values, int columns) {
  const std::string size = "  (" + std::to_string(values.size()) + " numbers)";
  const int left = columns - 4 - static_cast<int>(size.size());
  std::string text = "[";
  std::size_t i = 0;
  for (; i < values.size(); ++i) {
    const std::string item = pad_left(decimal(values[i], 2), 6);
    if (width(text) + width(item) > left) break;
    text += item;
  }
  return text + (i < values.size() ? " …]" : " ]") + size;
}

std::string times(double a, double b) { return "(" + decimal(a, 3) + " · " + decimal(b, 3) + ")"; }

// The largest terms of Σ_d q[d]·k[d].
std::string terms_text(const std::vector<double>& q, const std::vector<double>& k, int columns) {
  std::vector<std::size_t> order(q.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(q[a] * k[a]) > std::abs(q[b] * k[b]);
  });
  const std::size_t count = std::min(kTerms, order.size());
  std::string text = "its largest terms:";
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t d = order[i];
    text += (i > 0 ? " + " : " ") + times(q[d], k[d]);
  }
  if (order.size() > count) text += " + " + std::to_string(order.size() - count) + " more";
  return paragraph(text, columns, "    ");
}

std::string softmax_table(const Explanation& it, const Screen& screen) {
  std::vector<std::size_t> order(it.rivals.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return it.rivals[a].weight > it.rivals[b].weight;
  });
  const auto asked = static_cast<std::size_t>(it.key);
  std::vector<std::size_t> lines(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(kRivals, order.size())));
  if (std::find(lines.begin(), lines.end(), asked) == lines.end()) lines.push_back(asked);

  int label = width("the rest");
  for (const std::size_t k : lines)
    label = std::max(label, std::min(16, width(printable(it.rivals[k].piece))));
  const auto row = [&](const std::string& name, const std::vector<std::string>& cells) {
    std::string line = "    " + pad_right(name, label + 1);
    for (const std::string& cell : cells) line += pad_left(cell, 11);
    return line + "\n";
  };
  std::string text =
      paint(row("key", {"q·k", "score", "e^(s−max)", "weight", "of output"}), Ink::dim, screen);
  double e = 0;
  double weight = 0;
  double share = 0;
  for (const std::size_t k : lines) {
    const Rival& rival = it.rivals[k];
    e += rival.e;
    weight += rival.weight;
    share += rival.share;
    const std::string line = row(printable(rival.piece),
                                 {decimal(rival.dot, 3), decimal(rival.score, 3), number(rival.e),
                                  percent(rival.weight), decimal(rival.share * 100, 1) + "%"});
    text +=
        paint(line.substr(0, line.size() - 1), k == asked ? Ink::bold : Ink::plain, screen) + "\n";
  }
  if (lines.size() < it.rivals.size()) {
    text +=
        row("the rest", {"", "", number(std::max(0.0, it.sum - e)),
                         percent(std::max(0.0, 1 - weight)), decimal((1 - share) * 100, 1) + "%"});
  }
  return text + row("Σ", {"", "", number(it.sum), "100.0%", "100.0%"});
}

}  // namespace

std::string to_terminal(const Explanation& it, const Screen& wanted) {
  const Screen screen = {std::max(40, wanted.columns), wanted.colour};
  const Word& query_word = it.words[static_cast<std::size_t>(it.query_word)];
  const Word& key_word = it.words[static_cast<std::size_t>(it.key_word)];
  const Rival& key = it.rivals[static_cast<std::size_t>(it.key)];
  const auto heading = [&](const std::string& text) {
    return "\n" + paint(text, Ink::bold, screen) + "\n";
  };

  std::string text = paint("Why " + shown(query_word) + " read " + shown(key_word) + " with " +
                               percent(static_cast<double>(it.word_engine)),
                           Ink::bold, screen) +
                     "\n" + paint(describe(it.layer, it.head, it.role), Ink::dim, screen) + "\n";
  if (it.query_pieces * it.key_pieces > 1) {
    text += paragraph("The model reads these words in " + std::to_string(it.query_pieces) +
                          " and " + std::to_string(it.key_pieces) +
                          " pieces. Followed here: the pair with the largest weight, " +
                          printable(it.query_piece) + " → " + printable(it.key_piece) + ".",
                      screen.columns);
  }

  const std::string d_k = std::to_string(it.q.size());
  const bool usual = std::abs(it.scale * std::sqrt(static_cast<double>(it.q.size())) - 1) < 1e-6;
  text += heading("1. query_dot_keys: how well does the key fit the query?");
  text += "    q = " + vector_text(it.q, screen.columns - 8) + "\n";
  text += "    k = " + vector_text(it.k, screen.columns - 8) + "\n";
  text += "    q·k = " + decimal(key.dot, 4) + "\n";
  text += terms_text(it.q, it.k, screen.columns);
  text += "    score = q·k " + (usual ? "÷ √" + d_k : "· " + number(it.scale)) + " = " +
          decimal(key.dot, 4) +
          (usual ? " ÷ " + decimal(1 / it.scale, 4) : " · " + number(it.scale)) + " = " +
          decimal(key.score, 4) + "\n";

  text += heading("2. softmax: what is it among its rivals?");
  text += softmax_table(it, screen);
  text += "    weight = " + number(key.e) + " ÷ " + number(it.sum) + " = " +
          decimal(key.weight, 6) + "\n";

  text += heading("3. weighted_sum_values: what does the query take away?");
  text += "    v      = " + vector_text(it.v, screen.columns - 11) + "\n";
  text += "    output = " + vector_text(it.output, screen.columns - 11) + "\n";
  text += paragraph("weight·v makes " + decimal(key.share * 100, 1) +
                        "% of the output: (weight·v)·output ÷ output·output",
                    screen.columns, "    ");

  text += heading("Checked");
  const auto line = [&](const std::string& what, double mine, double engine) {
    return "    " + what + ": recomputed " + decimal(mine, 7) + ", by the engine " +
           decimal(engine, 7) + "\n";
  };
  text += line("weight", key.weight, static_cast<double>(key.engine));
  if (it.query_pieces * it.key_pieces > 1) {
    text += line("whole words", it.word_weight, static_cast<double>(it.word_engine));
    text += paragraph("(summed over the pieces read, averaged over the pieces that asked)",
                      screen.columns, "    ");
  }
  text += "    output: differs from the engine's by at most " + number(it.output_difference) + "\n";
  return text;
}

std::string to_terminal(const Claim& claim, const Screen& wanted) {
  const Screen screen = {std::max(40, wanted.columns), wanted.colour};
  std::string text =
      paint(claim.holds ? "true" : "NOT TRUE", claim.holds ? Ink::accent : Ink::bold, screen) +
      "  " + paint(claim.id, Ink::bold, screen) + "\n";
  text += paragraph(claim.statement, screen.columns, "  ");
  // Columns stand side by side if they fit, else one number a line.
  std::vector<int> cells;
  int total = 2;
  for (std::size_t c = 0; c < claim.columns.size(); ++c) {
    int widest = width(claim.columns[c]);
    for (const std::vector<double>& row : claim.rows)
      widest = std::max(widest, width(number(row[c])));
    cells.push_back(widest + 2);
    total += widest + 2;
  }
  if (total <= screen.columns) {
    std::string head = "  ";
    for (std::size_t c = 0; c < cells.size(); ++c) head += pad_left(claim.columns[c], cells[c]);
    text += paint(head, Ink::dim, screen) + "\n";
    for (const std::vector<double>& row : claim.rows) {
      text += "  ";
      for (std::size_t c = 0; c < cells.size(); ++c) text += pad_left(number(row[c]), cells[c]);
      text += "\n";
    }
  } else {
    // Too wide: the table lies on its side, a column a line.
    int label = 0;
    for (const std::string& column : claim.columns) label = std::max(label, width(column));
    for (std::size_t c = 0; c < cells.size(); ++c) {
      std::string line = "    " + pad_right(claim.columns[c], label);
      for (const std::vector<double>& row : claim.rows) line += pad_left(number(row[c]), 11);
      text += line + "\n";
    }
  }
  return text + paint(paragraph("(" + claim.method + ")", screen.columns, "  "), Ink::dim, screen);
}

}  // namespace qkv::lens
