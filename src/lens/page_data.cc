// The data of a run for the page: docs/page.md lists the fields, page/data.js reads them.
#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "lens/page.h"
#include "qkv/isa.h"

namespace qkv::lens {
namespace {

using Json = nlohmann::ordered_json;
using layers::AttentionRecord;

// Above this many weights a run carries those of the heads it opens with; the page computes others from q, k and lse. The same for
// the outputs of heads and the weights before training, which the page cannot compute. With them a page of 30 words stays under a
// megabyte.
constexpr std::int64_t kMostWeights = 30000;
constexpr std::int64_t kMostOthers = 12000;

// RFC 4648, of the numbers as they lie in memory.
std::string base64(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little, "the page reads little-endian numbers");
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<unsigned char> bytes(values.size_bytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    unsigned group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (i < count ? static_cast<unsigned>(bytes[at + i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i)
      text += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

Json parts(const std::vector<PieceMap::Part>& list) {
  Json json = Json::array();
  for (const PieceMap::Part& part : list)
    json.push_back({part.index, static_cast<double>(part.share)});
  return json;
}

// One side of the attention: the words that ask, or those that are read.
Json side(std::string_view text, std::string_view language, std::span<const models::Piece> pieces,
          const PieceMap& map) {
  Json words = Json::array();
  for (std::size_t i = 0; i < map.words().size(); ++i) {
    const Word& word = map.words()[i];
    const std::string_view before = text.substr(0, word.at.begin);
    words.push_back({{"text", word.text},
                     {"kind", kind_name(word.kind)},
                     {"pronoun", word.pronoun},
                     {"space", !word.special() && trim(before).size() < before.size()},
                     {"pieces", parts(map.pieces_of(static_cast<int>(i)))}});
  }
  Json shown = Json::array();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    shown.push_back({{"text", pieces[i].special ? special_word(pieces[i]).text : pieces[i].text},
                     {"words", parts(map.words_of(static_cast<int>(i)))}});
  }
  return {{"text", text},
          {"language", language},
          {"words", std::move(words)},
          {"sentence", map.sentence_words()},
          {"pieces", std::move(shown)}};
}

Json roles_at(std::span<const models::HeadRole> roles, const std::string& where, int head) {
  std::vector<const models::HeadRole*> found;
  for (const models::HeadRole& role : roles) {
    if (role.head == head && role.where() == where) found.push_back(&role);
  }
  const auto above = [](const models::HeadRole* role) {
    return role->chance < 1 ? (role->score - role->chance) / (1 - role->chance) : 0;
  };
  std::stable_sort(found.begin(), found.end(),
                   [&](const auto* a, const auto* b) { return above(a) > above(b); });
  Json list = Json::array();
  for (const models::HeadRole* role : found) {
    list.push_back({{"role", role->role},
                    {"score", role->score},
                    {"chance", role->chance},
                    {"guided", role->guided}});
  }
  return list;
}

// Which heads' numbers a run carries.
class Carried {
 public:
  Carried(std::span<const AttentionRecord* const> records,
          const std::vector<std::vector<HeadChoice>>& fitting) {
    for (const AttentionRecord* record : records)
      count_ += record->heads * record->queries * record->keys;
    for (const std::vector<HeadChoice>& heads : fitting)
      opening_.insert(opening_.end(), heads.begin(), heads.end());
  }
  bool holds(HeadChoice at, std::int64_t most) const {
    return count_ <= most || std::find(opening_.begin(), opening_.end(), at) != opening_.end();
  }

 private:
  std::int64_t count_ = 0;
  std::vector<HeadChoice> opening_;
};

Json layer(const AttentionRecord& record, std::span<const models::HeadRole> roles, int index,
           const Carried& carried) {
  Json weights = Json::array();
  Json outputs = Json::array();
  Json measured = Json::array();
  const auto size = static_cast<std::size_t>(record.queries * record.dim_v);
  for (int head = 0; head < record.heads; ++head) {
    const bool has_weights = carried.holds({index, head}, kMostWeights);
    weights.push_back(has_weights ? Json(base64(head_weights(record, head))) : Json(nullptr));
    const bool has_output = !record.out.empty() && carried.holds({index, head}, kMostOthers);
    const std::span all(record.out);
    outputs.push_back(has_output
                          ? Json(base64(all.subspan(static_cast<std::size_t>(head) * size, size)))
                          : Json(nullptr));
    measured.push_back(roles_at(roles, record.where, head));
  }
  return {{"where", record.where},
          {"heads", record.heads},
          {"queries", record.queries},
          {"keys", record.keys},
          {"dim_k", record.dim_k},
          {"dim_v", record.dim_v},
          {"scale", static_cast<double>(record.scale)},
          {"causal", record.causal},
          {"q", base64(record.q)},
          {"k", base64(record.k)},
          {"v", base64(record.v)},
          {"lse", base64(record.lse)},
          {"weights", std::move(weights)},
          {"out", std::move(outputs)},
          {"roles", std::move(measured)}};
}

Json layers_of(std::span<const AttentionRecord* const> records,
               std::span<const models::HeadRole> roles, const Carried& carried) {
  Json list = Json::array();
  for (std::size_t i = 0; i < records.size(); ++i)
    list.push_back(layer(*records[i], roles, static_cast<int>(i), carried));
  return list;
}

// Of each layer and head the weights before training, or null.
Json untrained_of(std::span<const AttentionRecord* const> records, const Carried& carried) {
  Json list = Json::array();
  for (std::size_t i = 0; i < records.size(); ++i) {
    Json heads = Json::array();
    for (int head = 0; head < records[i]->heads; ++head) {
      const bool held = carried.holds({static_cast<int>(i), head}, kMostOthers);
      heads.push_back(held ? Json(base64(head_weights(*records[i], head))) : Json(nullptr));
    }
    list.push_back(std::move(heads));
  }
  return list;
}

std::vector<const AttentionRecord*> cross_records(const layers::AttentionTape& tape) {
  std::vector<const AttentionRecord*> records;
  for (const AttentionRecord& record : tape) {
    if (record.where.ends_with(".cross")) records.push_back(&record);
  }
  if (records.empty()) throw std::invalid_argument("the model has no decoder layer to look at");
  return records;
}

Json choices(const std::vector<std::vector<HeadChoice>>& fitting) {
  Json list = Json::array();
  for (const std::vector<HeadChoice>& heads : fitting) {
    Json row = Json::array();
    for (const HeadChoice at : heads) row.push_back({at.layer, at.head});
    list.push_back(std::move(row));
  }
  return list;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The head that was trained or measured to align; else, word by word, the one that reads one source word most strongly.
std::vector<std::vector<HeadChoice>> aligning_heads(const TranslationRun& run,
                                                    std::span<const AttentionRecord* const> records,
                                                    const PieceMap& target,
                                                    const PieceMap& source) {
  const std::vector<models::HeadRole> roles(run.roles.begin(), run.roles.end());
  const models::HeadRole* best = models::find_role(roles, "alignment");
  for (std::size_t i = 0; best != nullptr && i < records.size(); ++i) {
    if (records[i]->where == best->where() && best->head < records[i]->heads)
      return {target.words().size(), {{static_cast<int>(i), best->head}}};
  }
  std::vector<std::vector<HeadChoice>> fitting(target.words().size(), {{0, 0}});
  std::vector<float> most(target.words().size(), -1.0F);
  for (std::size_t i = 0; i < records.size(); ++i) {
    for (int head = 0; head < records[i]->heads; ++head) {
      const std::vector<float> weights = to_words(target, source, head_weights(*records[i], head));
      for (std::size_t word = 0; word < fitting.size(); ++word) {
        for (int key = 0; key < source.sentence_words(); ++key) {
          const float weight =
              weights[word * source.words().size() + static_cast<std::size_t>(key)];
          if (weight <= most[word]) continue;
          most[word] = weight;
          fitting[word] = {{static_cast<int>(i), head}};
        }
      }
    }
  }
  return fitting;
}

}  // namespace

std::string page_data(const Run& run, const ReportOptions& options) {
  const std::string_view phrases[] = {options.query};
  const PieceMap map(run.text, run.pieces, options.unit, phrases);
  const std::vector<const AttentionRecord*> records = encoder_records(*run.tape);
  check_head(records, options.layer, options.head);
  const std::vector<int> asking = asking_words(run.text, map, options.unit, options.query);
  std::vector<std::vector<HeadChoice>> fitting;
  for (int word = 0; word < static_cast<int>(map.words().size()); ++word)
    fitting.push_back(fitting_heads(run, map, word));
  const Carried carried(records, fitting);
  Json json = {{"schema", 1},
               {"kind", "look"},
               {"version", version()},
               {"isa", isa()},
               {"query", side(run.text, run.language, run.pieces, map)},
               {"key", nullptr},
               {"asked", asking},
               {"open", nullptr},
               {"fitting", choices(fitting)},
               {"layers", layers_of(records, run.roles, carried)},
               {"untrained", nullptr}};
  if (run.untrained != nullptr)
    json["untrained"] = untrained_of(encoder_records(*run.untrained), carried);
  if (options.layer >= 0) json["open"] = {options.layer, options.head};
  return dump(json);
}

std::string page_data(const TranslationRun& run) {
  const std::vector<const AttentionRecord*> records = cross_records(*run.tape);
  const PieceMap target(run.target_text, run.target_pieces);
  const PieceMap source(run.source_text, run.source_pieces);
  const std::vector<std::vector<HeadChoice>> fitting = aligning_heads(run, records, target, source);
  const Carried carried(records, fitting);
  Json untrained = nullptr;
  if (run.untrained != nullptr) untrained = untrained_of(cross_records(*run.untrained), carried);
  return dump({{"schema", 1},
               {"kind", "translate"},
               {"version", version()},
               {"isa", isa()},
               {"query", side(run.target_text, run.target_language, run.target_pieces, target)},
               {"key", side(run.source_text, run.source_language, run.source_pieces, source)},
               {"asked", Json::array()},
               {"open", nullptr},
               {"fitting", choices(fitting)},
               {"layers", layers_of(records, run.roles, carried)},
               {"untrained", std::move(untrained)}});
}

}  // namespace qkv::lens
