#include "models/config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "models/json_file.h"

namespace qkv::models {
namespace {

constexpr int kMost = 1 << 24;  // no size in a configuration is larger than this

// A setting that changes what generate() returns and that the search here does not know: must be absent or harmless.
void refuse_unsupported(const JsonFile& file) {
  using nlohmann::json;
  struct Setting {
    std::string_view key;
    json harmless;
  };
  static const std::array<Setting, 12> kSettings = {{{"do_sample", false},
                                                     {"num_beam_groups", 1},
                                                     {"diversity_penalty", 0.0},
                                                     {"encoder_repetition_penalty", 1.0},
                                                     {"encoder_no_repeat_ngram_size", 0},
                                                     {"sequence_bias", nullptr},
                                                     {"exponential_decay_length_penalty", nullptr},
                                                     {"guidance_scale", 1},
                                                     {"penalty_alpha", nullptr},
                                                     {"stop_strings", nullptr},
                                                     {"watermarking_config", nullptr},
                                                     {"remove_invalid_values", false}}};
  for (const Setting& setting : kSettings) {
    const json* value = file.find(setting.key);
    if (value != nullptr && *value != setting.harmless)
      file.fail(setting.key, "is not supported, got " + value->dump());
  }
}

EarlyStopping early_stopping_of(const JsonFile& file) {
  const nlohmann::json* value = file.find("early_stopping");
  if (value == nullptr) return EarlyStopping::heuristic;
  if (value->is_boolean())
    return value->get<bool>() ? EarlyStopping::when_full : EarlyStopping::heuristic;
  if (*value == "never") return EarlyStopping::never;
  file.fail("early_stopping", "expected true, false or \"never\", got " + value->dump());
}

std::vector<std::vector<int>> bad_words_of(const JsonFile& file, int vocabulary) {
  const nlohmann::json* value = file.find("bad_words_ids");
  std::vector<std::vector<int>> all;
  if (value == nullptr) return all;
  const std::string expected =
      "expected a list of lists of ids below " + std::to_string(vocabulary);
  if (!value->is_array()) file.fail("bad_words_ids", expected);
  for (const nlohmann::json& word : *value) {
    if (!word.is_array() || word.empty())
      file.fail("bad_words_ids", expected + ", got " + word.dump());
    std::vector<int>& ids = all.emplace_back();
    for (const nlohmann::json& id : word) {
      if (!id.is_number_unsigned() ||
          id.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocabulary))
        file.fail("bad_words_ids", expected + ", got " + word.dump());
      ids.push_back(id.get<int>());
    }
  }
  return all;
}

// What one file says; `before` holds what was known without it.
GenerationConfig read_generation(const JsonFile& file, GenerationConfig before, int vocabulary) {
  GenerationConfig config = std::move(before);
  const int last = vocabulary - 1;
  refuse_unsupported(file);
  config.num_beams = file.integer("num_beams", 1, 1024, config.num_beams);
  config.length_penalty = file.number("length_penalty", config.length_penalty);
  if (file.find("early_stopping") != nullptr) config.early_stopping = early_stopping_of(file);
  config.max_length = file.integer("max_length", 2, kMost, config.max_length);
  config.min_length = file.integer("min_length", 0, kMost, config.min_length);
  // counted without the start id, and stronger, as in generate()
  if (file.find("max_new_tokens") != nullptr)
    config.max_length = 1 + file.integer("max_new_tokens", 1, kMost - 1);
  if (file.find("min_new_tokens") != nullptr)
    config.min_length = 1 + file.integer("min_new_tokens", 0, kMost - 1);
  config.decoder_start_token_id =
      file.integer("decoder_start_token_id", 0, last, config.decoder_start_token_id);
  if (file.find("pad_token_id") != nullptr)
    config.pad_token_id = file.integer("pad_token_id", 0, last);
  if (file.find("eos_token_id") != nullptr)
    config.eos_token_ids = file.integers("eos_token_id", 0, last);
  if (file.find("forced_bos_token_id") != nullptr)
    config.forced_bos_token_id = file.integer("forced_bos_token_id", 0, last);
  if (file.find("forced_eos_token_id") != nullptr)
    config.forced_eos_token_ids = file.integers("forced_eos_token_id", 0, last);
  if (file.find("bad_words_ids") != nullptr) config.bad_words_ids = bad_words_of(file, vocabulary);
  if (file.find("suppress_tokens") != nullptr)
    config.suppress_tokens = file.integers("suppress_tokens", 0, last);
  if (file.find("begin_suppress_tokens") != nullptr)
    config.begin_suppress_tokens = file.integers("begin_suppress_tokens", 0, last);
  config.repetition_penalty = file.number("repetition_penalty", config.repetition_penalty);
  if (!(config.repetition_penalty > 0))
    file.fail("repetition_penalty", "expected a number above 0");
  config.no_repeat_ngram_size =
      file.integer("no_repeat_ngram_size", 0, kMost, config.no_repeat_ngram_size);
  config.renormalize_logits = file.boolean("renormalize_logits", config.renormalize_logits);
  return config;
}

}  // namespace

MarianConfig MarianConfig::load(const std::filesystem::path& folder) {
  const JsonFile file(folder / "config.json");
  if (const auto* type = file.find("model_type"); type != nullptr && *type != "marian")
    file.fail("model_type", "expected \"marian\", got " + type->dump());
  MarianConfig config;
  config.d_model = file.integer("d_model", 1, kMost);
  config.encoder_layers = file.integer("encoder_layers", 0, kMost);
  config.decoder_layers = file.integer("decoder_layers", 1, kMost);
  config.encoder_attention_heads = file.integer("encoder_attention_heads", 1, kMost);
  config.decoder_attention_heads = file.integer("decoder_attention_heads", 1, kMost);
  config.encoder_ffn_dim = file.integer("encoder_ffn_dim", 1, kMost);
  config.decoder_ffn_dim = file.integer("decoder_ffn_dim", 1, kMost);
  config.vocab_size = file.integer("vocab_size", 1, kMost);
  config.max_position_embeddings = file.integer("max_position_embeddings", 2, kMost);
  config.scale_embedding = file.boolean("scale_embedding", false);
  config.share_encoder_decoder_embeddings = file.boolean("share_encoder_decoder_embeddings", true);
  config.tie_word_embeddings = file.boolean("tie_word_embeddings", true);
  config.decoder_vocab_size = file.integer("decoder_vocab_size", 1, kMost, config.vocab_size);
  if (config.share_encoder_decoder_embeddings) config.decoder_vocab_size = config.vocab_size;

  const std::string activation =
      file.find("activation_function") != nullptr ? file.string("activation_function") : "gelu";
  const auto known = layers::activation_of(activation);
  if (!known) file.fail("activation_function", "unknown activation \"" + activation + "\"");
  config.activation_function = *known;

  for (const auto& [key, heads] :
       {std::pair{"encoder_attention_heads", config.encoder_attention_heads},
        std::pair{"decoder_attention_heads", config.decoder_attention_heads}}) {
    if (config.d_model % heads != 0)
      file.fail(key, "d_model " + std::to_string(config.d_model) + " is not a multiple of " +
                         std::to_string(heads));
    if (config.d_model / heads > 1024)
      file.fail(key, "heads of " + std::to_string(config.d_model / heads) +
                         " dimensions; at most 1024 are supported");
  }
  // Old checkpoints carry switches for variants that transformers no longer computes; refuse what would differ.
  for (const char* key :
       {"normalize_before", "add_final_layer_norm", "normalize_embedding", "add_bias_logits"})
    if (file.boolean(key, false)) file.fail(key, "true is not supported");
  return config;
}

GenerationConfig GenerationConfig::load(const std::filesystem::path& folder,
                                        const MarianConfig& config) {
  GenerationConfig generation;
  generation.decoder_start_token_id = -1;
  generation.eos_token_ids = {0};
  const int vocabulary = config.decoder_vocab_size;
  const JsonFile model(folder / "config.json");
  generation = read_generation(model, std::move(generation), vocabulary);
  if (std::filesystem::exists(folder / "generation_config.json")) {
    const JsonFile file(folder / "generation_config.json");
    generation = read_generation(file, std::move(generation), vocabulary);
  }
  if (generation.decoder_start_token_id < 0) model.fail("decoder_start_token_id", "is missing");
  if (generation.max_length == 0) generation.max_length = config.max_position_embeddings;
  // Beyond the table of positions transformers fails; here the search ends.
  generation.max_length = std::min(generation.max_length, config.max_position_embeddings + 1);
  return generation;
}

}  // namespace qkv::models
