// A run made by hand: pieces with their places, and a tape whose weights are chosen.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "layers/tape.h"
#include "lens/report.h"
#include "models/roles.h"
#include "models/tokenizer.h"

namespace qkv::lens::testing {

// ">>zh<<", the pieces in the order of the text (a leading "▁" stands for no character), "</s>".
inline std::vector<models::Piece> pieces_of(std::string_view text,
                                            const std::vector<std::string>& spellings,
                                            const std::string& target = ">>zh<<") {
  std::vector<models::Piece> pieces;
  if (!target.empty()) pieces.push_back({1, target, 0, 0, true});
  std::size_t from = 0;
  for (const std::string& spelling : spellings) {
    const std::string marker = "▁";
    const std::string letters =
        spelling.starts_with(marker) ? spelling.substr(marker.size()) : spelling;
    const std::size_t at = text.find(letters, from);
    pieces.push_back({2, spelling, at, at + letters.size(), false});
    from = at + letters.size();
  }
  pieces.push_back({0, "</s>", text.size(), text.size(), true});
  return pieces;
}

// [pieces, pieces] for each head; every row adds to 1 and has no zero.
using Weights = std::vector<std::vector<float>>;

// A head of the record has the weights asked for: query i is the i-th unit vector, key j holds ln weight(i, j) at place i.
inline layers::AttentionRecord record_with(const std::vector<Weights>& heads, int layer) {
  layers::AttentionRecord record;
  const std::size_t n = heads.front().size();
  record.where = "encoder." + std::to_string(layer) + ".self";
  record.heads = static_cast<int>(heads.size());
  record.queries = record.keys = record.dim_k = static_cast<std::int64_t>(n);
  record.dim_v = 2;
  record.scale = 1;
  for (const Weights& weights : heads) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t d = 0; d < n; ++d) record.q.push_back(i == d ? 1.0F : 0.0F);
    }
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = 0; i < n; ++i) record.k.push_back(std::log(weights[i][j]));
      record.v.push_back(static_cast<float>(j));
      record.v.push_back(1);
    }
    for (std::size_t i = 0; i < n; ++i) record.lse.push_back(0);
  }
  return record;
}

// Every row: `at` has weight `most`, the others share the rest evenly.
inline Weights mostly(std::size_t n, std::size_t at, float most) {
  std::vector<float> row(n, (1 - most) / static_cast<float>(n - 1));
  row[at] = most;
  return Weights(n, row);
}

}  // namespace qkv::lens::testing
