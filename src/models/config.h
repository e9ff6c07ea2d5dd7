// config.json and generation_config.json of a Marian folder, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "layers/activation.h"

namespace qkv::models {

// config.json; the names are Hugging Face's.
struct MarianConfig {
  int d_model = 0;
  int encoder_layers = 0;
  int decoder_layers = 0;
  int encoder_attention_heads = 0;
  int decoder_attention_heads = 0;
  int encoder_ffn_dim = 0;
  int decoder_ffn_dim = 0;
  int vocab_size = 0;
  int decoder_vocab_size = 0;  // equals vocab_size where the embeddings are shared
  int max_position_embeddings = 0;
  layers::Activation activation_function = layers::Activation::relu;
  bool scale_embedding = false;
  bool share_encoder_decoder_embeddings = true;
  bool tie_word_embeddings = true;

  // Throws std::runtime_error naming the file and the key.
  static MarianConfig load(const std::filesystem::path& folder);
};

// When beam search may stop: generate()'s early_stopping False, True, "never".
enum class EarlyStopping : std::uint8_t { heuristic, when_full, never };

// generation_config.json; what it lacks comes from config.json, as transformers converts old checkpoints, and then from
// generate()'s defaults. max_length alone defaults to max_position_embeddings, as the 20 of generate() cuts sentences.
struct GenerationConfig {
  int num_beams = 1;
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::heuristic;
  int max_length = 0;  // ids, the start id included
  int min_length = 0;
  int decoder_start_token_id = 0;
  std::optional<int> pad_token_id;
  std::vector<int> eos_token_ids;
  std::optional<int> forced_bos_token_id;
  std::vector<int> forced_eos_token_ids;
  std::vector<std::vector<int>> bad_words_ids;
  std::vector<int> suppress_tokens;
  std::vector<int> begin_suppress_tokens;
  float repetition_penalty = 1;
  int no_repeat_ngram_size = 0;
  bool renormalize_logits = false;

  // Throws std::runtime_error naming the file and the key; also for a setting that would change the result and is not
  // supported here (sampling, for one).
  static GenerationConfig load(const std::filesystem::path& folder, const MarianConfig& config);
};

}  // namespace qkv::models
