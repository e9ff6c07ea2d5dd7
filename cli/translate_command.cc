#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "lens/alignment.h"
#include "lens/json.h"
#include "lens/page.h"
#include "lens/terminal.h"
#include "lens/words.h"

namespace qkv::cli {
namespace {

using models::Translation;

constexpr std::size_t kLinesAtOnce = 256;
constexpr int kMostNotes = 10;
constexpr std::size_t kMostPages = 50;  // sentences on one page, each some hundred kilobytes

struct TranslateCommand {
  std::string text, file, to, html;
  std::string model = kBundledModel;
  int beams = 0, batch = 32, threads = 0;
  bool given = false, alignment = false, json = false;
};

// Lines from TEXT, a file or standard input, one at a time.
class Lines {
 public:
  explicit Lines(const TranslateCommand& command) {
    if (command.given) {
      text_.str(command.text);
      stream_ = &text_;
    } else if (!command.file.empty()) {
      name_ = command.file;
      errno = 0;
      file_.open(command.file, std::ios::binary);
      if (!file_)
        throw Failure(Exit::failure, "cannot read " + name_ + ": " + std::strerror(errno));
      stream_ = &file_;
    } else {
      name_ = "standard input";
      interactive_ = ::isatty(STDIN_FILENO) == 1;
      stream_ = &std::cin;
    }
  }

  std::optional<std::string> next() {
    std::string line;
    errno = 0;
    if (!std::getline(*stream_, line)) {
      // A folder opens like a file and fails on reading.
      if (stream_->bad() || errno == EISDIR)
        throw Failure(Exit::failure, "cannot read " + name_ + ": " + std::strerror(errno));
      return std::nullopt;
    }
    if (line.ends_with('\r')) line.pop_back();
    ++count_;
    return line;
  }

  // Of the line that came last, for messages.
  std::string place() const {
    return name_.empty() ? "TEXT" : "line " + std::to_string(count_) + " of " + name_;
  }
  const std::string& name() const { return name_; }
  bool interactive() const { return interactive_; }
  std::size_t count() const { return count_; }

 private:
  std::istringstream text_;
  std::ifstream file_;
  std::istream* stream_ = nullptr;
  std::string name_;
  bool interactive_ = false;
  std::size_t count_ = 0;
};

// A line and the texts that the model gets for it.
struct Job {
  std::string place;
  std::vector<std::string> texts;
};

class Translate {
 public:
  explicit Translate(const TranslateCommand& command)
      : command_(command), model_(open_model(command.model)) {
    const std::vector<std::string>& tokens = model_.tokenizer().language_tokens();
    if (!command.to.empty() && !tokens.empty() &&
        std::find(tokens.begin(), tokens.end(), ">>" + command.to + "<<") == tokens.end()) {
      std::string known;
      for (const std::string& token : tokens) known += " " + token.substr(2, token.size() - 4);
      throw Failure(Exit::usage, "--to " + command.to +
                                     ": the model does not write that language; it writes" + known);
    }
  }

  void run() {
    Lines lines(command_);
    bool anything = false;
    for (bool more = true; more;) {
      std::vector<Job> jobs;
      std::optional<Failure>
          failure;  // lines before the one that fails are translated all the same
      const std::size_t most = lines.interactive() ? 1 : kLinesAtOnce;
      while (jobs.size() < most) {
        const std::optional<std::string> line = lines.next();
        if (!line) {
          more = false;
          break;
        }
        anything |= !lens::trim(*line).empty();
        try {
          jobs.push_back({lines.place(), cut(*line, lines.place())});
        } catch (const Failure& found) {
          failure = found;
          break;
        }
      }
      finish(jobs);
      done_ += jobs.size();
      if (failure) throw *failure;
    }
    progress_.clear();
    if (!anything) {
      throw Failure(Exit::input, (lines.name().empty() ? "TEXT" : lines.name()) +
                                     " is empty; expected text in English or Chinese");
    }
    if (!command_.html.empty()) write_file(command_.html, lens::run_page(pages_));
  }

 private:
  int pieces_of(std::string_view text) const {
    return static_cast<int>(model_.tokenizer().encode(text, {}).size()) +
           1;  // and the language token
  }

  // The line whole, or its sentences; nothing for a blank line. Throws Failure (input).
  std::vector<std::string> cut(const std::string& line, const std::string& place) const {
    check_utf8(line, place);
    const std::string text(lens::trim(line));
    if (text.empty()) return {};
    // The model learned from single sentences: of several it would leave some out.
    std::vector<std::string> sentences;
    for (const lens::Span at : lens::split_sentences(text)) {
      sentences.push_back(text.substr(at.begin, at.end - at.begin));
      const std::string& sentence = sentences.back();
      // A piece has at least one byte, so short texts need no counting.
      if (static_cast<int>(sentence.size()) + 3 <= model_.max_pieces()) continue;
      if (const int pieces = pieces_of(sentence); pieces > model_.max_pieces()) {
        throw Failure(Exit::input, place + " has a sentence of " + std::to_string(pieces) +
                                       " pieces; the model reads at most " +
                                       std::to_string(model_.max_pieces()) +
                                       " at once. Cut it with punctuation (. ! ? 。！？)");
      }
    }
    return sentences;
  }

  void finish(const std::vector<Job>& jobs) {
    std::vector<std::string> texts;
    for (const Job& job : jobs) texts.insert(texts.end(), job.texts.begin(), job.texts.end());
    models::TranslateOptions options;
    options.to = command_.to;
    options.beams = command_.beams;
    options.alignment = command_.alignment || command_.json;
    options.batch = command_.batch;
    options.threads = command_.threads;
    options.progress = [&](std::size_t done, std::size_t all) {
      const std::size_t lines = done_ + (all > 0 ? jobs.size() * done / all : 0);
      progress_.show(std::to_string(lines) + " lines");
    };
    std::vector<Translation> translations;
    try {
      translations = model_.translate(texts, options);
    } catch (const std::invalid_argument& error) {
      throw Failure(Exit::input, without_prefix(error.what()));
    }
    std::string output;
    std::size_t next = 0;
    for (const Job& job : jobs) {
      const std::span<const Translation> parts =
          std::span(translations).subspan(next, job.texts.size());
      output += shown(job, parts);
      next += job.texts.size();
    }
    progress_.clear();
    write_output(output);
  }

  void note(const std::string& message) {
    if (++notes_ <= kMostNotes) warn("note: " + message);
    if (notes_ == kMostNotes) warn("note: further notes like these are not shown");
  }

  // What the decoder read while it wrote the translation.
  std::string page_of(const std::string& text, const Translation& part) {
    if (pages_.size() == kMostPages)
      throw Failure(Exit::input, "--html shows at most " + std::to_string(kMostPages) +
                                     " sentences; give it fewer lines");
    layers::AttentionTape tape;
    model_.replay(part, tape);
    if (!untrained_) untrained_ = model_.untrained(kUntrainedSeed);
    layers::AttentionTape before;
    untrained_->replay(part, before);
    return lens::page_data(lens::TranslationRun{.source_text = text,
                                                .source_language = part.source_language,
                                                .source_pieces = part.source,
                                                .target_text = part.text,
                                                .target_language = part.target_language,
                                                .target_pieces = part.target,
                                                .tape = &tape,
                                                .roles = model_.roles(),
                                                .untrained = &before});
  }

  std::string shown(const Job& job, std::span<const Translation> parts) {
    lens::TranslationReport report;
    std::string table;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Translation& part = parts[i];
      const bool spaced = part.target_language != "zh";
      report.text += (i > 0 && spaced ? " " : "") + part.text;
      report.source_language = part.source_language;
      report.target_language = part.target_language;
      report.cut |= part.cut;
      if (const std::string unknown =
              unknown_characters(model_.tokenizer(), job.texts[i], part.source);
          !unknown.empty()) {
        note(job.place + ": the model does not know these characters: " + unknown);
      }
      if (!command_.html.empty()) pages_.push_back(page_of(job.texts[i], part));
      if (part.alignment.empty()) continue;
      report.alignments.push_back(
          lens::align_words(job.texts[i], part.source, part.text, part.target, part.alignment));
      if (!command_.json) table += lens::to_terminal(report.alignments.back(), standard_screen());
    }
    if (report.cut) note(job.place + ": the translation was cut at the model's longest output");
    if (command_.json) return lens::to_json(report) + "\n";
    for (char& c : report.text) {
      if (c == '\n' || c == '\r') c = ' ';  // one line for one line
    }
    return report.text + "\n" + table;
  }

  const TranslateCommand& command_;
  models::Translator model_;
  Progress progress_;
  std::vector<std::string> pages_;               // data of each sentence, for --html
  std::optional<models::Translator> untrained_;  // for --html
  std::size_t done_ = 0;
  int notes_ = 0;
};

}  // namespace

void add_translate_command(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "translate", "Translate between English and Chinese, and show what each word read");
  auto command = std::make_shared<TranslateCommand>();
  CLI::Option* text = sub->add_option(
      "TEXT", command->text, "What to translate; else lines from --file or standard input");
  text->type_name("");
  sub->add_option("-f,--file", command->file, "Read lines from this file")->excludes(text);
  sub->add_flag("-a,--alignment", command->alignment,
                "Below each translation: the source words that each of its words read");
  sub->add_option("--to", command->to,
                  "Language of the translation, zh or en; else the other one than the text's");
  sub->add_option("--beam", command->beams,
                  "Beams of the search, 1 is greedy; else what the model says")
      ->check(CLI::Range(1, 64))
      ->type_name("N");
  sub->add_option("--batch", command->batch, "Sentences computed together")
      ->check(CLI::Range(1, 4096))
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("--threads", command->threads, "Threads at most; else as many as the machine has")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  sub->add_flag("--json", command->json,
                "One JSON object for each line, with the alignment (docs/json.md)");
  sub->add_option("--html", command->html,
                  "Also write one page to look into with a browser: the alignment, every head")
      ->type_name("FILE");
  sub->add_option("-m,--model", command->model,
                  "A Marian model's folder, or a bundled model's name")
      ->capture_default_str()
      ->type_name("FOLDER");
  sub->footer(
      "One line of output for each line of input, in order; the direction is detected line by "
      "line.\n"
      "A line of several sentences is translated sentence by sentence. The result does not depend "
      "on\n"
      "--batch or --threads.\n\n"
      "Examples:\n"
      "  qkv translate \"The cat sits on the mat\" --alignment\n"
      "  qkv translate --to en < chinese.txt > english.txt");
  sub->callback([command, text] {
    command->given = text->count() > 0;
    Translate(*command).run();
  });
}

}  // namespace qkv::cli
