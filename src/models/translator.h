// Text in, translation out: tokenizer, Marian model and search in one object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layers/tape.h"
#include "models/roles.h"
#include "models/stopped.h"
#include "models/tokenizer.h"

namespace qkv::models {

struct TranslateOptions {
  // Language of the result, e.g. "zh" or "en"; empty (default): the other one than the text's.
  std::string to = {};
  // Beams of the search; 1 is greedy. 0 (default): what generation_config.json says.
  int beams = 0;
  // Record the source weights of every produced piece.
  bool alignment = false;
  // Sentences that are computed together by translate(texts).
  int batch = 32;
  // Threads at most; 0 (default): as many as the machine has. Results do not depend on it.
  int threads = 0;
  // Asked before every step of the decoder; true ends the call with Stopped.
  std::function<bool()> stop = {};
  // Called after every finished batch with (texts done, texts in all); one call at a time, from any of the threads.
  std::function<void(std::size_t, std::size_t)> progress = {};
};

struct Translation {
  std::string text;
  std::string source_language;  // "en", "zh"
  std::string target_language;
  std::vector<Piece> source;  // what the encoder read; offsets into the given text
  std::vector<Piece>
      target;  // what the decoder wrote, end of sentence included; offsets into `text`
  std::vector<float>
      alignment;  // [target, source] weights of the alignment head, rows add to 1; empty unless asked
  double score = 0;  // sum of log-probabilities, divided by length^length_penalty under beam search
  bool cut = false;  // true if the longest allowed length ended it
};

// What the encoder saw of one text.
struct Encoding {
  std::string source_language;
  std::string target_language;  // the language token that was put in front
  std::vector<Piece> pieces;    // offsets into the given text
  std::vector<float> states;    // [pieces, d_model] the encoder's output
};

class Translator {
 public:
  // A folder with config.json, generation_config.json, model.safetensors, source.spm, target.spm, vocab.json and,
  // optionally, roles.json. Throws std::runtime_error naming the file and what is wrong with it.
  static Translator load(const std::filesystem::path& folder);

  Translator(Translator&&) noexcept;
  Translator& operator=(Translator&&) noexcept;
  ~Translator();

  // The same tokenizer and architecture with the weights that training begins with (initial.h): what there was before anything was
  // learned. It has no measured roles.
  Translator untrained(std::uint64_t seed) const;

  // Throws std::invalid_argument for text that is empty, not UTF-8 or longer than the model's positions, and for a
  // language that the model lacks. May be called from many threads at once.
  Translation translate(std::string_view text, const TranslateOptions& options = {}) const;

  // The same bits as one by one, in the order of the texts; an error names the text by its number, from 1. An empty text
  // gives an empty translation.
  std::vector<Translation> translate(std::span<const std::string> texts,
                                     const TranslateOptions& options = {}) const;

  // The encoder alone. The tape, if given, receives one record per encoder layer. `to` as in TranslateOptions.
  Encoding encode(std::string_view text, layers::AttentionTape* tape = nullptr,
                  std::string_view to = {}) const;

  // Encoder and decoder over a given translation (target: what Translation::target holds), for looking: the tape receives
  // every encoder layer, then self and cross of every decoder layer. Query i of the decoder's records is the step that
  // produced target[i].
  void replay(const Translation& translation, layers::AttentionTape& tape) const;

  // "zh" if the text has Han characters, "en" otherwise.
  static std::string detect_language(std::string_view text);

  const std::vector<HeadRole>& roles() const;
  const Tokenizer& tokenizer() const;
  int encoder_layers() const;
  int encoder_heads() const;
  int decoder_layers() const;
  int decoder_heads() const;
  // Most pieces that a text may have, language token and end of sentence included.
  int max_pieces() const;

 private:
  struct Impl;
  explicit Translator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qkv::models
