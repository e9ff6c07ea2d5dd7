// Reports on runs of a finder's folder, for the tests in Python and those of the page. Requests come from standard input, one JSON object
// a line, and each is answered with one line.
//   {"prompt": text, "language": "en", "rgb": [image·image·3 numbers], "width": w, "height": h, "png": a file with w × h pixels,
//    "html": a file to write} → {"reading": {…}, "terminal": text, "presence": p, "objects": [queries]}
// Without "html" and "png" no page is written. A request that fails is answered {"error": "…"}.
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "lens/json.h"
#include "lens/page.h"
#include "lens/terminal.h"
#include "models/finder/finder.h"
#include "models/tokenizer.h"
#include "tests/probe.h"

namespace {

using nlohmann::json;
using namespace qkv;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

json answer(const models::finder::Finder& finder, const models::Tokenizer& tokenizer,
            const json& request) {
  const auto prompt = request.at("prompt").get<std::string>();
  const auto language = request.value("language", "en");
  const std::vector<models::Piece> pieces = tokenizer.encode(prompt, "");
  std::vector<int> ids;
  for (const models::Piece& piece : pieces) ids.push_back(piece.id);
  layers::AttentionTape looked, tape;
  const models::finder::Picture picture =
      finder.look(request.at("rgb").get<std::vector<float>>(), 0, &looked);
  const models::finder::Output output = finder.ask(picture, ids, 0, &tape);
  const int image = finder.config().image;
  const auto frame = models::finder::Frame::fit(request.at("width"), request.at("height"), image);
  models::finder::Thresholds thresholds;
  thresholds.presence = request.value("presence", thresholds.presence);
  thresholds.score = request.value("score", thresholds.score);
  const models::finder::Answer found =
      models::finder::answer(output, finder.config(), frame, thresholds);
  const lens::FindRun run = {prompt, language, pieces, frame,  image,
                             &found, &output,  &tape,  &looked};
  if (request.contains("html")) {
    const std::string png = read_file(request.at("png"));
    const std::string data = lens::page_data(std::span(&run, 1), {frame.width, frame.height, png});
    std::ofstream(request.at("html").get<std::string>(), std::ios::binary) << lens::find_page(data);
  }
  lens::FindReport report;
  report.read = lens::read_run(run);
  json queries = json::array();
  for (const models::finder::Object& object : found.objects) queries.push_back(object.query);
  return {{"reading", json::parse(lens::to_json(report)).at("read")},
          {"terminal", lens::to_terminal(*report.read, {request.value("columns", 80), false})},
          {"presence", found.presence},
          {"objects", queries}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: find_probe FINDER_FOLDER TOKENIZER_FOLDER < requests\n";
    return 2;
  }
  try {
    const auto finder = models::finder::Finder::load(argv[1]);
    const auto tokenizer = models::Tokenizer::load(argv[2]);
    testing::answer_requests(
        [&](const json& request) { return answer(finder, tokenizer, request); });
  } catch (const std::exception& error) {
    std::cout << json{{"error", error.what()}}.dump() << std::endl;
    return 1;
  }
}
