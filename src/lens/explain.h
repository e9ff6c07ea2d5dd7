// One weight from the bottom up: query_dot_keys → softmax → weighted_sum_values, recomputed in double precision from the q, k
// and v of a run, beside the number that the engine gave.
#pragma once

#include <string>
#include <vector>

#include "lens/report.h"

namespace qkv::lens {

// A key that competes for the query's attention.
struct Rival {
  std::string piece;  // as shown
  double dot = 0;     // q·k
  double score = 0;   // q·k · scale
  double e = 0;       // e^(score − largest score)
  double weight = 0;  // e / Σ e
  float engine = 0;   // the same weight by qkv::weights
  double share =
      0;  // of the output: (weight·v)·output / output·output; shares of all keys add to 1
};

struct Explanation {
  std::vector<Word> words;  // of the sentence, then the special ones
  int query_word = 0;
  int key_word = 0;
  int layer = 0;
  int head = 0;
  Role role;

  // The two pieces that are followed: of the pairs of the two words' pieces the one with the largest weight.
  std::string query_piece;
  std::string key_piece;
  std::vector<double> q;         // [d_k]
  std::vector<double> k;         // [d_k]
  double scale = 0;              // 1/√d_k unless the model says otherwise
  std::vector<Rival> rivals;     // every key, in the order of the sentence
  int key = 0;                   // which of them is the one asked for
  double largest = 0;            // the largest score
  double sum = 0;                // Σ e
  std::vector<double> v;         // [d_v] the key's value
  std::vector<double> output;    // [d_v] Σ weight·v over all keys
  double output_difference = 0;  // largest difference from qkv::attention's output

  // The words' weight: summed over the key word's pieces, averaged over the query word's.
  int query_pieces = 0;
  int key_pieces = 0;
  double word_weight = 0;  // recomputed
  float word_engine = 0;   // from the engine's weights, as the report shows it
};

struct ExplainOptions {
  std::string query;  // a word of the sentence; empty (default): its first pronoun
  std::string key;  // a word of the sentence, or ⟨end⟩ or ⟨to …⟩, in plain letters "end" and "to"
  int layer = -1, head = -1;  // −1 (default): the head that fits the query, as in make_report
  Unit unit = Unit::words;
};

// Of a word that stands several times the first is taken.
// Throws std::invalid_argument if a word is not in the sentence or layer and head are not in the model.
Explanation explain(const Run& run, const ExplainOptions& options);

}  // namespace qkv::lens
