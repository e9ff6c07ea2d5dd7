// The data of a run for the page: docs/page.md lists the fields, page/data.js reads them.
#include <algorithm>
#include <stdexcept>

#include "lens/page.h"
#include "lens/page_parts.h"
#include "qkv/isa.h"

namespace qkv::lens {
namespace {

using Json = PageJson;
using layers::AttentionRecord;

// Above this many weights a run carries those of the heads it opens with; the page computes others from q, k and lse. The same for
// the outputs of heads and the weights before training, which the page cannot compute. With them a page of 30 words stays under a
// megabyte.
constexpr std::int64_t kMostWeights = 30000;
constexpr std::int64_t kMostOthers = 12000;

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

Json layers_of(std::span<const AttentionRecord* const> records,
               std::span<const models::HeadRole> roles, const Carried& carried) {
  Json list = Json::array();
  for (int i = 0; i < static_cast<int>(records.size()); ++i)
    list.push_back(page_layer(
        *records[static_cast<std::size_t>(i)], roles,
        [&](int head) {
          return carried.holds({i, head}, kMostWeights);
        },
        [&](int head) {
          return carried.holds({i, head}, kMostOthers);
        }));
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
               {"query", page_side(run.text, run.language, run.pieces, map)},
               {"key", nullptr},
               {"asked", asking},
               {"open", nullptr},
               {"fitting", choices(fitting)},
               {"layers", layers_of(records, run.roles, carried)},
               {"untrained", nullptr}};
  if (run.untrained != nullptr)
    json["untrained"] = untrained_of(encoder_records(*run.untrained), carried);
  if (options.layer >= 0) json["open"] = {options.layer, options.head};
  return page_text(json);
}

std::string page_data(const TranslationRun& run) {
  const std::vector<const AttentionRecord*> records = cross_records(*run.tape);
  const PieceMap target(run.target_text, run.target_pieces);
  const PieceMap source(run.source_text, run.source_pieces);
  const std::vector<std::vector<HeadChoice>> fitting = aligning_heads(run, records, target, source);
  const Carried carried(records, fitting);
  Json untrained = nullptr;
  if (run.untrained != nullptr) untrained = untrained_of(cross_records(*run.untrained), carried);
  return page_text(
      {{"schema", 1},
       {"kind", "translate"},
       {"version", version()},
       {"isa", isa()},
       {"query", page_side(run.target_text, run.target_language, run.target_pieces, target)},
       {"key", page_side(run.source_text, run.source_language, run.source_pieces, source)},
       {"asked", Json::array()},
       {"open", nullptr},
       {"fitting", choices(fitting)},
       {"layers", layers_of(records, run.roles, carried)},
       {"untrained", std::move(untrained)}});
}

}  // namespace qkv::lens
