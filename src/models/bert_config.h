// config.json of a BERT folder, checked.
#pragma once

#include <cstdint>
#include <filesystem>

#include "layers/activation.h"

namespace qkv::models {

// Families that compute the same and name their settings and tensors each in its own way.
enum class BertFamily : std::uint8_t { bert, distilbert, roberta };

// The names are Hugging Face's.
struct BertConfig {
  BertFamily family = BertFamily::bert;
  int hidden_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int intermediate_size = 0;
  int vocab_size = 0;
  int first_position =
      0;  // where a text begins: RoBERTa keeps the positions up to its padding's id free
  int max_tokens = 0;       // in a text: max_position_embeddings − first_position
  int type_vocab_size = 0;  // 0: tokens have no types
  layers::Activation hidden_act = layers::Activation::gelu;
  float layer_norm_eps = 1e-12f;

  // Throws std::runtime_error naming the file and the field, also for a setting that changes what transformers' BertModel,
  // DistilBertModel or XLMRobertaModel computes and is not supported here.
  static BertConfig load(const std::filesystem::path& folder);
};

}  // namespace qkv::models
