#include "lens/json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace qkv::lens {
namespace {

using Json = nlohmann::ordered_json;  // fields stay in the order in which the document lists them

constexpr int kSchema = 1;

// The double that prints as the float does: 0.81, not 0.8100000023841858.
double exact(float value) {
  if (!std::isfinite(value)) return static_cast<double>(value);
  char digits[32];
  *std::to_chars(digits, digits + sizeof digits - 1, value).ptr = '\0';
  return std::strtod(digits, nullptr);
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The sentence's words only, or the special ones only.
Json texts(const std::vector<Word>& words, int sentence_words) {
  Json list = Json::array();
  for (int i = 0; i < sentence_words; ++i) list.push_back(words[static_cast<std::size_t>(i)].text);
  return list;
}

Json specials(const std::vector<Word>& words, int sentence_words) {
  Json list = Json::array();
  for (std::size_t i = static_cast<std::size_t>(sentence_words); i < words.size(); ++i) {
    list.push_back({{"word", words[i].text}, {"index", i}, {"kind", kind_name(words[i].kind)}});
  }
  return list;
}

Json reads(const std::vector<Word>& words, const std::vector<Read>& items) {
  Json list = Json::array();
  for (const Read& item : items) {
    list.push_back({{"word", words[static_cast<std::size_t>(item.word)].text},
                    {"index", item.word},
                    {"weight", exact(item.weight)}});
  }
  return list;
}

Json role_name(const Role& role) { return role.name.empty() ? Json(nullptr) : Json(role.name); }

void add_measurement(Json& json, const Role& role) {
  if (role.name.empty()) return;
  json["score"] = role.score;
  json["chance"] = role.chance;
  json["guided"] = role.guided;
}

Json reading(const Report& report, const Reading& it) {
  Json json = {{"word", report.words[static_cast<std::size_t>(it.word)].text},
               {"index", it.word},
               {"layer", it.layer},
               {"head", it.head},
               {"role", role_name(it.role)},
               {"read", reads(report.words, it.read)},
               {"remainder", exact(it.remainder)},
               {"specials", reads(report.words, it.specials)}};
  add_measurement(json, it.role);
  return json;
}

Json readings(const Report& report, const std::vector<Reading>& items) {
  Json list = Json::array();
  for (const Reading& item : items) list.push_back(reading(report, item));
  return list;
}

Json head_report(const Report& report, const HeadReport& it) {
  Json roles = Json::array();
  for (const Role& role : it.roles) {
    Json json = {{"role", role.name}};
    add_measurement(json, role);
    roles.push_back(json);
  }
  return {{"layer", it.layer},
          {"head", it.head},
          {"roles", roles},
          {"sink", exact(it.sink)},
          {"entropy", exact(it.entropy)},
          {"asked", readings(report, it.asked)}};
}

Json rows(const std::vector<float>& weights, std::size_t columns) {
  Json list = Json::array();
  for (std::size_t at = 0; columns > 0 && at + columns <= weights.size(); at += columns) {
    Json row = Json::array();
    for (std::size_t c = 0; c < columns; ++c) row.push_back(exact(weights[at + c]));
    list.push_back(std::move(row));
  }
  return list;
}

}  // namespace

std::string to_json(const Report& report) {
  Json json = {{"schema", kSchema},
               {"language", report.language},
               {"unit", report.unit == Unit::words ? "word" : "piece"},
               {"words", texts(report.words, report.sentence_words)},
               {"specials", specials(report.words, report.sentence_words)},
               {"asked", readings(report, report.asked)}};
  if (!report.head_reports.empty()) {
    Json heads = Json::array();
    for (const HeadReport& head : report.head_reports) heads.push_back(head_report(report, head));
    json["heads"] = std::move(heads);
  }
  if (report.matrix) {
    json["matrix"] = {{"layer", report.matrix->layer},
                      {"head", report.matrix->head},
                      {"weights", rows(report.matrix->weights, report.words.size())}};
  }
  return dump(json);
}

std::string to_json(const Explanation& it) {
  const auto word = [&](int index, const std::string& piece, int pieces) {
    return Json{{"word", it.words[static_cast<std::size_t>(index)].text},
                {"index", index},
                {"piece", piece},
                {"pieces", pieces}};
  };
  Json rivals = Json::array();
  for (const Rival& rival : it.rivals) {
    rivals.push_back({{"piece", rival.piece},
                      {"dot", rival.dot},
                      {"score", rival.score},
                      {"exp", rival.e},
                      {"weight", rival.weight},
                      {"engine", exact(rival.engine)},
                      {"share", rival.share}});
  }
  const Rival& key = it.rivals[static_cast<std::size_t>(it.key)];
  Json json = {{"schema", kSchema},
               {"query", word(it.query_word, it.query_piece, it.query_pieces)},
               {"key", word(it.key_word, it.key_piece, it.key_pieces)},
               {"layer", it.layer},
               {"head", it.head},
               {"role", role_name(it.role)},
               {"q", it.q},
               {"k", it.k},
               {"dot", key.dot},
               {"scale", it.scale},
               {"score", key.score},
               {"largest_score", it.largest},
               {"sum", it.sum},
               {"weight", key.weight},
               {"engine", exact(key.engine)},
               {"rivals", std::move(rivals)},
               {"v", it.v},
               {"output", it.output},
               {"share", key.share},
               {"output_difference", it.output_difference},
               {"word_weight", it.word_weight},
               {"word_engine", exact(it.word_engine)}};
  if (!it.role.name.empty()) {  // apart: "score" is q·k/√d_k here
    json["measured"] = Json::object();
    add_measurement(json["measured"], it.role);
  }
  return dump(json);
}

std::string to_json(const std::vector<Claim>& claims) {
  Json list = Json::array();
  for (const Claim& claim : claims) {
    Json numbers = Json::array();
    for (const std::vector<double>& row : claim.rows) {
      Json named = Json::object();
      for (std::size_t c = 0; c < claim.columns.size(); ++c) named[claim.columns[c]] = row[c];
      numbers.push_back(std::move(named));
    }
    list.push_back({{"id", claim.id},
                    {"claim", claim.statement},
                    {"true", claim.holds},
                    {"expected", claim.expected},
                    {"method", claim.method},
                    {"numbers", std::move(numbers)}});
  }
  return dump({{"schema", kSchema}, {"claims", std::move(list)}});
}

std::string to_json(const TranslationReport& translation) {
  Json source = Json::array();
  Json target = Json::array();
  Json weights = Json::array();
  std::size_t source_words = 0;
  for (const Alignment& alignment : translation.alignments)
    source_words += static_cast<std::size_t>(alignment.source_words);
  std::size_t first = 0;  // the sentence's place among all source words
  for (const Alignment& alignment : translation.alignments) {
    for (int s = 0; s < alignment.source_words; ++s)
      source.push_back(alignment.source[static_cast<std::size_t>(s)].text);
    for (int t = 0; t < alignment.target_words; ++t) {
      target.push_back(alignment.target[static_cast<std::size_t>(t)].text);
      std::vector<double> row(source_words, 0.0);
      for (int s = 0; s < alignment.source_words; ++s)
        row[first + static_cast<std::size_t>(s)] = exact(alignment.at(t, s));
      weights.push_back(std::move(row));
    }
    first += static_cast<std::size_t>(alignment.source_words);
  }
  return dump({{"schema", kSchema},
               {"source", std::move(source)},
               {"target", std::move(target)},
               {"text", translation.text},
               {"alignment", std::move(weights)},
               {"source_language", translation.source_language},
               {"target_language", translation.target_language},
               {"cut", translation.cut}});
}

std::string to_json(const SearchReport& report) {
  const auto single = [](double value) { return exact(static_cast<float>(value)); };
  Json hits = Json::array();
  for (const SearchHit& hit : report.hits) {
    Json words = Json::array();
    for (const WordMatch& word : hit.words)
      words.push_back({{"word", word.word},
                       {"index", word.index},
                       {"like", word.like},
                       {"similarity", single(word.similarity)}});
    hits.push_back({{"title", hit.title},
                    {"weight", single(hit.weight)},
                    {"score", single(hit.score)},
                    {"row", hit.row},
                    {"line", hit.line},
                    {"words", std::move(words)}});
  }
  return dump({{"schema", kSchema},
               {"query", report.query},
               {"file", report.file},
               {"column", report.column},
               {"model", report.model},
               {"rows", report.rows},
               {"skipped", report.skipped},
               {"blank", report.blank},
               {"temperature", report.temperature},
               {"hits", std::move(hits)},
               {"remainder", single(report.remainder)},
               {"entropy", single(report.entropy)}});
}

namespace {

Json numbers(std::span<const float> values) {
  Json list = Json::array();
  for (const float value : values) list.push_back(exact(value));
  return list;
}

Json find_reading(const FindReadings& all, const FindAsker& asker, const FindReading& it) {
  Json json = {{"words", numbers(it.words)},
               {"patches", rows(it.patches, static_cast<std::size_t>(all.side))}};
  if (asker.cover.empty()) return json;
  const OnObject on = on_object(all, asker, it);
  json["on_object"] = on.share;
  json["by_chance"] = on.chance;
  return json;
}

Json find_readings(const FindReadings& all) {
  Json asked = Json::array();
  for (const FindAsker& asker : all.asked) {
    Json layers = Json::array();
    for (const FindLayer& layer : asker.layers) {
      Json json = find_reading(all, asker, layer.mean);
      Json heads = Json::array();
      for (const FindReading& head : layer.heads) heads.push_back(find_reading(all, asker, head));
      json["heads"] = std::move(heads);
      layers.push_back(std::move(json));
    }
    asked.push_back({{"object", asker.object < 0 ? Json(nullptr) : Json(asker.object)},
                     {"score", exact(asker.score)},
                     {"layers", std::move(layers)}});
  }
  Json marks = Json::array();
  for (std::size_t i = static_cast<std::size_t>(all.prompt_words); i < all.words.size(); ++i)
    marks.push_back(all.words[i].text);
  return {{"words", texts(all.words, all.prompt_words)},
          {"specials", std::move(marks)},
          {"side", all.side},
          {"asked", std::move(asked)}};
}

}  // namespace

std::string to_json(const FindReport& report) {
  const Json size = {report.height, report.width};
  Json objects = Json::array();
  for (const FoundObject& object : report.objects)
    objects.push_back(
        {{"score", exact(object.score)},
         {"bbox", {exact(object.x), exact(object.y), exact(object.width), exact(object.height)}},
         {"area", object.area},
         {"segmentation", {{"size", size}, {"counts", object.counts}}}});
  Json json = {{"schema", kSchema},
               {"prompt", report.prompt},
               {"language", report.language},
               {"file", report.file},
               {"model", report.model},
               {"size", size},
               {"presence", exact(report.presence)},
               {"present", report.present},
               {"objects", std::move(objects)}};
  if (report.objects.empty()) json["sentence"] = nothing_found(report);
  if (report.read) json["read"] = find_readings(*report.read);
  return dump(json);
}

}  // namespace qkv::lens
