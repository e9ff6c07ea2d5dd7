#include <memory>
#include <optional>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "lens/explain.h"
#include "lens/json.h"
#include "lens/page.h"
#include "lens/report.h"
#include "lens/terminal.h"

namespace qkv::cli {
namespace {

struct LookOptions {
  std::string text, query, key, language, html;
  std::string model = kBundledModel;
  int layer = -1, head = -1, top = 8;
  bool heads = false, pieces = false, explain = false, json = false;
};

// The encoder's run over the text. Throws Failure (input).
models::Encoding encode(const models::Translator& model, const LookOptions& options,
                        layers::AttentionTape& tape) {
  try {
    const std::string to = options.language.empty() ? "" : other_language(options.language);
    return model.encode(options.text, &tape, to);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::input, without_prefix(error.what()));
  }
}

void run_look(const LookOptions& options) {
  check_text(options.text, "TEXT");
  check_utf8(options.query, "--query");
  check_utf8(options.key, "--key");
  const models::Translator model = open_model(options.model);
  layers::AttentionTape tape;
  const models::Encoding encoding = encode(model, options, tape);
  try {
    lens::check_head(lens::encoder_records(tape), options.layer, options.head);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::usage, error.what());
  }
  if (const std::string unknown =
          unknown_characters(model.tokenizer(), options.text, encoding.pieces);
      !unknown.empty()) {
    warn("note: the model does not know these characters and reads all of them alike: " + unknown);
  }

  const lens::Run run = {
      .text = options.text,
      .language = options.language.empty() ? encoding.source_language : options.language,
      .pieces = encoding.pieces,
      .tape = &tape,
      .roles = model.roles()};
  const lens::Unit unit = options.pieces ? lens::Unit::pieces : lens::Unit::words;
  std::string output;
  try {
    if (!options.html.empty()) {
      layers::AttentionTape before;
      model.untrained(kUntrainedSeed).encode(options.text, &before, encoding.target_language);
      lens::Run page_run = run;
      page_run.untrained = &before;
      const std::string runs[] = {lens::page_data(
          page_run,
          {options.query, options.layer, options.head, options.heads, unit, options.top})};
      write_file(options.html, lens::run_page(runs));
    }
    if (options.explain) {
      const lens::Explanation explanation =
          lens::explain(run, {options.query, options.key, options.layer, options.head, unit});
      output = options.json ? lens::to_json(explanation) + "\n"
                            : lens::to_terminal(explanation, standard_screen());
    } else {
      const lens::Report report = lens::make_report(
          run, {options.query, options.layer, options.head, options.heads, unit, options.top});
      output = options.json ? lens::to_json(report) + "\n"
                            : lens::to_terminal(report, standard_screen());
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::input, error.what());
  }
  write_output(output);
}

}  // namespace

void add_look_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("look", "What each word of a sentence read: the encoder's attention");
  auto options = std::make_shared<LookOptions>();
  command->add_option("TEXT", options->text, "A sentence in English or Chinese")
      ->required()
      ->type_name("");
  CLI::Option* query =
      command->add_option("-q,--query", options->query, "The word that asks; else every pronoun")
          ->type_name("WORD");
  command->add_flag("--heads", options->heads,
                    "Also every head: its measured role, and what the asking words read");
  CLI::Option* layer = command
                           ->add_option("--layer", options->layer,
                                        "With --head: also the matrix of one head; from 0")
                           ->check(CLI::NonNegativeNumber)
                           ->type_name("N");
  CLI::Option* head = command->add_option("--head", options->head, "With --layer; from 0")
                          ->check(CLI::NonNegativeNumber)
                          ->type_name("N");
  layer->needs(head);
  head->needs(layer);
  CLI::Option* explain = command->add_flag("--explain", options->explain,
                                           "One weight from the bottom up, for --query and --key");
  CLI::Option* key = command
                         ->add_option("-k,--key", options->key,
                                      "The word that is read; \"end\" is the end of the sentence")
                         ->type_name("WORD");
  explain->needs(query);
  explain->needs(key);
  key->needs(explain);
  command->add_flag("--pieces", options->pieces, "The model's pieces instead of words");
  command->add_option("--top", options->top, "At most so many words in each \"read\" of --json")
      ->check(CLI::Range(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", options->json, "One JSON object (docs/json.md)");
  command
      ->add_option(
          "--html", options->html,
          "Also write one page to look into with a browser: every head, down to the dot product")
      ->type_name("FILE");
  command->add_option("--lang", options->language, "The text's language; else detected")
      ->check(CLI::IsMember({"en", "zh"}))
      ->type_name("");
  command
      ->add_option("-m,--model", options->model,
                   "A Marian model's folder, or a bundled model's name")
      ->capture_default_str()
      ->type_name("FOLDER");
  command->footer(
      "Opens with the answer: each pronoun, or the word named by --query, and the words it read,\n"
      "strongest first. A pronoun is shown through the head that was measured to find what "
      "pronouns\n"
      "stand for; other words through the best head for syntax or meaning. ⟨end⟩ is the end of "
      "the\n"
      "sentence, the sink of heads that find nothing.\n\n"
      "Examples:\n"
      "  qkv look \"那个红色的苹果看起来很好吃，我想吃掉它\"\n"
      "  qkv look \"The cat sat on the mat because it was tired\" --heads\n"
      "  qkv look \"The cat sat on the mat because it was tired\" --explain --query it --key cat");
  command->callback([options] { run_look(*options); });
}

}  // namespace qkv::cli
