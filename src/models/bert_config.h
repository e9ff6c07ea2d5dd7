// config.json of a BERT folder, checked.
#pragma once

#include <filesystem>

#include "layers/activation.h"

namespace qkv::models {

// The names are Hugging Face's.
struct BertConfig {
  int hidden_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int intermediate_size = 0;
  int vocab_size = 0;
  int max_position_embeddings = 0;
  int type_vocab_size = 0;
  layers::Activation hidden_act = layers::Activation::gelu;
  float layer_norm_eps = 1e-12f;

  // Throws std::runtime_error naming the file and the field, also for a setting that changes what transformers' BertModel
  // computes and is not supported here.
  static BertConfig load(const std::filesystem::path& folder);
};

}  // namespace qkv::models
