// Runs a sentence encoder's folder on requests from standard input, one JSON object a line, and answers each with one line; the
// parity tests compare the answers with transformers' and sentence-transformers'.
//   {"ids": "…", "most": n}                            → {"ids": […], "places": [[begin, end], …]}
//   {"normalise": "…", "clean": b, "chinese": b, "lower_case": b, "strip_accents": b}    → {"text": [code points]}
//   {"punctuation": [code points]}                     → {"is": [b, …], "space": [b, …]}
//   {"embed": ["…", …], "role": "query", "threads": n} → {"vectors": [[…], …]}
//   {"tokens": "…"}                                    → {"states": [[…] per piece]}
// A request that fails is answered {"error": "…"}. Without a model in the folder only the tokenizer is loaded.
#include <exception>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/sentence_encoder.h"
#include "models/text_tokenizer.h"
#include "models/wordpiece_text.h"
#include "tests/probe.h"

namespace {

using nlohmann::json;
using qkv::models::SentenceEncoder;
using qkv::models::TextRole;

json rows_of(const std::vector<float>& values, std::size_t dim) {
  json rows = json::array();
  for (std::size_t i = 0; i < values.size(); i += dim)
    rows.push_back(std::vector<float>(values.data() + i, values.data() + i + dim));
  return rows;
}

json answer_to(const json& request, const qkv::models::TextTokenizer& tokenizer,
               const std::optional<SentenceEncoder>& encoder) {
  if (request.contains("ids")) {
    json ids = json::array(), places = json::array();
    const auto text = request["ids"].get<std::string>();
    const std::size_t most = request.value("most", 1000000);
    for (const auto& piece : tokenizer.encode(text, most)) {
      ids.push_back(piece.id);
      places.push_back({piece.begin, piece.end});
    }
    std::vector<int> again;
    tokenizer.encode(text, most, again);
    if (json(again) != ids) return {{"error", "the two ways to encode differ"}};
    return {{"ids", ids}, {"places", places}};
  }
  if (request.contains("normalise")) {
    const qkv::models::TextRules rules{request.value("clean", true), request.value("chinese", true),
                                       request.value("lower_case", true),
                                       request.value("strip_accents", true)};
    json text = json::array();
    for (const auto& c : qkv::models::normalised(
             qkv::models::characters_of(request["normalise"].get<std::string>()), rules))
      text.push_back(static_cast<std::uint32_t>(c.code));
    return {{"text", text}};
  }
  if (request.contains("punctuation")) {
    json is = json::array(), space = json::array();
    for (const json& c : request["punctuation"]) {
      is.push_back(qkv::models::is_bert_punctuation(c.get<std::uint32_t>()));
      space.push_back(qkv::models::is_white_space(c.get<std::uint32_t>()));
    }
    return {{"is", is}, {"space", space}};
  }
  const auto dim = static_cast<std::size_t>(encoder.value().dim());
  if (request.contains("tokens"))
    return {{"states",
             rows_of(encoder->tokens(request["tokens"].get<std::string>(), TextRole::plain).states,
                     dim)}};
  const auto texts = request.at("embed").get<std::vector<std::string>>();
  const std::string name = request.value("role", "plain");
  const TextRole role = name == "query"      ? TextRole::query
                        : name == "document" ? TextRole::document
                                             : TextRole::plain;
  std::vector<float> out(texts.size() * dim);
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  encoder->embed(views, role, out.data(), request.value("threads", 0));
  return {{"vectors", rows_of(out, dim)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: encoder_probe FOLDER < requests\n";
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  try {
    const auto tokenizer = qkv::models::load_text_tokenizer(folder);
    std::optional<SentenceEncoder> encoder;
    if (std::filesystem::exists(folder / "model.safetensors"))
      encoder = SentenceEncoder::load(folder);
    qkv::testing::answer_requests(
        [&](const json& request) { return answer_to(request, *tokenizer, encoder); });
  } catch (const std::exception& error) {
    std::cerr << "encoder_probe: " << error.what() << "\n";
    return 1;
  }
}
