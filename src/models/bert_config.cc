#include "models/bert_config.h"

#include <cmath>
#include <string>

#include "models/json_file.h"

namespace qkv::models {

BertConfig BertConfig::load(const std::filesystem::path& folder) {
  constexpr int kMost = 1 << 24;  // no size in a configuration is larger than this
  const JsonFile file(folder / "config.json");
  const auto only = [&](const char* key, const nlohmann::json& supported) {
    const auto* value = file.find(key);
    if (value != nullptr && *value != supported)
      file.fail(key, "expected " + supported.dump() + ", got " + value->dump());
  };
  if (file.find("model_type") == nullptr) file.fail("model_type", "is missing; expected \"bert\"");
  only("model_type", "bert");
  only("position_embedding_type", "absolute");
  only("is_decoder", false);
  only("add_cross_attention", false);
  only("is_encoder_decoder", false);
  only("quantization_config", nullptr);

  BertConfig config;
  config.hidden_size = file.integer("hidden_size", 1, kMost);
  config.num_hidden_layers = file.integer("num_hidden_layers", 0, 4096);
  config.num_attention_heads = file.integer("num_attention_heads", 1, kMost);
  config.intermediate_size = file.integer("intermediate_size", 1, kMost);
  config.vocab_size = file.integer("vocab_size", 1, kMost);
  config.max_position_embeddings = file.integer("max_position_embeddings", 2, kMost);
  config.type_vocab_size = file.integer("type_vocab_size", 1, kMost, 2);
  config.layer_norm_eps = file.number("layer_norm_eps", 1e-12f);
  if (!(config.layer_norm_eps >= 0) || !std::isfinite(config.layer_norm_eps))
    file.fail("layer_norm_eps", "expected a number from 0 on");

  const std::string activation =
      file.find("hidden_act") != nullptr ? file.string("hidden_act") : "gelu";
  const auto known = layers::activation_of(activation);
  if (!known) file.fail("hidden_act", "unknown activation \"" + activation + "\"");
  config.hidden_act = *known;

  const int heads = config.num_attention_heads;
  if (config.hidden_size % heads != 0)
    file.fail("num_attention_heads", "hidden_size " + std::to_string(config.hidden_size) +
                                         " is not a multiple of " + std::to_string(heads));
  if (config.hidden_size / heads > 1024)
    file.fail("num_attention_heads", "heads of " + std::to_string(config.hidden_size / heads) +
                                         " dimensions; at most 1024 are supported");
  return config;
}

}  // namespace qkv::models
