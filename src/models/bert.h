// The encoder of BERT (Devlin et al. 2018; transformers' BertModel without its pooler), of DistilBERT (Sanh et al. 2019), which
// has no types, and of RoBERTa and XLM-RoBERTa (Conneau et al. 2020), whose positions begin later:
//   x = norm(word[id] + type[0] + position), then layers of  x ← norm(x + self(x)); x ← norm(x + feed_forward(x))
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "layers/transformer.h"
#include "models/bert_config.h"
#include "models/safetensors.h"

namespace qkv::models {

class Bert {
 public:
  // Reads config.json and model.safetensors of the folder; the vocabulary's table stays in the mapped file. Throws
  // std::runtime_error naming the file, the field or the tensor, what was expected and what came.
  static Bert load(const std::filesystem::path& folder);

  const BertConfig& config() const { return config_; }

  struct Scratch {
    layers::LayerScratch layer;
  };

  // Sequences one after the other, without padding: sequence s has ids[starts[s]] to ids[starts[s + 1] − 1]; starts begins with
  // 0 and rises. states [ids, hidden_size]. The bits of a sequence's states depend on its own ids only. A tape is for one
  // sequence. Throws std::invalid_argument for an empty or too long sequence and for ids outside the vocabulary.
  void forward(std::span<const int> ids, std::span<const std::int32_t> starts, float* states,
               Scratch& scratch, int threads, layers::AttentionTape* tape = nullptr) const;

 private:
  BertConfig config_;
  Safetensors::Rows words_;
  layers::Buffer positions_;  // [max_tokens, hidden_size], the first token type added
  layers::LayerNorm norm_;
  std::vector<layers::EncoderLayer> layers_;
};

}  // namespace qkv::models
