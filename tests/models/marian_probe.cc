// Runs a Marian folder on requests from standard input, one JSON object a line, and answers each with one line; the parity
// tests compare the answers with transformers'.
//   {"source": [ids], "target": [ids]}                      → {"logits": [[…] per target id]}
//   {"sources": [[ids], …], "beams": n, …settings}          → {"outputs": [[ids], …], "scores": […]}
//   {"text": "…", "to": "zh"}                               → {"pieces": [{"id", "text", "begin", "end"}, …]}
//   {"decode": [ids]}                                       → {"text": "…", "pieces": […]}
// A request that fails is answered {"error": "…"}. Settings overlay generation_config.json.
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/marian.h"
#include "models/search.h"
#include "models/tokenizer.h"
#include "tests/probe.h"

namespace {

using nlohmann::json;
using qkv::models::GenerationConfig;
using qkv::models::Marian;
using qkv::models::Piece;

json pieces_json(const std::vector<Piece>& pieces) {
  json all = json::array();
  for (const Piece& p : pieces)
    all.push_back({{"id", p.id},
                   {"text", p.text},
                   {"begin", p.begin},
                   {"end", p.end},
                   {"special", p.special}});
  return all;
}

json logits_of(const Marian& model, const json& request) {
  const auto source = request.at("source").get<std::vector<int>>();
  const auto target = request.at("target").get<std::vector<int>>();
  std::vector<float> logits;
  model.decode(model.encode(std::span(&source, 1), 0), target, 0, &logits);
  json rows = json::array();
  for (std::size_t t = 0; t < target.size(); ++t) {
    const auto width = static_cast<std::ptrdiff_t>(model.vocabulary());
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(t) * width;
    rows.push_back(std::vector<float>(row, row + width));
  }
  return {{"logits", rows}};
}

json outputs_of(const Marian& model, const std::filesystem::path& folder, const json& request) {
  GenerationConfig config = GenerationConfig::load(folder, model.config());
  config.num_beams = request.value("beams", config.num_beams);
  const auto sources = request.at("sources").get<std::vector<std::vector<int>>>();
  const int threads = request.value("threads", 0);
  const qkv::models::WatchedHead watched{model.config().decoder_layers - 1, 0};
  const auto results =
      qkv::models::search(model, model.encode(sources, threads), config,
                          request.value("alignment", false) ? &watched : nullptr, threads);
  json outputs = json::array(), scores = json::array(), alignments = json::array();
  for (const auto& result : results) {
    outputs.push_back(result.ids);
    scores.push_back(result.score);
    alignments.push_back(result.alignment);
  }
  return {{"outputs", outputs}, {"scores", scores}, {"alignments", alignments}};
}

json answer_to(const json& request, const Marian& model, const std::filesystem::path& folder) {
  if (request.contains("source")) return logits_of(model, request);
  if (request.contains("sources")) return outputs_of(model, folder, request);
  const auto tokenizer = qkv::models::Tokenizer::load(folder);
  if (request.contains("text")) {
    const std::string to = request.value("to", "");
    return {{"pieces", pieces_json(tokenizer.encode(request.at("text").get<std::string>(),
                                                    to.empty() ? "" : ">>" + to + "<<"))}};
  }
  std::vector<Piece> pieces;
  const std::string text = tokenizer.decode(request.at("decode").get<std::vector<int>>(), &pieces);
  return {{"text", text}, {"pieces", pieces_json(pieces)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: marian_probe FOLDER < requests\n";
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  try {
    const bool has_model = std::filesystem::exists(folder / "model.safetensors");
    const Marian model = has_model ? Marian::load(folder) : Marian{};
    qkv::testing::answer_requests(
        [&](const json& request) { return answer_to(request, model, folder); });
  } catch (const std::exception& error) {
    std::cerr << "marian_probe: " << error.what() << "\n";
    return 1;
  }
}
