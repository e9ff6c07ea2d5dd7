#include <cmath>
#include <memory>
#include <numeric>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_finder.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "lens/json.h"
#include "lens/terminal.h"
#include "models/translator.h"
#include "picture/overlay.h"
#include "picture/png.h"
#include "picture/rle.h"

namespace qkv::cli {
namespace {

using models::finder::Answer;
using models::finder::Frame;
using models::finder::Object;

struct FindCommand {
  std::vector<std::string> words;  // one prompt or more, then the picture
  std::string model = kBundledFinder;
  std::string out;
  int threads = 0;
  bool json = false;

  std::vector<std::string> prompts() const { return {words.begin(), words.end() - 1}; }
  const std::string& file() const { return words.back(); }
};

// One prompt, and what the picture answered it.
struct Found {
  std::string prompt;
  std::vector<models::Piece> pieces;
  models::finder::Output output;
  Answer answer;
};

Found find(const OpenFinder& model, const models::finder::Picture& seen, const Frame& frame,
           const std::string& prompt, int threads) {
  Found found;
  found.prompt = prompt;
  found.pieces = model.read(prompt);
  std::vector<int> ids;
  for (const models::Piece& piece : found.pieces) ids.push_back(piece.id);
  found.output = model.finder.ask(seen, ids, threads);
  found.answer = models::finder::answer(found.output, model.finder.config(), frame);
  return found;
}

lens::FindReport report_of(const Found& found, const FindCommand& command, const Frame& frame,
                           const models::finder::Config& config) {
  lens::FindReport report;
  report.prompt = found.prompt;
  report.language = models::Translator::detect_language(found.prompt);
  report.file = command.file();
  report.model = command.model;
  report.width = frame.width;
  report.height = frame.height;
  report.presence = found.answer.presence;
  for (const Object& object : found.answer.objects) {
    const auto box = models::finder::in_picture(object.box, config, frame);
    report.objects.push_back(
        {object.score, box.x, box.y, box.width, box.height,
         std::accumulate(object.mask.begin(), object.mask.end(), std::int64_t{0}),
         picture::coco_counts(object.mask, frame.height, frame.width)});
  }
  return report;
}

// Every object of every prompt, each in its own colour, with its score in percent; the best lie on top.
void write_overlay(const std::string& path, picture::Image image, const std::vector<Found>& all) {
  std::vector<picture::Painted> painted;
  for (const Found& found : all)
    for (const Object& object : found.answer.objects)
      painted.push_back({object.mask, picture::distinct_colour(static_cast<int>(painted.size())),
                         std::to_string(std::lround(object.score * 100)) + "%"});
  std::reverse(painted.begin(), painted.end());
  picture::paint(image, painted);
  const std::vector<std::uint8_t> png = picture::encode_png(image);
  write_file(path, {reinterpret_cast<const char*>(png.data()), png.size()});
}

void run_find(const FindCommand& command) {
  const std::vector<std::string> prompts = command.prompts();
  for (const std::string& prompt : prompts) {
    check_utf8(prompt, "PROMPT");
    if (lens::trim(prompt).empty())
      throw Failure(Exit::input, "PROMPT is empty; expected what to find, in English or Chinese");
  }
  const OpenFinder model = open_finder(command.model);
  const models::finder::Config& config = model.finder.config();
  picture::Image image = open_picture(command.file());
  const Frame frame = Frame::fit(image.width, image.height, config.image);
  const models::finder::Picture seen =
      model.finder.look(in_square(image, frame, config), command.threads);

  std::vector<Found> all;
  std::string output;
  for (const std::string& prompt : prompts) {
    all.push_back(find(model, seen, frame, prompt, command.threads));
    const lens::FindReport report = report_of(all.back(), command, frame, config);
    output +=
        command.json ? lens::to_json(report) + "\n" : lens::to_terminal(report, standard_screen());
  }
  if (!command.out.empty()) write_overlay(command.out, std::move(image), all);
  write_output(output);
}

}  // namespace

void add_find_command(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "find", "Objects in a picture by a prompt in words, each with its mask and its score");
  auto command = std::make_shared<FindCommand>();
  sub->add_option("PROMPT... PICTURE", command->words,
                  "What to find, in English or Chinese, once or more; then a PNG or JPEG file")
      ->required()
      ->expected(2, 65)
      ->type_name("");
  sub->add_option(
         "-o,--out", command->out,
         "Also write the picture with the masks, their outlines and scores over it, as PNG")
      ->type_name("FILE");
  sub->add_option("--threads", command->threads, "Threads at most; else as many as the machine has")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  sub->add_flag("--json", command->json,
                "One JSON object for each prompt, masks as COCO run lengths (docs/json.md)");
  sub->add_option("-m,--model", command->model, "A finder's folder, or a bundled model's name")
      ->capture_default_str()
      ->type_name("FOLDER");
  sub->footer(
      "The picture may have up to 4096×4096 pixels. Masks and boxes are in its own pixels, "
      "upright\n"
      "as its EXIF orientation says.\n\n"
      "Examples:\n"
      "  qkv find \"红色的车\" examples/pictures/street.png --out found.png\n"
      "  qkv find \"red car\" \"tree\" examples/pictures/street.png --json");
  sub->callback([command] { run_find(*command); });
}

}  // namespace qkv::cli
