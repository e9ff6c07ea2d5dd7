#include "lens/search_report.h"

#include <algorithm>
#include <cmath>

#include "lens/piece_map.h"

namespace qkv::lens {
namespace {

using State = std::vector<double>;

double dot(const State& a, const State& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return sum;
}

double cosine(const State& a, const State& b) {
  const double lengths = std::sqrt(dot(a, a) * dot(b, b));
  return lengths > 0 ? dot(a, b) / lengths : 0;
}

// The words of a text with their states; without punctuation and without what the encoder did not read.
struct Words {
  std::vector<std::string> text;
  std::vector<State> states;
};

Words words_of(std::string_view text, const models::TokenStates& tokens) {
  Words words;
  const PieceMap map(text, tokens.pieces);
  const std::size_t dim = tokens.states.size() / std::max<std::size_t>(tokens.pieces.size(), 1);
  for (int w = 0; w < map.sentence_words(); ++w) {
    const Word& word = map.words()[static_cast<std::size_t>(w)];
    if (word.kind != WordKind::word || map.pieces_of(w).empty()) continue;
    State state(dim);
    for (const PieceMap::Part& part : map.pieces_of(w))
      for (std::size_t d = 0; d < dim; ++d)
        state[d] += static_cast<double>(part.share) *
                    tokens.states[static_cast<std::size_t>(part.index) * dim + d];
    words.text.push_back(word.text);
    words.states.push_back(std::move(state));
  }
  return words;
}

}  // namespace

std::vector<WordMatch> match_words(std::string_view title, const models::TokenStates& title_states,
                                   std::string_view query,
                                   const models::TokenStates& query_states) {
  const Words mine = words_of(title, title_states), theirs = words_of(query, query_states);
  std::vector<WordMatch> matches;
  for (std::size_t i = 0; i < mine.text.size(); ++i) {
    WordMatch match;
    match.word = mine.text[i];
    match.index = static_cast<int>(i);
    match.similarity = -1;
    for (std::size_t j = 0; j < theirs.text.size(); ++j) {
      const double similarity = cosine(mine.states[i], theirs.states[j]);
      if (similarity <= match.similarity) continue;
      match.similarity = similarity;
      match.like = theirs.text[j];
    }
    if (!theirs.text.empty()) matches.push_back(std::move(match));
  }
  return matches;
}

}  // namespace qkv::lens
