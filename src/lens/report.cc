#include "lens/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "qkv/attention.h"

namespace qkv::lens {
namespace {

using layers::AttentionRecord;
using models::HeadRole;

constexpr float kLeastRead = 0.0005F;  // shows as 0.1%

// 0 at chance, 1 for a head that is always right; heads with different chance levels compare.
double above_chance(double score, double chance) {
  return chance < 1 ? (score - chance) / (1 - chance) : 0;
}

// Guided before measured, then by score above chance; null if no encoder head has the role.
const HeadRole* best_head(std::span<const HeadRole> roles, std::string_view role) {
  const HeadRole* best = nullptr;
  for (const HeadRole& candidate : roles) {
    if (candidate.block != "encoder" || candidate.role != role) continue;
    const auto rank = [](const HeadRole& r) {
      return std::pair(r.guided, above_chance(r.score, r.chance));
    };
    if (best == nullptr || rank(candidate) > rank(*best)) best = &candidate;
  }
  return best;
}

// Word by word weights of heads, computed once each.
class WordWeights {
 public:
  WordWeights(std::vector<const AttentionRecord*> records, const PieceMap& map)
      : records_(std::move(records)), map_(map) {}

  const std::vector<float>& of(int layer, int head) {
    auto [entry, fresh] = known_.try_emplace({layer, head});
    if (fresh)
      entry->second = map_.to_words(head_weights(*records_[static_cast<std::size_t>(layer)], head));
    return entry->second;
  }
  const std::vector<const AttentionRecord*>& records() const { return records_; }

 private:
  std::vector<const AttentionRecord*> records_;
  const PieceMap& map_;
  std::map<std::pair<int, int>, std::vector<float>> known_;
};

Reading read(std::span<const float> row, const PieceMap& map, int word, HeadChoice at,
             const Role& role, int top) {
  Reading reading = {.word = word, .layer = at.layer, .head = at.head, .role = role};
  for (int key = 0; key < static_cast<int>(row.size()); ++key) {
    const float weight = row[static_cast<std::size_t>(key)];
    if (key >= map.sentence_words()) {
      reading.specials.push_back({key, weight});
    } else if (weight >= kLeastRead) {
      reading.read.push_back({key, weight});
    }
  }
  std::stable_sort(reading.read.begin(), reading.read.end(),
                   [](const Read& a, const Read& b) { return a.weight > b.weight; });
  if (reading.read.size() > static_cast<std::size_t>(top))
    reading.read.resize(static_cast<std::size_t>(top));
  float shown = 0;
  for (const Read& item : reading.read) shown += item.weight;
  reading.remainder = std::max(0.0F, 1.0F - shown);
  return reading;
}

std::span<const float> row_of(const std::vector<float>& matrix, const PieceMap& map, int word) {
  const std::size_t keys = map.words().size();
  return std::span(matrix).subspan(static_cast<std::size_t>(word) * keys, keys);
}

HeadReport report_head(std::span<const HeadRole> roles, const PieceMap& map,
                       const std::vector<float>& matrix, HeadChoice at, std::span<const int> asking,
                       int top) {
  HeadReport report = {
      .layer = at.layer, .head = at.head, .roles = roles_of(roles, at.layer, at.head)};
  for (int word = 0; word < map.sentence_words(); ++word) {
    const std::span<const float> row = row_of(matrix, map, word);
    for (std::size_t key = 0; key < row.size(); ++key) {
      if (map.words()[key].kind == WordKind::end) report.sink += row[key];
      if (row[key] > 0) report.entropy -= row[key] * std::log(row[key]);
    }
  }
  if (map.sentence_words() > 0) {
    report.sink /= static_cast<float>(map.sentence_words());
    report.entropy /= static_cast<float>(map.sentence_words());
  }
  const Role role = report.roles.empty() ? Role{} : report.roles.front();
  for (const int word : asking)
    report.asked.push_back(read(row_of(matrix, map, word), map, word, at, role, top));
  return report;
}

// Without measured roles: the head through which the word reads another word of the sentence most strongly.
HeadChoice strongest_head(WordWeights& weights, const PieceMap& map, int word) {
  HeadChoice best;
  float most = -1;
  const auto layers = static_cast<int>(weights.records().size());
  for (int layer = 0; layer < layers; ++layer) {
    for (int head = 0; head < weights.records()[static_cast<std::size_t>(layer)]->heads; ++head) {
      const std::span<const float> row = row_of(weights.of(layer, head), map, word);
      for (int key = 0; key < map.sentence_words(); ++key) {
        if (key == word || row[static_cast<std::size_t>(key)] <= most) continue;
        most = row[static_cast<std::size_t>(key)];
        best = {layer, head};
      }
    }
  }
  return best;
}

std::vector<HeadChoice> measured_heads(std::span<const HeadRole> roles, bool pronoun) {
  std::vector<const HeadRole*> found;
  if (!pronoun) {
    const HeadRole* syntax = best_head(roles, "syntax");
    const HeadRole* meaning = best_head(roles, "meaning");
    if (syntax != nullptr && meaning != nullptr) {
      const bool first = above_chance(syntax->score, syntax->chance) >=
                         above_chance(meaning->score, meaning->chance);
      found.push_back(first ? syntax : meaning);
    } else {
      found.push_back(syntax != nullptr ? syntax : meaning);
    }
  }
  found.push_back(best_head(roles, "coreference"));
  std::vector<HeadChoice> choices;
  for (const HeadRole* role : found) {
    if (role != nullptr) choices.push_back({role->layer, role->head});
  }
  return choices;
}

std::vector<HeadChoice> choose_heads(const Run& run, WordWeights& weights, const PieceMap& map,
                                     int word) {
  const bool pronoun = map.words()[static_cast<std::size_t>(word)].pronoun;
  std::vector<HeadChoice> choices = measured_heads(run.roles, pronoun);
  std::erase_if(choices, [&](HeadChoice at) {  // roles of another model's size
    return at.layer < 0 || at.layer >= static_cast<int>(weights.records().size()) || at.head < 0 ||
           at.head >= weights.records()[static_cast<std::size_t>(at.layer)]->heads;
  });
  if (choices.empty()) choices.push_back(strongest_head(weights, map, word));
  return choices;
}

}  // namespace

std::vector<const AttentionRecord*> encoder_records(const layers::AttentionTape& tape) {
  std::vector<const AttentionRecord*> records;
  for (const AttentionRecord& record : tape) {
    if (record.where.starts_with("encoder.")) records.push_back(&record);
  }
  if (records.empty()) throw std::invalid_argument("the model has no encoder layer to look at");
  return records;
}

void check_head(std::span<const AttentionRecord* const> records, int layer, int head) {
  if (layer == -1 && head == -1) return;
  const auto layers = static_cast<int>(records.size());
  if (layer < 0 || layer >= layers) {
    throw std::invalid_argument("layer " + std::to_string(layer) + ": expected 0 to " +
                                std::to_string(layers - 1) + ", the layers of the model's encoder");
  }
  const int heads = records[static_cast<std::size_t>(layer)]->heads;
  if (head < 0 || head >= heads) {
    throw std::invalid_argument("head " + std::to_string(head) + ": expected 0 to " +
                                std::to_string(heads - 1) + ", the heads of layer " +
                                std::to_string(layer));
  }
}

std::vector<int> asking_words(std::string_view text, const PieceMap& map, Unit unit,
                              const std::string& phrase) {
  const std::string query(trim(phrase));
  std::vector<Span> places;
  std::vector<int> asking;
  if (!query.empty() && unit == Unit::pieces) {
    const std::string folded = fold_case(query);
    const std::string_view phrases[] = {query};
    for (const Word& word : split_words(text, {}, phrases)) {
      if (fold_case(word.text) == folded) places.push_back(word.at);
    }
  }
  for (int i = 0; i < map.sentence_words(); ++i) {
    const Word& word = map.words()[static_cast<std::size_t>(i)];
    bool asks = word.pronoun;
    if (!query.empty()) {
      asks = fold_case(word.text) == fold_case(query);
      for (const Span place : places)
        asks |= word.at.begin < place.end && place.begin < word.at.end;
    }
    if (asks && !map.pieces_of(i).empty()) asking.push_back(i);
  }
  if (!query.empty() && asking.empty()) {
    std::string words;
    for (int i = 0; i < std::min(map.sentence_words(), 40); ++i) {
      words += " " + map.words()[static_cast<std::size_t>(i)].text;
    }
    if (map.sentence_words() > 40) words += " …";
    throw std::invalid_argument("\"" + query +
                                "\" is not a word of the sentence; its words are:" + words);
  }
  return asking;
}

std::vector<float> head_weights(const AttentionRecord& record, int head) {
  const auto h = static_cast<std::size_t>(head);
  const auto queries = static_cast<std::size_t>(record.queries);
  const auto keys = static_cast<std::size_t>(record.keys);
  const auto dim = static_cast<std::size_t>(record.dim_k);
  AttentionOptions options;
  options.scale = record.scale;
  options.causal = record.causal ? Causal::bottom_right : Causal::no;
  options.threads = 1;
  std::vector<float> out(queries * keys);
  weights(TensorView(record.q.data() + h * queries * dim, {1, 1, record.queries, record.dim_k}),
          TensorView(record.k.data() + h * keys * dim, {1, 1, record.keys, record.dim_k}), options,
          std::span(record.lse).subspan(h * queries, queries), {0, record.queries},
          {0, record.keys}, MutableTensorView(out.data(), {1, 1, record.queries, record.keys}));
  return out;
}

std::vector<Role> roles_of(std::span<const HeadRole> roles, int layer, int head) {
  std::vector<Role> found;
  for (const HeadRole& role : roles) {
    if (role.block == "encoder" && role.layer == layer && role.head == head) {
      found.push_back({role.role, role.score, role.chance, role.guided});
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Role& a, const Role& b) {
    return above_chance(a.score, a.chance) > above_chance(b.score, b.chance);
  });
  return found;
}

Role role_for(std::span<const HeadRole> roles, HeadChoice at, bool pronoun) {
  std::vector<Role> known = roles_of(roles, at.layer, at.head);
  if (known.empty()) return {};
  for (const Role& role : known) {
    if (pronoun && role.name == "coreference") return role;
  }
  return known.front();
}

std::vector<HeadChoice> fitting_heads(const Run& run, const PieceMap& map, int word) {
  WordWeights weights(encoder_records(*run.tape), map);
  return choose_heads(run, weights, map, word);
}

Report make_report(const Run& run, const ReportOptions& options) {
  const std::string_view phrases[] = {options.query};
  const PieceMap map(run.text, run.pieces, options.unit, phrases);
  WordWeights weights(encoder_records(*run.tape), map);
  check_head(weights.records(), options.layer, options.head);
  const std::vector<int> asking = asking_words(run.text, map, options.unit, options.query);

  Report report = {.text = std::string(run.text),
                   .language = std::string(run.language),
                   .unit = options.unit,
                   .words = map.words(),
                   .sentence_words = map.sentence_words(),
                   .layers = static_cast<int>(weights.records().size()),
                   .heads = 0,
                   .query = options.query};
  for (const AttentionRecord* record : weights.records())
    report.heads = std::max(report.heads, record->heads);

  for (const int word : asking) {
    std::vector<HeadChoice> choices = choose_heads(run, weights, map, word);
    const HeadChoice wanted = {options.layer, options.head};
    if (wanted.layer >= 0 && std::find(choices.begin(), choices.end(), wanted) == choices.end()) {
      choices.push_back(wanted);
    }
    const bool pronoun = map.words()[static_cast<std::size_t>(word)].pronoun;
    for (const HeadChoice at : choices) {
      report.asked.push_back(read(row_of(weights.of(at.layer, at.head), map, word), map, word, at,
                                  role_for(run.roles, at, pronoun), options.top));
    }
  }
  if (asking.empty()) {
    for (int word = 0; word < map.sentence_words(); ++word) {
      if (map.words()[static_cast<std::size_t>(word)].kind != WordKind::word ||
          map.pieces_of(word).empty())
        continue;
      const HeadChoice at = choose_heads(run, weights, map, word).front();
      report.overview.push_back(read(row_of(weights.of(at.layer, at.head), map, word), map, word,
                                     at, role_for(run.roles, at, false), options.top));
    }
  }
  if (options.every_head) {
    for (int layer = 0; layer < report.layers; ++layer) {
      for (int head = 0; head < weights.records()[static_cast<std::size_t>(layer)]->heads; ++head) {
        report.head_reports.push_back(report_head(run.roles, map, weights.of(layer, head),
                                                  {layer, head}, asking, options.top));
      }
    }
  }
  if (options.layer >= 0) {
    report.matrix = HeadMatrix{options.layer, options.head,
                               role_for(run.roles, {options.layer, options.head}, false),
                               weights.of(options.layer, options.head)};
  }
  return report;
}

}  // namespace qkv::lens
