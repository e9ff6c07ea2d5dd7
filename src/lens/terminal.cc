#include "lens/terminal.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lens/screen_text.h"
#include "lens/width.h"

namespace qkv::lens {
namespace {

constexpr int kLabelCells = 20;        // longest word that is shown whole in a table
constexpr int kSentenceLines = 6;      // of the sentence on top
constexpr std::size_t kReadings = 12;  // at most so many answers
constexpr std::size_t kBars = 6;       // words in each
constexpr std::size_t kOverview = 24;  // words in the overview
constexpr int kAlignedWords = 60;      // of a translation
constexpr int kMatrixBlocks = 3;       // tables side by side, one below the other
constexpr float kLeastBar = 0.01F;

const Word& word_at(const Report& report, int word) {
  return report.words[static_cast<std::size_t>(word)];
}

std::string count_of(int count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string noun_of(const Report& report) { return report.unit == Unit::pieces ? "piece" : "word"; }

// What was left out, e.g. "… and 12 more words".
std::string more(int count, const std::string& noun, const std::string& hint,
                 const Screen& screen) {
  const std::string text =
      "… and " + std::to_string(count) + " more " + noun + (count == 1 ? "" : "s") + hint;
  return paint(paragraph(text, screen.columns), Ink::dim, screen);
}

std::string language_name(const std::string& code) {
  if (code == "zh") return "Chinese";
  if (code == "en") return "English";
  return code;
}

std::string sentence(const Report& report, const Screen& screen) {
  std::vector<std::string> words;
  for (int i = 0; i < report.sentence_words; ++i) {
    words.push_back(shown(word_at(report, i)));
    // A phrase that was made one word stays on one line, and spaces count words below.
    for (std::size_t at = words.back().find(' '); at != std::string::npos;
         at = words.back().find(' ', at)) {
      words.back().replace(at, 1, "\u00A0");
    }
  }
  std::vector<std::string> lines = wrap(words, screen.columns);
  std::string text = paint(language_name(report.language) + ", " +
                               count_of(report.sentence_words, noun_of(report)),
                           Ink::dim, screen) +
                     "\n";
  int left_out = 0;
  for (std::size_t i = 0, seen = 0; i < lines.size(); ++i) {
    if (i < kSentenceLines) {
      text += lines[i] + "\n";
      seen += static_cast<std::size_t>(std::count(lines[i].begin(), lines[i].end(), ' ')) + 1;
      left_out = report.sentence_words - static_cast<int>(seen);
    }
  }
  if (lines.size() > kSentenceLines) {
    text += more(left_out, noun_of(report), "", screen);
  }
  return text;
}

bool stands_more_than_once(const Report& report, int word) {
  int count = 0;
  for (int i = 0; i < report.sentence_words; ++i)
    count += word_at(report, i).text == word_at(report, word).text;
  return count > 1;
}

std::string note_on(const Word& word) {
  if (word.kind == WordKind::end) return "the end of the sentence: the sink";
  if (word.kind == WordKind::target) return "the language to translate to";
  return "";
}

std::string bar_line(const std::string& label, int label_cells, double share,
                     const std::string& note, Ink ink, const Screen& screen) {
  // "  label  81.2%  bar  note"
  const int bar_cells = std::clamp(screen.columns - label_cells - 12, 10, 60);
  std::string line =
      "  " + pad_right(label, label_cells) + "  " + pad_left(percent(share), 6) + "  ";
  const std::string drawn = bar(share, bar_cells);
  line += paint(drawn, ink, screen);
  const int left = screen.columns - 2 - label_cells - 2 - 6 - 2 - width(drawn) - 2;
  if (!note.empty() && left >= 16)
    line += (drawn.empty() ? "" : "  ") + paint(fit(note, left), Ink::dim, screen);
  return line + "\n";
}

std::string answer(const Report& report, const Reading& reading, const Screen& screen) {
  std::string name = shown(word_at(report, reading.word));
  std::string title = fit(name, screen.columns / 2);
  if (stands_more_than_once(report, reading.word))
    title += " (" + noun_of(report) + " " + std::to_string(reading.word) + ")";
  title += " read";
  const std::string head = describe(reading.layer, reading.head, reading.role);
  const int gap = screen.columns - width(title) - width(head);
  std::string text = paint(title, Ink::bold, screen);
  if (gap >= 2) {
    text += std::string(static_cast<std::size_t>(gap), ' ') + paint(head, Ink::dim, screen) + "\n";
  } else {
    text += "\n" + paint(paragraph(head, screen.columns, "  "), Ink::dim, screen);
  }

  // What is shown: the strongest words, then the special ones, then the rest in one line.
  std::vector<Read> bars;
  for (const Read& read : reading.read) {
    if (bars.size() < kBars && (read.weight >= kLeastBar || bars.empty())) bars.push_back(read);
  }
  const std::size_t words = bars.size();
  for (const Read& read : reading.specials) {
    if (read.weight >= kLeastBar) bars.push_back(read);
  }
  double rest = 1;
  int label_cells = width("the rest");
  for (const Read& read : bars) {
    rest -= static_cast<double>(read.weight);
    label_cells =
        std::max(label_cells, std::min(kLabelCells, width(shown(word_at(report, read.word)))));
  }
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Word& word = word_at(report, bars[i].word);
    std::string note = note_on(word);
    if (bars[i].word == reading.word) note = "itself";
    if (i < words && stands_more_than_once(report, bars[i].word)) {
      note += (note.empty() ? "" : ", ") + noun_of(report) + " " + std::to_string(bars[i].word);
    }
    text += bar_line(shown(word), label_cells, static_cast<double>(bars[i].weight), note,
                     i < words ? Ink::accent : Ink::dim, screen);
  }
  const int others = static_cast<int>(report.words.size()) - static_cast<int>(bars.size());
  if (others > 0) {
    text += bar_line("the rest", label_cells, std::max(0.0, rest),
                     count_of(others, noun_of(report)), Ink::dim, screen);
  }
  return text;
}

// What each word read most, for a sentence in which nothing asks by itself.
std::string overview(const Report& report, const Screen& screen) {
  std::string text = paragraph(
      "No pronoun in this sentence, so here is what each word read most. --query WORD shows one "
      "word in full.",
      screen.columns);
  if (report.overview.empty()) return text;
  int label_cells = 4;
  for (const Reading& reading : report.overview) {
    label_cells =
        std::max(label_cells, std::min(kLabelCells, width(shown(word_at(report, reading.word)))));
  }
  int layer = -1;
  int head = -1;
  for (std::size_t i = 0; i < std::min(kOverview, report.overview.size()); ++i) {
    const Reading& reading = report.overview[i];
    if (reading.layer != layer || reading.head != head) {
      layer = reading.layer;
      head = reading.head;
      text += "\n" + paint(paragraph(describe(layer, head, reading.role), screen.columns), Ink::dim,
                           screen);
    }
    std::string line = "  " + pad_right(shown(word_at(report, reading.word)), label_cells) + "  ";
    std::vector<Read> most(reading.read.begin(),
                           reading.read.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(
                                                      3, reading.read.size())));
    for (const Read& special : reading.specials) {
      if (special.weight >= 0.1F) most.push_back(special);
    }
    int left = screen.columns - label_cells - 4;
    for (const Read& read : most) {
      const std::string item = fit(shown(word_at(report, read.word)), kLabelCells) + " " +
                               percent(static_cast<double>(read.weight)) + "  ";
      if (width(item) > left) break;
      left -= width(item);
      line += item;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  if (report.overview.size() > kOverview) {
    text += more(static_cast<int>(report.overview.size() - kOverview), noun_of(report), "", screen);
  }
  return text;
}

std::string short_role(const std::string& role) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kShort = {
      {{"coreference", "corefer"}, {"punctuation", "punct"}, {"alignment", "align"}}};
  for (const auto& [name, brief] : kShort) {
    if (role == name) return std::string(brief);
  }
  return printable(role);
}

// Layers × heads: what each head was measured to do, and what the first asking word read through it.
std::string grid(const Report& report, const Screen& screen) {
  const int label = report.layers > 10 ? 9 : 8;  // "layer 12 "
  const int cell = std::clamp((screen.columns - label) / std::clamp(report.heads, 1, 8), 8, 14);
  const int per_block = std::max(1, (screen.columns - label) / cell);
  std::string text = paint("Heads", Ink::bold, screen) + "\n";
  text += paint(paragraph("role · right/by chance in % · what it read most and how much. * = "
                          "trained for its role. ⟨end⟩ is the "
                          "sink.",
                          screen.columns),
                Ink::dim, screen);
  const std::string spaces(label, ' ');
  for (int first = 0; first < report.heads; first += per_block) {
    const int last = std::min(report.heads, first + per_block);
    std::string line = spaces;
    for (int head = first; head < last; ++head)
      line += pad_right("head " + std::to_string(head), cell);
    line.erase(line.find_last_not_of(' ') + 1);
    text += "\n" + line + "\n";
    for (int layer = 0; layer < report.layers; ++layer) {
      // The asking words' lines come after two lines of roles; at most three of them.
      std::vector<std::string> lines = {pad_right("layer " + std::to_string(layer), label), spaces};
      for (const HeadReport& head : report.head_reports) {
        if (head.layer != layer || head.head < first || head.head >= last) continue;
        const bool measured = !head.roles.empty();
        const Role role = measured ? head.roles.front() : Role{};
        lines[0] += pad_right(
            measured ? fit(short_role(role.name), cell - 2) + (role.guided ? "*" : "") : "–", cell);
        lines[1] += pad_right(
            measured ? decimal(role.score * 100, 0) + "/" + decimal(role.chance * 100, 0) : "",
            cell);
        for (std::size_t i = 0; i < std::min<std::size_t>(3, head.asked.size()); ++i) {
          const Reading& reading = head.asked[i];
          Read most = reading.read.empty() ? Read{reading.word, 0} : reading.read.front();
          for (const Read& special : reading.specials) {
            if (special.weight > most.weight) most = special;
          }
          if (lines.size() < 3 + i) {
            lines.push_back(
                pad_right(fit(shown(word_at(report, reading.word)), label - 3) + " →", label));
          }
          const std::string share = " " + decimal(static_cast<double>(most.weight) * 100, 0);
          lines[2 + i] += pad_right(
              fit(shown(word_at(report, most.word)), cell - 1 - width(share)) + share, cell);
        }
      }
      for (std::size_t i = 0; i < lines.size(); ++i) {
        lines[i].erase(lines[i].find_last_not_of(' ') + 1);
        if (!lines[i].empty())
          text += (i == 1 ? paint(lines[i], Ink::dim, screen) : lines[i]) + "\n";
      }
    }
  }
  return text;
}

std::string matrix(const Report& report, const HeadMatrix& matrix, const Screen& screen) {
  const int count = static_cast<int>(report.words.size());
  const int number_cells = static_cast<int>(std::to_string(count - 1).size());
  int word_cells = 4;
  for (const Word& word : report.words)
    word_cells = std::max(word_cells, std::min(12, width(shown(word))));
  const int label_cells = number_cells + 1 + word_cells + 1;
  constexpr int kCell = 4;
  const int per_block = std::max(1, (screen.columns - label_cells) / kCell);
  const int shown_words = std::min(count, per_block * kMatrixBlocks);

  std::string text = paint("Matrix", Ink::bold, screen) + "\n";
  text += paint(paragraph(describe(matrix.layer, matrix.head, matrix.role), screen.columns) +
                    paragraph("Each row is a word that asks, each column (by number) a word that "
                              "is read, in %; · is below 0.5.",
                              screen.columns),
                Ink::dim, screen);
  for (int first = 0; first < shown_words; first += per_block) {
    const int last = std::min(shown_words, first + per_block);
    std::string line(static_cast<std::size_t>(label_cells), ' ');
    for (int key = first; key < last; ++key) line += pad_left(std::to_string(key), kCell);
    text += line + "\n";
    for (int query = 0; query < shown_words; ++query) {
      line = pad_left(std::to_string(query), number_cells) + " " +
             pad_right(shown(word_at(report, query)), word_cells) + " ";
      for (int key = first; key < last; ++key) {
        const float weight = matrix.weights[static_cast<std::size_t>(query) * report.words.size() +
                                            static_cast<std::size_t>(key)];
        const std::string share =
            weight < 0.005F ? "·" : decimal(static_cast<double>(weight) * 100, 0);
        line += paint(pad_left(share, kCell),
                      weight >= 0.3F   ? Ink::bold
                      : weight < 0.05F ? Ink::dim
                                       : Ink::plain,
                      screen);
      }
      text += line + "\n";
    }
  }
  if (shown_words < count) {
    text += more(count - shown_words, noun_of(report), "; --json has them all", screen);
  }
  return text;
}

}  // namespace

std::string to_terminal(const Report& report, const Screen& wanted) {
  const Screen screen = {std::max(40, wanted.columns), wanted.colour};
  std::string text = sentence(report, screen);
  if (report.asked.empty()) text += "\n" + overview(report, screen);
  for (std::size_t i = 0; i < std::min(kReadings, report.asked.size()); ++i) {
    text += "\n" + answer(report, report.asked[i], screen);
  }
  if (report.asked.size() > kReadings) {
    text += "\n" + more(static_cast<int>(report.asked.size() - kReadings), "answer",
                        "; --json has them all, --query WORD asks for one word", screen);
  }
  if (!report.head_reports.empty()) text += "\n" + grid(report, screen);
  if (report.matrix) {
    text += "\n" + matrix(report, *report.matrix, screen);
  }
  return text;
}

std::string to_terminal(const Alignment& alignment, const Screen& wanted) {
  const Screen screen = {std::max(40, wanted.columns), wanted.colour};
  int label_cells = 4;
  for (const Word& word : alignment.target)
    label_cells = std::max(label_cells, std::min(kLabelCells, width(shown(word))));
  std::string text;
  const int count = static_cast<int>(alignment.target.size());
  for (int target = 0; target < std::min(count, kAlignedWords); ++target) {
    std::vector<Read> reads;
    for (int source = 0; source < static_cast<int>(alignment.source.size()); ++source) {
      reads.push_back({source, alignment.at(target, source)});
    }
    std::stable_sort(reads.begin(), reads.end(),
                     [](const Read& a, const Read& b) { return a.weight > b.weight; });
    std::string line =
        "  " + pad_right(shown(alignment.target[static_cast<std::size_t>(target)]), label_cells) +
        "  ";
    int left = screen.columns - label_cells - 4;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, reads.size()); ++i) {
      if (i > 0 && reads[i].weight < 0.05F) break;
      const std::string item =
          fit(shown(alignment.source[static_cast<std::size_t>(reads[i].word)]), kLabelCells) + " " +
          percent(static_cast<double>(reads[i].weight)) + (i + 1 < 3 ? "  " : "");
      if (width(item) > left) break;
      left -= width(item);
      line += paint(item, i == 0 ? Ink::accent : Ink::dim, screen);
    }
    if (!screen.colour) line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  if (count > kAlignedWords) {
    text += more(count - kAlignedWords, "word", "; --json has them all", screen);
  }
  return text;
}

}  // namespace qkv::lens
