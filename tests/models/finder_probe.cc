// Runs a finder's folder on requests from standard input, one JSON object a line, and answers each with one line; the parity
// tests compare the answers with the PyTorch twin's.
//   {"rgb": [image·image·3 numbers], "pieces": [ids]} → {"presence", "select", "chosen", "score", "boxes", "masks", "tape": [names]}
// With "weights": true also the weights of every record, [heads · queries · keys]. With "record": false nothing is recorded.
// A request that fails is answered {"error": "…"}.
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lens/report.h"
#include "models/finder/finder.h"
#include "tests/probe.h"

namespace {

using nlohmann::json;
using namespace qkv::models::finder;

json answer(const Finder& finder, const json& request) {
  qkv::layers::AttentionTape tape;
  const int threads = request.value("threads", 0);
  qkv::layers::AttentionTape* record = request.value("record", true) ? &tape : nullptr;
  const Picture picture = finder.look(request.at("rgb").get<std::vector<float>>(), threads, record);
  const Output output =
      finder.ask(picture, request.at("pieces").get<std::vector<int>>(), threads, record);
  json boxes = json::array(), names = json::array(), weights = json::array();
  for (const Box& b : output.boxes) boxes.push_back({b.x, b.y, b.width, b.height});
  for (const auto& it : tape) {
    names.push_back({it.where, it.heads, it.queries, it.keys});
    if (!request.value("weights", false)) continue;
    json all = json::array();
    for (int head = 0; head < it.heads; ++head)
      for (const float weight : qkv::lens::head_weights(it, head)) all.push_back(weight);
    weights.push_back(std::move(all));
  }
  return {{"presence", output.presence},
          {"select", output.select},
          {"chosen", output.chosen},
          {"score", output.score},
          {"boxes", boxes},
          {"masks", output.masks},
          {"tape", names},
          {"weights", weights}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: finder_probe FOLDER < requests\n";
    return 2;
  }
  try {
    const Finder finder = Finder::load(argv[1]);
    qkv::testing::answer_requests([&](const json& request) { return answer(finder, request); });
  } catch (const std::exception& error) {
    std::cout << json{{"error", error.what()}}.dump() << std::endl;
    return 1;
  }
}
