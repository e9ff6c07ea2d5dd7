// Runs a finder's folder on requests from standard input, one JSON object a line, and answers each with one line; the parity
// tests compare the answers with the PyTorch twin's.
//   {"rgb": [image·image·3 numbers], "pieces": [ids]} → {"presence", "select", "chosen", "score", "boxes", "masks", "tape": [names]}
// A request that fails is answered {"error": "…"}.
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/finder/finder.h"

namespace {

using nlohmann::json;
using namespace qkv::models::finder;

json answer(const Finder& finder, const json& request) {
  qkv::layers::AttentionTape tape;
  const int threads = request.value("threads", 0);
  const Picture picture = finder.look(request.at("rgb").get<std::vector<float>>(), threads, &tape);
  const Output output =
      finder.ask(picture, request.at("pieces").get<std::vector<int>>(), threads, &tape);
  json boxes = json::array(), names = json::array();
  for (const Box& b : output.boxes) boxes.push_back({b.x, b.y, b.width, b.height});
  for (const auto& record : tape)
    names.push_back({record.where, record.heads, record.queries, record.keys});
  return {{"presence", output.presence},
          {"select", output.select},
          {"chosen", output.chosen},
          {"score", output.score},
          {"boxes", boxes},
          {"masks", output.masks},
          {"tape", names}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: finder_probe FOLDER < requests\n";
    return 2;
  }
  try {
    const Finder finder = Finder::load(argv[1]);
    for (std::string line; std::getline(std::cin, line);) {
      json reply;
      try {
        reply = answer(finder, json::parse(line));
      } catch (const std::exception& error) {
        reply = {{"error", error.what()}};
      }
      std::cout << reply.dump() << std::endl;
    }
  } catch (const std::exception& error) {
    std::cout << json{{"error", error.what()}}.dump() << std::endl;
    return 1;
  }
}
