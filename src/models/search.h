// Greedy and beam search that choose, id for id, what transformers' generate() chooses: its logits processors, its
// scores, its rules for ending.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/config.h"
#include "models/marian.h"

namespace qkv::models {

struct SearchResult {
  std::vector<int> ids;  // without the start id, with the end id if it was reached
  double score = 0;      // Σ log p of the ids; under beam search divided by length^length_penalty
  bool cut = false;      // the longest length ended it, not the end id
  std::vector<float> alignment;  // [ids, source tokens] if the search watched a head
};

// Which head's weights to note down.
struct WatchedHead {
  int layer = 0;
  int head = -1;  // −1: the mean over the layer's heads
};

// One result for each sentence of the memory, in its order; a sentence's result does not depend on its company. `stop` is asked
// before every step; true ends the search with Stopped.
std::vector<SearchResult> search(const Marian& model, Marian::Memory memory,
                                 const GenerationConfig& config, const WatchedHead* watched,
                                 int threads, const std::function<bool()>& stop = {});

// What the logits processors of generate() do to the scores [vocabulary] of the next id after `written` (start id first).
// Order: repetition penalty, repeated n-grams, bad words, least length, forced first and last id, suppressed ids.
void process_scores(const GenerationConfig& config, std::span<const int> written,
                    std::span<float> scores);

}  // namespace qkv::models
