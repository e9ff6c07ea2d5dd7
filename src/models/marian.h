// The Marian architecture (Junczys-Dowmunt et al. 2018; transformers' MarianMTModel): encoder, decoder with a cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "layers/embedding.h"
#include "layers/transformer.h"
#include "models/config.h"

namespace qkv::models {

class Marian {
 public:
  // Reads config.json and model.safetensors of the folder. Throws std::runtime_error naming the file, the key or the
  // tensor, what was expected and what came.
  static Marian load(const std::filesystem::path& folder);

  // The same architecture with the weights that training begins with (initial.h). `blank` is the id of padding, −1: none.
  static Marian untrained(const MarianConfig& config, std::uint64_t seed, std::int64_t blank);

  const MarianConfig& config() const { return config_; }
  std::int64_t vocabulary() const { return logits_.out(); }

  // What the encoder made of some sentences, and what each decoder layer remembers of it.
  struct Memory {
    std::vector<std::int32_t> lengths;  // [count]
    std::int64_t tokens = 0;            // the longest
    layers::Buffer states;              // [count, tokens, d_model]; rows past a length mean nothing
    std::vector<layers::Buffer> remembered;  // per decoder layer [count, tokens, keys and values]

    std::int64_t count() const { return static_cast<std::int64_t>(lengths.size()); }
    layers::Sentences sentences() const { return {count(), tokens, lengths}; }
  };

  // Ids of whole sentences, end of sentence included. A tape is for one sentence.
  // Throws std::invalid_argument for an empty or too long sentence and for ids outside the vocabulary.
  Memory encode(std::span<const std::vector<int>> sentences, int threads,
                layers::AttentionTape* tape = nullptr) const;

  // Logits [ids, vocabulary] of each next id after a given beginning (start id first), for a memory of one sentence.
  // Without `logits` only the tape is made.
  void decode(const Memory& memory, std::span<const int> ids, int threads,
              std::vector<float>* logits, layers::AttentionTape* tape = nullptr) const;

 private:
  friend class MarianDecoder;
  friend class MarianMaker;

  void check_ids(std::span<const int> ids, std::int64_t vocabulary, const char* what) const;

  MarianConfig config_;
  layers::Embedding source_;
  layers::Embedding target_;
  std::vector<layers::EncoderLayer> encoder_;
  std::vector<layers::DecoderLayer> decoder_;
  layers::Linear logits_;
};

// Writes several sentences at once, one id per step: one row for each sentence at first, `beams` of them after branch().
// Row s·beams + b is beam b of sentence s. The numbers of a row depend on its own sentence and ids only.
class MarianDecoder {
 public:
  MarianDecoder(const Marian& model, Marian::Memory memory, int threads);

  std::int64_t sentences() const { return memory_.count(); }
  std::int64_t rows() const { return memory_.count() * beams_; }
  std::int64_t source_tokens() const { return memory_.tokens; }

  // Whose weights step() notes down: a head of a decoder layer's cross-attention, or (head −1) the mean of them.
  void watch(int layer, int head);

  // What step() asks before anything else; true: it throws Stopped.
  void stop_when(std::function<bool()> stop) { stop_ = std::move(stop); }

  // ids [rows] → logits [rows, vocabulary], which the caller may change; valid until the next call.
  float* step(std::span<const int> ids);
  // Of the last step, if something is watched: [rows, source_tokens()].
  const float* watched() const { return watched_.data(); }

  // Every sentence, one row so far, gets `beams` rows that have written the same.
  void branch(int beams);
  // Row `to` goes on from what row `from` has written.
  void copy_row(std::int64_t from, std::int64_t to);
  // Goes on with these sentences only (indices ascending), which take the first places.
  void keep(std::span<const std::int64_t> sentences);

 private:
  const Marian& model_;
  Marian::Memory memory_;
  std::int64_t beams_ = 1;
  int threads_;
  std::int64_t position_ = 0;
  std::function<bool()> stop_;
  int watched_layer_ = -1;
  int watched_head_ = -1;
  std::vector<layers::KeyValueCache> caches_;
  layers::LayerScratch scratch_;
  layers::Buffer x_;
  layers::Buffer logits_;
  layers::Buffer watched_;
};

}  // namespace qkv::models
