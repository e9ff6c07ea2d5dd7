#include <cmath>
#include <memory>
#include <numeric>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_finder.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "lens/find_reading.h"
#include "lens/json.h"
#include "lens/page.h"
#include "lens/terminal.h"
#include "models/translator.h"
#include "picture/encode.h"
#include "picture/overlay.h"
#include "picture/resize.h"
#include "picture/rle.h"

namespace qkv::cli {
namespace {

using models::finder::Answer;
using models::finder::Frame;
using models::finder::Object;

constexpr std::int64_t kPagePixels = 1024;  // of the page's picture, along its longer side

struct FindCommand {
  std::vector<std::string> words;  // one prompt or more, then the picture
  std::string model = kBundledFinder;
  std::string out;
  std::string html;
  int threads = 0;
  bool json = false, show = false;

  bool sees() const { return show || !html.empty(); }  // asks what was read

  std::vector<std::string> prompts() const { return {words.begin(), words.end() - 1}; }
  const std::string& file() const { return words.back(); }
};

// One prompt, and what the picture answered it.
struct Found {
  std::string prompt;
  std::vector<models::Piece> pieces;
  std::string language;
  models::finder::Output output;
  Answer answer;
  layers::AttentionTape tape;  // empty unless asked for
};

Found find(const OpenFinder& model, const models::finder::Picture& seen, const Frame& frame,
           const std::string& prompt, const FindCommand& command) {
  Found found;
  found.prompt = prompt;
  found.language = models::Translator::detect_language(prompt);
  found.pieces = model.read(prompt);
  std::vector<int> ids;
  for (const models::Piece& piece : found.pieces) ids.push_back(piece.id);
  found.output =
      model.finder.ask(seen, ids, command.threads, command.sees() ? &found.tape : nullptr);
  found.answer = models::finder::answer(found.output, model.finder.config(), frame);
  return found;
}

lens::FindReport report_of(const Found& found, const FindCommand& command, const Frame& frame,
                           const models::finder::Config& config) {
  lens::FindReport report;
  report.prompt = found.prompt;
  report.language = found.language;
  report.file = command.file();
  report.model = command.model;
  report.width = frame.width;
  report.height = frame.height;
  report.presence = found.answer.presence;
  report.present = found.answer.present;
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
  const std::vector<std::uint8_t> file = picture::encode(image, *picture::format_of(path));
  write_file(path, {reinterpret_cast<const char*>(file.data()), file.size()});
}

lens::FindRun run_of(const Found& found, const layers::AttentionTape& looked, const Frame& frame,
                     const models::finder::Config& config) {
  lens::FindRun run;
  run.prompt = found.prompt;
  run.language = found.language;
  run.pieces = found.pieces;
  run.frame = frame;
  run.image = config.image;
  run.answer = &found.answer;
  run.output = &found.output;
  run.tape = &found.tape;
  run.looked = &looked;
  return run;
}

void write_page(const FindCommand& command, const picture::Image& image,
                const std::vector<Found>& all, const layers::AttentionTape& looked,
                const Frame& frame, const models::finder::Config& config) {
  std::vector<lens::FindRun> runs;
  for (const Found& found : all) runs.push_back(run_of(found, looked, frame, config));
  const picture::Image small = picture::at_most(image, kPagePixels);
  const std::vector<std::uint8_t> png = picture::encode(small, picture::Format::png);
  const std::string data = lens::page_data(
      runs, {small.width, small.height, {reinterpret_cast<const char*>(png.data()), png.size()}});
  write_file(command.html, lens::find_page(data));
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
  layers::AttentionTape looked;
  const models::finder::Picture seen = model.finder.look(
      in_square(image, frame, config), command.threads, command.html.empty() ? nullptr : &looked);

  std::vector<Found> all;
  std::vector<lens::FindReport> reports;
  Progress line;
  for (const std::string& prompt : prompts) {
    line.show("prompt " + std::to_string(reports.size() + 1) + " of " +
              std::to_string(prompts.size()));
    all.push_back(find(model, seen, frame, prompt, command));
    lens::FindReport& report = reports.emplace_back(report_of(all.back(), command, frame, config));
    if (command.show) report.read = lens::read_run(run_of(all.back(), looked, frame, config));
    if (command.html.empty() && command.out.empty()) all.pop_back();  // 16 MB an object at 4096²
  }
  line.clear();
  std::string output;
  if (command.json) {
    for (const lens::FindReport& report : reports) output += lens::to_json(report) + "\n";
  } else {
    output = lens::to_terminal(reports, standard_screen());
  }
  if (!command.html.empty()) write_page(command, image, all, looked, frame, config);
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
      ->type_name("");
  sub->add_option(
         "-o,--out", command->out,
         "Also write the picture with the masks, their outlines and scores over it: .png or .jpg")
      ->check([](const std::string& path) {
        return picture::format_of(path)
                   ? ""
                   : "expected a name that ends in .png, .jpg or .jpeg, got " + path;
      })
      ->type_name("FILE");
  sub->add_flag("--show", command->show,
                "Also what each object read: words with their shares, and a map of the patches");
  sub->add_option("--html", command->html,
                  "Also write one page to look into with a browser: every patch and word, by layer "
                  "and head, down to the dot product")
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
  sub->callback([command] {
    if (command->words.size() < 2)
      throw CLI::ArgumentMismatch("expected PROMPT and PICTURE, got one of them");
    run_find(*command);
  });
}

}  // namespace qkv::cli
