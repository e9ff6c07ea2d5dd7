#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sqlite_titles.h"
#include "lens/json.h"
#include "lens/search_report.h"
#include "lens/terminal.h"
#include "library/library.h"
#include "models/model_path.h"

namespace qkv::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostDims = 1024;  // what attention takes

struct SearchCommand {
  std::string query, file, format, column, table, index;
  std::string model = "search-en-zh";
  double temperature = 0.05;
  int top = 8, threads = 0;
  bool no_header = false, json = false;
};

models::SentenceEncoder open_encoder(const std::string& name_or_folder) {
  try {
    models::SentenceEncoder encoder =
        models::SentenceEncoder::load(models::find_model(name_or_folder));
    if (encoder.dim() > kMostDims)
      throw std::runtime_error(name_or_folder + ": its vectors have " +
                               std::to_string(encoder.dim()) + " numbers; at most " +
                               std::to_string(kMostDims) + " are supported");
    return encoder;
  } catch (const std::bad_alloc&) {
    throw Failure(Exit::model, "model \"" + name_or_folder + "\": not enough memory to load it");
  } catch (const std::exception& error) {
    throw Failure(Exit::model, std::string("the model cannot be loaded: ") + error.what());
  }
}

void check_readable(const std::string& file) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Failure(Exit::failure, "cannot read " + file + ": " + std::strerror(errno));
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    throw Failure(Exit::failure, "cannot read " + file + ": is not a file");
}

// The cache folder's file for this file, column and model, or else a file beside it.
fs::path default_index(const SearchCommand& command, const std::string& settings) {
  fs::path folder;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    folder = cache;
  } else if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    folder = fs::path(home) / ".cache";
  } else {
    return command.file + ".qkvindex";
  }
  const std::string what = fs::absolute(command.file).string() + '\0' + settings + '\0' +
                           fs::absolute(models::find_model(command.model)).string();
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx",
                static_cast<unsigned long long>(library::hash_of(what)[0]));
  return folder / "qkv" / "search" /
         (fs::path(command.file).filename().string() + "-" + digits + ".index");
}

std::string time_left(double seconds) {
  if (seconds < 90) return std::to_string(static_cast<int>(seconds) + 1) + " s";
  return std::to_string(static_cast<int>(seconds / 60) + 1) + " min";
}

library::Index open_index(const SearchCommand& command, const models::SentenceEncoder& encoder) {
  const bool sqlite =
      command.format == "sqlite" || (command.format.empty() && is_sqlite(command.file));
  if (!sqlite && !command.table.empty())
    throw Failure(Exit::usage, "--table is for SQLite databases; " + command.file + " is none");
  library::Source source;
  source.files.emplace_back(command.file);
  if (sqlite) source.files.emplace_back(command.file + "-wal");  // what is not in the file yet
  source.settings = command.format + '\0' + command.column + '\0' + command.table + '\0' +
                    (command.no_header ? "no header" : "header");
  source.read = [&command, sqlite] {
    try {
      if (sqlite) return read_sqlite_titles(command.file, command.table, command.column);
      return library::read_titles(command.file,
                                  {command.format, command.column, !command.no_header});
    } catch (const std::runtime_error& error) {
      throw Failure(Exit::input, error.what());
    }
  };
  Progress line;
  library::Progress progress;
  progress.show = [&line](std::size_t done, std::size_t all) {
    const double rate = static_cast<double>(done) / line.seconds();
    line.show("indexing: " + std::to_string(done) + " of " + std::to_string(all) + " titles, " +
              std::to_string(static_cast<int>(rate)) + " a second" +
              (done > 0 ? ", " + time_left(static_cast<double>(all - done) / rate) + " left" : ""));
  };
  progress.waiting = [] { warn("note: another qkv makes the same index; waiting for it"); };
  progress.resumed = [](std::size_t known, std::size_t all) {
    warn("note: going on where indexing stopped: " + std::to_string(known) + " of " +
         std::to_string(all) + " titles have their vectors");
  };
  const library::IndexOptions options = {.path = command.index.empty()
                                                     ? default_index(command, source.settings)
                                                     : fs::path(command.index),
                                         .may_fail = command.index.empty(),
                                         .threads = command.threads};
  std::string note;
  library::Index index = [&] {
    try {
      return library::open_index(source, encoder, options, progress, note);
    } catch (const std::invalid_argument& error) {
      throw Failure(Exit::model, error.what());
    }
  }();
  line.clear();
  if (!note.empty()) warn("note: the index cannot be kept: " + note);
  return index;
}

void tell_what_is_missing(const SearchCommand& command, const library::Index& index) {
  for (const std::string_view note : index.notes())
    warn("note: " + command.file + ": " + std::string(note) + "; left out");
  if (const std::size_t more = index.skipped() - index.notes().size(); more > 0)
    warn("note: " + command.file + ": " + std::to_string(more) + " more rows are left out");
  if (index.blank() > 0)
    warn("note: " + command.file + ": " + std::to_string(index.blank()) +
         " rows without a title are left out");
}

void run_search(const SearchCommand& command) {
  check_utf8(command.query, "QUERY");
  if (lens::trim(command.query).empty())
    throw Failure(Exit::input, "QUERY is empty; expected what to look for, in words");
  check_readable(command.file);
  const models::SentenceEncoder encoder = open_encoder(command.model);
  const library::Index index = open_index(command, encoder);
  tell_what_is_missing(command, index);

  const std::vector<float> vector =
      encoder.embed(command.query, models::TextRole::query, command.threads);
  library::Answer answer;
  try {
    answer = library::ask(index, vector, command.temperature, command.top, command.threads);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::model, error.what());
  }
  const models::TokenStates query =
      encoder.tokens(command.query, models::TextRole::query, command.threads);
  if (static_cast<int>(query.pieces.size()) == encoder.max_pieces())
    warn("note: QUERY is longer than the model reads; its end was not read");

  lens::SearchReport report;
  report.query = command.query;
  report.file = command.file;
  report.column = index.column();
  report.model = command.model;
  report.rows = index.rows();
  report.skipped = index.skipped();
  report.blank = index.blank();
  report.temperature = command.temperature;
  report.remainder = answer.remainder;
  report.entropy = answer.entropy;
  for (const library::Hit& hit : answer.hits) {
    lens::SearchHit& shown = report.hits.emplace_back();
    shown.row = hit.row;
    shown.line = index.line(hit.row);
    shown.title = index.title(hit.row);
    shown.weight = hit.weight;
    shown.score = hit.score;
    shown.words = lens::match_words(
        shown.title, encoder.tokens(shown.title, models::TextRole::document, command.threads),
        command.query, query);
  }
  write_output(command.json ? lens::to_json(report) + "\n"
                            : lens::to_terminal(report, standard_screen()));
}

}  // namespace

void add_search_command(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "search", "Titles of a file by meaning, each with its share of the answer");
  auto command = std::make_shared<SearchCommand>();
  sub->add_option("QUERY", command->query, "What to look for, in words")->required()->type_name("");
  sub->add_option("FILE", command->file,
                  "Titles: TSV, CSV, JSON lines, plain lines or an SQLite database")
      ->required()
      ->type_name("");
  sub->add_option("-n,--top", command->top, "Titles to show")
      ->check(CLI::Range(1, 1024))
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("-t,--temperature", command->temperature,
                  "What cosines are divided by before the softmax; smaller is sharper")
      ->check(CLI::Range(1e-4, 1e4))
      ->type_name("T")
      ->capture_default_str();
  sub->add_option("-c,--column", command->column,
                  "The titles' column; else `title`, else the first with text")
      ->type_name("NAME");
  sub->add_option("--table", command->table, "The table or view of an SQLite database")
      ->type_name("NAME");
  sub->add_option("--format", command->format, "What FILE is; else by its name and content")
      ->check(CLI::IsMember({"tsv", "csv", "jsonl", "lines", "sqlite"}))
      ->type_name("NAME");
  sub->add_flag("--no-header", command->no_header,
                "TSV, CSV: the first line is a row too; columns are called 1, 2, …");
  sub->add_option("--index", command->index,
                  "Where the titles' vectors are kept; else in the cache")
      ->type_name("FILE");
  sub->add_option("--threads", command->threads, "Threads at most; else as many as the machine has")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  sub->add_flag("--json", command->json, "One JSON object (docs/json.md)");
  sub->add_option(
         "-m,--model", command->model,
         "A sentence encoder's folder (BERT, sentence-transformers), or a bundled model's name")
      ->capture_default_str()
      ->type_name("FOLDER");
  sub->footer(
      "weight = softmax over all titles of cosine(question, title) / temperature. Below a title "
      "stand\n"
      "the words of it that are near words of the question. The first search makes an index, "
      "which\n"
      "later ones use; it is made again where the file or the model changed.\n\n"
      "Examples:\n"
      "  qkv search \"我想找关于量子物理的书\" books.tsv\n"
      "  qkv search \"how to bake bread\" library.db --table books --column name --top 3");
  sub->callback([command] { run_search(*command); });
}

}  // namespace qkv::cli
