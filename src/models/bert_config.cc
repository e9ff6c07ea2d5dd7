#include "models/bert_config.h"

#include <cmath>
#include <map>
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
  static const std::map<std::string, BertFamily> kFamilies = {
      {"bert", BertFamily::bert},
      {"distilbert", BertFamily::distilbert},
      {"roberta", BertFamily::roberta},
      {"xlm-roberta", BertFamily::roberta}};
  constexpr const char* kExpected =
      "expected \"bert\", \"distilbert\", \"roberta\" or \"xlm-roberta\"";
  if (file.find("model_type") == nullptr)
    file.fail("model_type", std::string("is missing; ") + kExpected);
  const auto family = kFamilies.find(file.string("model_type"));
  if (family == kFamilies.end())
    file.fail("model_type", std::string(kExpected) + ", got \"" + file.string("model_type") + "\"");
  only("position_embedding_type", "absolute");
  only("is_decoder", false);
  only("add_cross_attention", false);
  only("is_encoder_decoder", false);
  only("quantization_config", nullptr);

  BertConfig config;
  config.family = family->second;
  const bool distilled = config.family == BertFamily::distilbert;
  const auto named = [&](const char* name, const char* in_distilbert) {
    return distilled ? in_distilbert : name;
  };
  const char *heads_key = named("num_attention_heads", "n_heads"),
             *activation_key = named("hidden_act", "activation");
  config.hidden_size = file.integer(named("hidden_size", "dim"), 1, kMost);
  config.num_hidden_layers = file.integer(named("num_hidden_layers", "n_layers"), 0, 4096);
  config.num_attention_heads = file.integer(heads_key, 1, kMost);
  config.intermediate_size = file.integer(named("intermediate_size", "hidden_dim"), 1, kMost);
  config.vocab_size = file.integer("vocab_size", 1, kMost);
  if (config.family == BertFamily::roberta)
    config.first_position = file.integer("pad_token_id", 0, kMost, 1) + 1;
  config.max_tokens =
      file.integer("max_position_embeddings", config.first_position + 2, 2 * kMost) -
      config.first_position;
  if (!distilled) config.type_vocab_size = file.integer("type_vocab_size", 1, kMost, 2);
  config.layer_norm_eps = file.number("layer_norm_eps", 1e-12f);
  if (!(config.layer_norm_eps >= 0) || !std::isfinite(config.layer_norm_eps))
    file.fail("layer_norm_eps", "expected a number from 0 on");

  const std::string activation =
      file.find(activation_key) != nullptr ? file.string(activation_key) : "gelu";
  const auto known = layers::activation_of(activation);
  if (!known) file.fail(activation_key, "unknown activation \"" + activation + "\"");
  config.hidden_act = *known;

  const int heads = config.num_attention_heads;
  if (config.hidden_size % heads != 0)
    file.fail(heads_key, "hidden_size " + std::to_string(config.hidden_size) +
                             " is not a multiple of " + std::to_string(heads));
  if (config.hidden_size / heads > 1024)
    file.fail(heads_key, "heads of " + std::to_string(config.hidden_size / heads) +
                             " dimensions; at most 1024 are supported");
  return config;
}

}  // namespace qkv::models
