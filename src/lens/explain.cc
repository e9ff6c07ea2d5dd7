#include "lens/explain.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "qkv/attention.h"

namespace qkv::lens {
namespace {

using layers::AttentionRecord;

std::span<const float> row_of(const std::vector<float>& values, std::int64_t head,
                              std::int64_t tokens, std::int64_t dim, std::int64_t token) {
  return std::span(values).subspan(static_cast<std::size_t>((head * tokens + token) * dim),
                                   static_cast<std::size_t>(dim));
}

// a · b = Σ_d a[d]·b[d]
template <typename A, typename B>
double dot(const A& a, const B& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d)
    sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
  return sum;
}

// The scores, weights and shares of one query over every key.
struct Row {
  std::vector<Rival> rivals;
  double largest = -INFINITY;
  double sum = 0;
  std::vector<double> output;
};

Row compute_row(const AttentionRecord& record, int head, int query) {
  Row row;
  const std::span<const float> q = row_of(record.q, head, record.queries, record.dim_k, query);
  const auto visible = record.causal ? query + 1 + record.keys - record.queries : record.keys;
  row.rivals.resize(static_cast<std::size_t>(record.keys));
  // query_dot_keys: score[k] = scale · Σ_d q[d]·key[k][d]
  for (std::int64_t k = 0; k < visible; ++k) {
    Rival& rival = row.rivals[static_cast<std::size_t>(k)];
    rival.dot = dot(q, row_of(record.k, head, record.keys, record.dim_k, k));
    rival.score = rival.dot * static_cast<double>(record.scale);
    row.largest = std::max(row.largest, rival.score);
  }
  // softmax: weight[k] = e^(score[k] − largest) / Σ e^(score − largest)
  for (std::int64_t k = 0; k < visible; ++k) {
    Rival& rival = row.rivals[static_cast<std::size_t>(k)];
    rival.e = std::exp(rival.score - row.largest);
    row.sum += rival.e;
  }
  // weighted_sum_values: output[d] = Σ_k weight[k] · value[k][d]
  row.output.assign(static_cast<std::size_t>(record.dim_v), 0.0);
  for (std::int64_t k = 0; k < visible; ++k) {
    Rival& rival = row.rivals[static_cast<std::size_t>(k)];
    rival.weight = rival.e / row.sum;
    const std::span<const float> v = row_of(record.v, head, record.keys, record.dim_v, k);
    for (std::size_t d = 0; d < v.size(); ++d)
      row.output[d] += rival.weight * static_cast<double>(v[d]);
  }
  const double length = dot(row.output, row.output);
  for (std::int64_t k = 0; k < visible && length > 0; ++k) {
    Rival& rival = row.rivals[static_cast<std::size_t>(k)];
    rival.share = rival.weight *
                  dot(row.output, row_of(record.v, head, record.keys, record.dim_v, k)) / length;
  }
  return row;
}

// Largest difference between `output` and what the engine gives for this query.
double difference_from_engine(const AttentionRecord& record, int head, int query,
                              const std::vector<double>& output) {
  const std::span<const float> q = row_of(record.q, head, record.queries, record.dim_k, query);
  const std::span<const float> keys = row_of(record.k, head, record.keys, record.dim_k, 0);
  const std::span<const float> values = row_of(record.v, head, record.keys, record.dim_v, 0);
  const auto visible = record.causal ? query + 1 + record.keys - record.queries : record.keys;
  AttentionOptions options;
  options.scale = record.scale;
  options.threads = 1;
  std::vector<float> out(static_cast<std::size_t>(record.dim_v));
  AttentionOutput result;
  result.out = MutableTensorView(out.data(), {1, 1, 1, record.dim_v});
  attention(TensorView(q.data(), {1, 1, 1, record.dim_k}),
            TensorView(keys.data(), {1, 1, visible, record.dim_k}),
            TensorView(values.data(), {1, 1, visible, record.dim_v}), options, result);
  double most = 0;
  for (std::size_t d = 0; d < out.size(); ++d)
    most = std::max(most, std::abs(output[d] - static_cast<double>(out[d])));
  return most;
}

int special_named(const PieceMap& map, const std::string& name) {
  for (int i = map.sentence_words(); i < static_cast<int>(map.words().size()); ++i) {
    const Word& word = map.words()[static_cast<std::size_t>(i)];
    if (name == word.text || (word.kind == WordKind::end ? name == "end" : name == "to")) return i;
  }
  return -1;
}

// The sentence's own words come before the special ones: "to" may be either.
int find_word(std::string_view text, const PieceMap& map, Unit unit, const std::string& phrase) {
  const int special = special_named(map, phrase);
  try {
    return asking_words(text, map, unit, phrase).front();
  } catch (const std::invalid_argument&) {
    if (special < 0) throw;
    return special;
  }
}

std::string label(std::span<const models::Piece> pieces, int piece) {
  const models::Piece& it = pieces[static_cast<std::size_t>(piece)];
  return it.special ? special_word(it).text : it.text;
}

std::vector<double> as_double(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace

Explanation explain(const Run& run, const ExplainOptions& options) {
  if (trim(options.key).empty())
    throw std::invalid_argument("no key is given: name the word whose weight is explained");
  const std::string_view phrases[] = {options.query, options.key};
  const PieceMap map(run.text, run.pieces, options.unit, phrases);
  const std::vector<const AttentionRecord*> records = encoder_records(*run.tape);
  check_head(records, options.layer, options.head);

  Explanation result;
  result.words = map.words();
  const std::vector<int> asking = asking_words(run.text, map, options.unit, options.query);
  if (asking.empty())
    throw std::invalid_argument(
        "the sentence has no pronoun: name the word that asks as the query");
  result.query_word = asking.front();
  result.key_word = find_word(run.text, map, options.unit, std::string(trim(options.key)));
  const bool chosen = options.layer >= 0;
  const HeadChoice at = chosen ? HeadChoice{options.layer, options.head}
                               : fitting_heads(run, map, result.query_word)[0];
  result.layer = at.layer;
  result.head = at.head;
  result.role =
      role_for(run.roles, at, map.words()[static_cast<std::size_t>(result.query_word)].pronoun);
  const AttentionRecord& record = *records[static_cast<std::size_t>(at.layer)];

  const std::vector<float> engine = head_weights(record, at.head);
  const auto keys = static_cast<std::size_t>(record.keys);
  const std::vector<PieceMap::Part>& query_parts = map.pieces_of(result.query_word);
  const std::vector<PieceMap::Part>& key_parts = map.pieces_of(result.key_word);
  result.query_pieces = static_cast<int>(query_parts.size());
  result.key_pieces = static_cast<int>(key_parts.size());
  int query = query_parts.front().index;
  result.key = key_parts.front().index;
  Row row;
  double most = -1;
  for (const PieceMap::Part& asks : query_parts) {
    Row candidate = compute_row(record, at.head, asks.index);
    int best = key_parts.front().index;
    for (const PieceMap::Part& read : key_parts) {
      // A piece belongs to a word with the share that words_of gives; pieces_of's shares are for averaging.
      for (const PieceMap::Part& owner : map.words_of(read.index)) {
        if (owner.index != result.key_word) continue;
        const double weight = candidate.rivals[static_cast<std::size_t>(read.index)].weight;
        result.word_weight +=
            static_cast<double>(asks.share) * static_cast<double>(owner.share) * weight;
        result.word_engine += asks.share * owner.share *
                              engine[static_cast<std::size_t>(asks.index) * keys +
                                     static_cast<std::size_t>(read.index)];
      }
      if (candidate.rivals[static_cast<std::size_t>(read.index)].weight >
          candidate.rivals[static_cast<std::size_t>(best)].weight) {
        best = read.index;
      }
    }
    if (candidate.rivals[static_cast<std::size_t>(best)].weight > most) {
      most = candidate.rivals[static_cast<std::size_t>(best)].weight;
      query = asks.index;
      result.key = best;
      row = std::move(candidate);
    }
  }

  result.query_piece = label(run.pieces, query);
  result.key_piece = label(run.pieces, result.key);
  result.q = as_double(row_of(record.q, at.head, record.queries, record.dim_k, query));
  result.k = as_double(row_of(record.k, at.head, record.keys, record.dim_k, result.key));
  result.v = as_double(row_of(record.v, at.head, record.keys, record.dim_v, result.key));
  result.scale = static_cast<double>(record.scale);
  result.largest = row.largest;
  result.sum = row.sum;
  result.output_difference = difference_from_engine(record, at.head, query, row.output);
  result.output = std::move(row.output);
  result.rivals = std::move(row.rivals);
  for (std::size_t k = 0; k < result.rivals.size(); ++k) {
    result.rivals[k].piece = label(run.pieces, static_cast<int>(k));
    result.rivals[k].engine = engine[static_cast<std::size_t>(query) * keys + k];
  }
  return result;
}

}  // namespace qkv::lens
