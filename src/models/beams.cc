#include "models/beams.h"

#include <algorithm>
#include <cmath>

namespace qkv::models {
namespace {

// generate() puts a beam out of the running by this much instead of removing it.
constexpr float kNever = -1.0e9f;

}  // namespace

Beams::Beams(const GenerationConfig& config) : config_(config) {
  const int ends = static_cast<int>(config.eos_token_ids.size());
  wanted_ = std::max(2, 1 + ends) * config.num_beams;
  nodes_.push_back({config.decoder_start_token_id, -1, 0, -1});
  // All beams start alike; only the first may be continued at first.
  running_.resize(static_cast<std::size_t>(config.num_beams), {0, kNever});
  running_[0].score = 0;
  ended_.resize(static_cast<std::size_t>(config.num_beams), {0, kNever, false});
}

bool Beams::all_real() const {
  return std::all_of(ended_.begin(), ended_.end(), [](const Ended& e) { return e.real; });
}

// In float, with the power computed in double, as torch divides a float tensor by a Python number.
float Beams::penalised(float score, int length) const {
  return score / static_cast<float>(std::pow(static_cast<double>(length),
                                             static_cast<double>(config_.length_penalty)));
}

void Beams::advance(const std::vector<Candidate>& candidates, const std::vector<int>& rows) {
  const auto beams = static_cast<std::size_t>(config_.num_beams);
  const int length = length_ + 1;
  const bool longest = 1 + length >= config_.max_length;
  std::vector<Running> next;
  std::vector<Ended> merged = ended_;
  const bool closed =
      (all_real() && config_.early_stopping == EarlyStopping::when_full) || !may_improve_;
  bool all_end = true;
  for (std::size_t rank = 0; rank < candidates.size(); ++rank) {
    const Candidate& candidate = candidates[rank];
    const bool is_end = std::find(config_.eos_token_ids.begin(), config_.eos_token_ids.end(),
                                  candidate.id) != config_.eos_token_ids.end();
    const bool ends = is_end || longest;
    all_end &= ends;
    const auto beam = static_cast<std::size_t>(candidate.beam);
    nodes_.push_back({candidate.id, running_[beam].node, length, rows[beam]});
    const int node = static_cast<int>(nodes_.size()) - 1;
    next.push_back({node, ends ? candidate.score + kNever : candidate.score});
    // Only the best num_beams may end; the rest are there to be continued.
    if (ends && rank < beams && !closed)
      merged.push_back({node, penalised(candidate.score, length), true});
  }
  const auto better = [](const auto& a, const auto& b) { return a.score > b.score; };
  std::stable_sort(next.begin(), next.end(), better);
  next.resize(beams, {0, kNever});
  std::stable_sort(merged.begin(), merged.end(), better);
  merged.resize(beams);
  running_ = std::move(next);
  ended_ = std::move(merged);
  length_ = length;

  const bool hopes_for_length =
      config_.early_stopping == EarlyStopping::never && config_.length_penalty > 0;
  const float hope =
      penalised(running_[0].score, hopes_for_length ? config_.max_length - 1 : length_);
  const float worst = all_real() ? ended_.back().score : kNever;
  may_improve_ = may_improve_ && hope > worst;
  const bool full = all_real() && config_.early_stopping == EarlyStopping::when_full;
  finished_ = !may_improve_ || full || all_end;
}

}  // namespace qkv::models
