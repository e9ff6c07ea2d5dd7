// The bookkeeping of one sentence's beam search, as transformers' GenerationMixin._beam_search does it.
#pragma once

#include <cstdint>
#include <vector>

#include "models/config.h"

namespace qkv::models {

// A possible next id of one beam.
struct Candidate {
  float score = 0;  // Σ log p, this id included
  int beam = 0;     // rank of the running beam it continues
  int id = 0;
};

class Beams {
 public:
  explicit Beams(const GenerationConfig& config);

  // One id written by one beam; the chain of parents is what the beam has written. Node 0 is the start id.
  struct Node {
    int id = 0;
    int parent = -1;
    int length = 0;  // ids after the start id
    int row = -1;    // the row, within the sentence, that was asked for this id
  };
  struct Running {
    int node = 0;
    float score = 0;
  };

  // Best first; always as many as num_beams.
  const std::vector<Running>& running() const { return running_; }
  const Node& node(int index) const { return nodes_[static_cast<std::size_t>(index)]; }
  // Candidates that one step looks at.
  int wanted() const { return wanted_; }
  bool finished() const { return finished_; }

  // The best `wanted()` continuations of all running beams, best first; rows[rank] is the row that beam `rank` stood in.
  void advance(const std::vector<Candidate>& candidates, const std::vector<int>& rows);

  // The best ended beam: its last node and its score.
  Running best() const { return {ended_.front().node, ended_.front().score}; }

 private:
  struct Ended {
    int node = 0;
    float score = 0;
    bool real = false;  // a hypothesis, and no empty slot
  };

  bool all_real() const;
  float penalised(float score, int length) const;

  const GenerationConfig& config_;
  int wanted_ = 0;
  int length_ = 0;  // ids written so far by every running beam
  bool may_improve_ = true;
  bool finished_ = false;
  std::vector<Node> nodes_;
  std::vector<Running> running_;
  std::vector<Ended> ended_;
};

}  // namespace qkv::models
