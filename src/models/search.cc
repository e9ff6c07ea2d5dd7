#include "models/search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "kernels/rows.h"
#include "models/beams.h"

namespace qkv::models {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

bool ends(const GenerationConfig& config, int id) {
  return std::find(config.eos_token_ids.begin(), config.eos_token_ids.end(), id) !=
         config.eos_token_ids.end();
}

void force(std::span<float> scores, std::span<const int> ids) {
  std::fill(scores.begin(), scores.end(), kForbidden);
  for (const int id : ids) scores[id] = 0;
}

// Forbids every id that would complete an n-gram which `written` already has.
void forbid_repeated_ngrams(std::span<const int> written, std::size_t n, std::span<float> scores) {
  if (written.size() + 1 < n) return;
  const auto last = written.last(n - 1);
  for (std::size_t i = 0; i + n <= written.size(); ++i)
    if (std::equal(last.begin(), last.end(), written.begin() + static_cast<std::ptrdiff_t>(i)))
      scores[written[i + n - 1]] = kForbidden;
}

float largest(std::span<const float> values) {
  return kernels::row_kernels().largest(values.data(), std::ssize(values));
}

// ln Σ e^(x − max)
float log_sum_exp(std::span<const float> values, float max) {
  return std::log(kernels::row_kernels().sum_of_exp(values.data(), std::ssize(values), max));
}

// values ← ln softmax(values)
void log_softmax(std::span<float> values) {
  const float max = largest(values);
  const float rest = log_sum_exp(values, max);
  for (float& v : values) v = (v - max) - rest;
}

// The `wanted` largest of score + scores[id], merged into `best`, which is sorted, best first.
void add_candidates(std::span<const float> scores, float score, int beam, std::size_t wanted,
                    std::vector<Candidate>& best) {
  constexpr std::size_t kBlock = 64;
  for (std::size_t from = 0; from < scores.size(); from += kBlock) {
    const auto block = scores.subspan(from, std::min(kBlock, scores.size() - from));
    // whole blocks are passed over: almost no id is among the best
    if (best.size() == wanted && !(largest(block) + score > best.back().score)) continue;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const float total = block[i] + score;
      if (best.size() == wanted) {
        if (!(total > best.back().score)) continue;
        best.pop_back();
      } else if (std::isnan(total)) {
        continue;
      }
      const auto place =
          std::upper_bound(best.begin(), best.end(), total,
                           [](float value, const Candidate& c) { return value > c.score; });
      best.insert(place, {total, beam, static_cast<int>(from + i)});
    }
  }
}

// The search of all sentences that share a decoder: which rows go on, with which ids.
class GreedySearch {
 public:
  GreedySearch(MarianDecoder& decoder, const GenerationConfig& config, std::int64_t vocabulary,
               bool watches)
      : decoder_(decoder), config_(config), vocabulary_(vocabulary), watches_(watches) {}

  std::vector<SearchResult> run() {
    const auto count = static_cast<std::size_t>(decoder_.sentences());
    std::vector<SearchResult> results(count);
    std::vector<std::vector<int>> written(count, {config_.decoder_start_token_id});
    std::vector<std::size_t> active(count);
    std::iota(active.begin(), active.end(), 0);
    std::vector<int> ids;
    std::vector<std::int64_t> kept;
    while (!active.empty()) {
      ids.clear();
      for (const std::size_t s : active) ids.push_back(written[s].back());
      float* logits = decoder_.step(ids);
      kept.clear();
      for (std::size_t row = 0; row < active.size(); ++row) {
        const std::size_t s = active[row];
        const std::span<float> scores(logits + static_cast<std::int64_t>(row) * vocabulary_,
                                      static_cast<std::size_t>(vocabulary_));
        const float max = largest(scores);
        const float rest = log_sum_exp(scores, max);
        process_scores(config_, written[s], scores);
        const int id = choose(scores);
        results[s].score += (scores[id] - max) - rest;
        written[s].push_back(id);
        if (watches_) {
          const float* weights =
              decoder_.watched() + static_cast<std::int64_t>(row) * decoder_.source_tokens();
          results[s].alignment.insert(results[s].alignment.end(), weights,
                                      weights + decoder_.source_tokens());
        }
        const bool ended = ends(config_, id);
        if (ended || static_cast<int>(written[s].size()) >= config_.max_length) {
          results[s].ids.assign(written[s].begin() + 1, written[s].end());
          results[s].cut = !ended;
        } else {
          kept.push_back(static_cast<std::int64_t>(row));
        }
      }
      if (kept.size() == active.size()) continue;
      for (std::size_t i = 0; i < kept.size(); ++i)
        active[i] = active[static_cast<std::size_t>(kept[i])];
      active.resize(kept.size());
      decoder_.keep(kept);
    }
    return results;
  }

 private:
  static int choose(std::span<const float> scores) {
    const float max = largest(scores);
    const auto found = std::find(scores.begin(), scores.end(), max);
    return found == scores.end() ? 0 : static_cast<int>(found - scores.begin());
  }

  MarianDecoder& decoder_;
  const GenerationConfig& config_;
  std::int64_t vocabulary_;
  bool watches_;
};

// One sentence of a beam search. Its beams stand in as many rows of the decoder, in any order: a beam keeps its parent's
// row where it can, so that caches are copied only where a beam has split. In the first step all beams are the same, and
// stand in one row.
struct BeamSentence {
  explicit BeamSentence(const GenerationConfig& config)
      : beams(config), rows(static_cast<std::size_t>(config.num_beams), 0) {}
  Beams beams;
  std::vector<int>
      rows;  // rows[rank]: where running beam `rank` stands, counted from the sentence's first row
  std::vector<std::vector<float>> watched;  // of each step [rows, source tokens]
  std::vector<Candidate> candidates;
};

class BeamSearch {
 public:
  BeamSearch(MarianDecoder& decoder, const GenerationConfig& config, std::int64_t vocabulary,
             bool watches)
      : decoder_(decoder), config_(config), vocabulary_(vocabulary), watches_(watches) {}

  std::vector<SearchResult> run() {
    const auto count = static_cast<std::size_t>(decoder_.sentences());
    std::size_t width = 1;  // rows of a sentence
    std::vector<SearchResult> results(count);
    std::vector<std::unique_ptr<BeamSentence>> active;
    std::vector<std::size_t> index(count);  // of active[i] in results
    for (std::size_t s = 0; s < count; ++s)
      active.push_back(std::make_unique<BeamSentence>(config_));
    std::iota(index.begin(), index.end(), 0);
    std::vector<int> ids;
    std::vector<std::int64_t> kept;
    while (!active.empty()) {
      ids.assign(active.size() * width, 0);
      for (std::size_t s = 0; s < active.size(); ++s)
        for (std::size_t rank = 0; rank < active[s]->rows.size(); ++rank)
          ids[s * width + static_cast<std::size_t>(active[s]->rows[rank])] =
              active[s]->beams.node(active[s]->beams.running()[rank].node).id;
      float* logits = decoder_.step(ids);
      for (std::size_t s = 0; s < active.size(); ++s)
        advance(*active[s], logits + static_cast<std::int64_t>(s * width) * vocabulary_, s, width);
      if (width == 1) {
        width = static_cast<std::size_t>(config_.num_beams);
        decoder_.branch(config_.num_beams);
      }
      kept.clear();
      for (std::size_t s = 0; s < active.size(); ++s) {
        if (active[s]->beams.finished()) {
          results[index[s]] = result_of(*active[s]);
        } else {
          place_rows(*active[s], static_cast<std::int64_t>(s * width));
          kept.push_back(static_cast<std::int64_t>(s));
        }
      }
      if (kept.size() == active.size()) continue;
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const auto from = static_cast<std::size_t>(kept[i]);
        if (from != i) active[i] = std::move(active[from]);
        index[i] = index[from];
      }
      active.resize(kept.size());
      decoder_.keep(kept);
    }
    return results;
  }

 private:
  // logits [width, vocabulary] of sentence `index` among those that share the decoder
  void advance(BeamSentence& sentence, float* logits, std::size_t index, std::size_t width) {
    const auto& running = sentence.beams.running();
    sentence.candidates.clear();
    for (std::size_t rank = 0; rank < running.size(); ++rank) {
      const std::span<float> scores(logits + sentence.rows[rank] * vocabulary_,
                                    static_cast<std::size_t>(vocabulary_));
      if (rank < width) {
        log_softmax(scores);
        process_scores(config_, written(sentence.beams, running[rank].node), scores);
      }
      add_candidates(scores, running[rank].score, static_cast<int>(rank),
                     static_cast<std::size_t>(sentence.beams.wanted()), sentence.candidates);
    }
    if (watches_) {
      const auto size = static_cast<std::int64_t>(width) * decoder_.source_tokens();
      const float* weights = decoder_.watched() + static_cast<std::int64_t>(index) * size;
      sentence.watched.emplace_back(weights, weights + size);
    }
    sentence.beams.advance(sentence.candidates, sentence.rows);
  }

  const std::vector<int>& written(const Beams& beams, int node) {
    written_.clear();
    for (; node >= 0; node = beams.node(node).parent) written_.push_back(beams.node(node).id);
    std::reverse(written_.begin(), written_.end());
    return written_;
  }

  // Gives every new beam a row: its parent's if no better beam has taken it, else one whose own beam has died.
  void place_rows(BeamSentence& sentence, std::int64_t first_row) {
    const auto& running = sentence.beams.running();
    const std::size_t width = running.size();
    taken_.assign(width, false);
    std::vector<int>& rows = sentence.rows;
    for (std::size_t rank = 0; rank < width; ++rank) {
      const int parent = std::max(sentence.beams.node(running[rank].node).row, 0);
      rows[rank] = taken_[static_cast<std::size_t>(parent)] ? -1 : parent;
      taken_[static_cast<std::size_t>(parent)] = true;
    }
    std::size_t free = 0;
    for (std::size_t rank = 0; rank < width; ++rank) {
      if (rows[rank] >= 0) continue;
      while (taken_[free]) ++free;
      taken_[free] = true;
      rows[rank] = static_cast<int>(free);
      const int parent = std::max(sentence.beams.node(running[rank].node).row, 0);
      decoder_.copy_row(first_row + parent, first_row + rows[rank]);
    }
  }

  SearchResult result_of(const BeamSentence& sentence) {
    SearchResult result;
    const Beams::Running best = sentence.beams.best();
    const std::vector<int>& all = written(sentence.beams, best.node);
    result.ids.assign(all.begin() + 1, all.end());
    result.score = best.score;
    result.cut = result.ids.empty() || !ends(config_, result.ids.back());
    if (watches_) {
      const std::int64_t tokens = decoder_.source_tokens();
      result.alignment.resize(result.ids.size() * static_cast<std::size_t>(tokens));
      for (int node = best.node; node > 0; node = sentence.beams.node(node).parent) {
        const Beams::Node& at = sentence.beams.node(node);
        const std::int64_t step = at.length - 1;
        std::copy_n(sentence.watched[static_cast<std::size_t>(step)].data() + at.row * tokens,
                    tokens, result.alignment.data() + step * tokens);
      }
    }
    return result;
  }

  MarianDecoder& decoder_;
  const GenerationConfig& config_;
  std::int64_t vocabulary_;
  bool watches_;
  std::vector<int> written_;
  std::vector<bool> taken_;
};

// Weights were noted for the longest sentence of the memory; a sentence keeps those of its own tokens.
void narrow_alignment(SearchResult& result, std::int64_t tokens, std::int64_t length) {
  if (tokens == length) return;
  std::vector<float> narrow;
  for (std::size_t i = 0; i < result.ids.size(); ++i) {
    const float* row = result.alignment.data() + static_cast<std::int64_t>(i) * tokens;
    narrow.insert(narrow.end(), row, row + length);
  }
  result.alignment = std::move(narrow);
}

}  // namespace

void process_scores(const GenerationConfig& config, std::span<const int> written,
                    std::span<float> scores) {
  const auto length = static_cast<int>(written.size());
  if (config.repetition_penalty != 1) {
    std::vector<int> once(written.begin(), written.end());
    std::sort(once.begin(), once.end());
    once.erase(std::unique(once.begin(), once.end()), once.end());
    for (const int id : once)
      scores[id] = scores[id] < 0 ? scores[id] * config.repetition_penalty
                                  : scores[id] / config.repetition_penalty;
  }
  if (config.no_repeat_ngram_size > 0)
    forbid_repeated_ngrams(written, static_cast<std::size_t>(config.no_repeat_ngram_size), scores);
  for (const std::vector<int>& word : config.bad_words_ids) {
    if (word.size() == 1 && ends(config, word[0]))
      continue;  // generate() never forbids the end alone
    if (word.size() > written.size() + 1) continue;
    if (std::equal(word.begin(), word.end() - 1,
                   written.end() - static_cast<std::ptrdiff_t>(word.size() - 1)))
      scores[word.back()] = kForbidden;
  }
  if (length < config.min_length)
    for (const int id : config.eos_token_ids) scores[id] = kForbidden;
  if (config.forced_bos_token_id && length == 1)
    force(scores, std::array{*config.forced_bos_token_id});
  if (!config.forced_eos_token_ids.empty() && length == config.max_length - 1)
    force(scores, config.forced_eos_token_ids);
  for (const int id : config.suppress_tokens) scores[id] = kForbidden;
  if (length == (config.forced_bos_token_id ? 2 : 1))
    for (const int id : config.begin_suppress_tokens) scores[id] = kForbidden;
  if (config.renormalize_logits) log_softmax(scores);
}

std::vector<SearchResult> search(const Marian& model, Marian::Memory memory,
                                 const GenerationConfig& config, const WatchedHead* watched,
                                 int threads, const std::function<bool()>& stop) {
  const std::vector<std::int32_t> lengths = memory.lengths;
  const std::int64_t tokens = memory.tokens;
  MarianDecoder decoder(model, std::move(memory), threads);
  if (watched != nullptr) decoder.watch(watched->layer, watched->head);
  decoder.stop_when(stop);
  std::vector<SearchResult> results =
      config.num_beams == 1
          ? GreedySearch(decoder, config, model.vocabulary(), watched != nullptr).run()
          : BeamSearch(decoder, config, model.vocabulary(), watched != nullptr).run();
  if (watched != nullptr)
    for (std::size_t s = 0; s < results.size(); ++s)
      narrow_alignment(results[s], tokens, lengths[s]);
  return results;
}

}  // namespace qkv::models
