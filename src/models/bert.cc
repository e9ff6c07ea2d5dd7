#include "models/bert.h"

#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "models/checkpoint.h"

namespace qkv::models {
namespace {

// What a family calls its tensors.
struct Names {
  const char *root, *layers;
  const char *query, *key, *value, *out, *attention_norm;
  const char *widen, *narrow, *norm;
};

const Names& names_of(BertFamily family) {
  static const auto like_bert = [](const char* root) {
    return Names{root,
                 "encoder.layer.",
                 "attention.self.query",
                 "attention.self.key",
                 "attention.self.value",
                 "attention.output.dense",
                 "attention.output.LayerNorm",
                 "intermediate.dense",
                 "output.dense",
                 "output.LayerNorm"};
  };
  static const Names kBert = like_bert("bert."), kRoberta = like_bert("roberta."),
                     kDistilBert{"distilbert.",      "transformer.layer.", "attention.q_lin",
                                 "attention.k_lin",  "attention.v_lin",    "attention.out_lin",
                                 "sa_layer_norm",    "ffn.lin1",           "ffn.lin2",
                                 "output_layer_norm"};
  return family == BertFamily::bert         ? kBert
         : family == BertFamily::distilbert ? kDistilBert
                                            : kRoberta;
}

}  // namespace

Bert Bert::load(const std::filesystem::path& folder) {
  Bert model;
  model.config_ = BertConfig::load(folder);
  const BertConfig& config = model.config_;
  const std::int64_t width = config.hidden_size;
  const Checkpoint file(folder);
  const Names& names = names_of(config.family);
  // The whole model of a task keeps its encoder under a name of its own.
  const std::string root =
      file.has(std::string(names.root) + "embeddings.word_embeddings.weight") ? names.root : "";

  const std::string embeddings = root + "embeddings.";
  model.words_ = file.file().rows(embeddings + "word_embeddings.weight", config.vocab_size, width);
  const auto positions = file.tensor(embeddings + "position_embeddings.weight",
                                     {config.first_position + config.max_tokens, width});
  model.positions_.assign(positions.begin() + config.first_position * width, positions.end());
  if (config.type_vocab_size > 0) {
    const auto types =
        file.tensor(embeddings + "token_type_embeddings.weight", {config.type_vocab_size, width});
    for (std::size_t i = 0; i < model.positions_.size(); ++i)
      model.positions_[i] += types[i % static_cast<std::size_t>(width)];
  }
  model.norm_ = file.norm(embeddings + "LayerNorm", width, config.layer_norm_eps);

  const std::int64_t head = width / config.num_attention_heads;
  const layers::AttentionShape shape{config.num_attention_heads, head, head, 0};
  for (int i = 0; i < config.num_hidden_layers; ++i) {
    const std::string name = root + names.layers + std::to_string(i) + ".";
    const auto projection = [&](const char* which) {
      return file.affine(name + which, width, width);
    };
    const auto query = projection(names.query), key = projection(names.key),
               value = projection(names.value), out = projection(names.out);
    model.layers_.emplace_back(
        "encoder." + std::to_string(i),
        layers::SelfAttention(shape, width, query.part(), key.part(), value.part(), out.part()),
        file.norm(name + names.attention_norm, width, config.layer_norm_eps),
        layers::FeedForward(file.linear(name + names.widen, config.intermediate_size, width),
                            file.linear(name + names.narrow, width, config.intermediate_size),
                            config.hidden_act),
        file.norm(name + names.norm, width, config.layer_norm_eps));
  }
  return model;
}

void Bert::forward(std::span<const int> ids, std::span<const std::int32_t> starts, float* states,
                   Scratch& scratch, int threads, layers::AttentionTape* tape) const {
  if (starts.size() < 2 || starts.front() != 0 || starts.back() != std::ssize(ids))
    throw std::invalid_argument("Bert: starts: expected 0, rising numbers, " +
                                std::to_string(ids.size()));
  if (tape != nullptr && starts.size() != 2)
    throw std::invalid_argument("Bert: a tape is for one sequence, got " +
                                std::to_string(starts.size() - 1));
  const std::int64_t width = config_.hidden_size;
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    const std::int32_t length = starts[s + 1] - starts[s];
    if (length < 1 || length > config_.max_tokens)
      throw std::invalid_argument("Bert: sequence " + std::to_string(s) + ": expected 1 to " +
                                  std::to_string(config_.max_tokens) + " ids, got " +
                                  std::to_string(length));
    for (std::int32_t t = 0; t < length; ++t) {
      const int id = ids[static_cast<std::size_t>(starts[s] + t)];
      if (id < 0 || id >= config_.vocab_size)
        throw std::invalid_argument("Bert: sequence " + std::to_string(s) +
                                    ": expected ids below " + std::to_string(config_.vocab_size) +
                                    ", got " + std::to_string(id));
      float* row = states + (starts[s] + t) * width;
      words_.read(id, row);
      norm_.forward(row, positions_.data() + t * width, 1, row);
    }
  }
  const layers::Sentences sequences{1, std::ssize(ids), {}, starts};
  for (const layers::EncoderLayer& layer : layers_)
    layer.forward(states, sequences, scratch.layer, threads, tape);
}

}  // namespace qkv::models
