#include "models/marian.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "models/checkpoint.h"
#include "models/initial.h"
#include "models/stopped.h"

namespace qkv::models {
namespace {

using layers::AttentionShape;
using layers::Buffer;
using layers::LinearPart;

// What Marian's layers are called in its checkpoints; from a file, or made from a seed.
class Loader : public Checkpoint {
 public:
  using Checkpoint::Checkpoint;
  Loader(std::uint64_t seed, std::int64_t blank) : seed_(seed), blank_(blank) {}

  std::vector<float> tensor(const std::string& name,
                            std::initializer_list<std::int64_t> shape) const override {
    if (has_file()) return Checkpoint::tensor(name, shape);
    return initial_tensor(name, std::span(shape.begin(), shape.size()), seed_, blank_);
  }

  // The first of the names that the file has; of a tied tensor only one name is stored.
  Buffer tied(std::initializer_list<const char*> names, std::int64_t rows,
              std::int64_t columns) const {
    const auto found =
        std::find_if(names.begin(), names.end(), [this](const char* name) { return has(name); });
    const auto values = tensor(found == names.end() ? *names.begin() : *found, {rows, columns});
    return Buffer(values.begin(), values.end());
  }

  layers::SelfAttention self_attention(const std::string& name, std::int64_t width,
                                       int heads) const {
    const auto [q, k, v, o] = projections(name, width);
    return {shape_of(width, heads), width, q.part(), k.part(), v.part(), o.part()};
  }

  layers::CrossAttention cross_attention(const std::string& name, std::int64_t width,
                                         int heads) const {
    const auto [q, k, v, o] = projections(name, width);
    return {shape_of(width, heads), width, width, q.part(), k.part(), v.part(), o.part()};
  }

  layers::FeedForward feed_forward(const std::string& name, std::int64_t width, std::int64_t hidden,
                                   layers::Activation activation) const {
    return {linear(name + ".fc1", hidden, width), linear(name + ".fc2", width, hidden), activation};
  }

 private:
  static AttentionShape shape_of(std::int64_t width, int heads) {
    return {heads, width / heads, width / heads, 0};
  }

  std::array<Affine, 4> projections(const std::string& name, std::int64_t width) const {
    return {affine(name + ".q_proj", width, width), affine(name + ".k_proj", width, width),
            affine(name + ".v_proj", width, width), affine(name + ".out_proj", width, width)};
  }

  std::uint64_t seed_ = 0;
  std::int64_t blank_ = -1;
};

}  // namespace

class MarianMaker {
 public:
  static Marian make(const MarianConfig& config, const Loader& loader);
};

Marian Marian::load(const std::filesystem::path& folder) {
  const MarianConfig config = MarianConfig::load(folder);  // whose absence is told first
  return MarianMaker::make(config, Loader(folder));
}

Marian Marian::untrained(const MarianConfig& config, std::uint64_t seed, std::int64_t blank) {
  return MarianMaker::make(config, Loader(seed, blank));
}

Marian MarianMaker::make(const MarianConfig& config, const Loader& loader) {
  Marian model;
  model.config_ = config;
  const std::int64_t width = config.d_model;

  const auto positions = [&](const std::string& name) {
    if (loader.has(name)) {
      const auto values = loader.tensor(name, {config.max_position_embeddings, width});
      return Buffer(values.begin(), values.end());
    }
    return layers::sinusoidal_positions(config.max_position_embeddings, width);
  };
  constexpr const char *kShared = "model.shared.weight",
                       *kEncoder = "model.encoder.embed_tokens.weight",
                       *kDecoder = "model.decoder.embed_tokens.weight", *kHead = "lm_head.weight";
  const std::int64_t sources = config.vocab_size, targets = config.decoder_vocab_size;
  const bool tied = config.tie_word_embeddings, shared = config.share_encoder_decoder_embeddings;
  // What is tied is the same under every name; what is not has its own name first.
  Buffer source = tied && shared ? loader.tied({kShared, kEncoder, kDecoder, kHead}, sources, width)
                  : shared       ? loader.tied({kEncoder, kShared}, sources, width)
                                 : loader.tied({kEncoder}, sources, width);
  Buffer target = tied && shared ? source
                  : shared       ? loader.tied({kDecoder, kShared}, targets, width)
                  : tied         ? loader.tied({kDecoder, kHead}, targets, width)
                                 : loader.tied({kDecoder}, targets, width);
  const Buffer head = tied ? target : loader.tied({kHead}, targets, width);
  std::vector<float> bias(static_cast<std::size_t>(targets));
  if (loader.has("final_logits_bias")) bias = loader.tensor("final_logits_bias", {1, targets});
  model.logits_ = layers::Linear(width, LinearPart{head.data(), bias.data(), targets});

  const float factor = config.scale_embedding ? std::sqrt(static_cast<float>(width)) : 1.0f;
  model.source_ = {std::move(source), positions("model.encoder.embed_positions.weight"), width,
                   factor};
  model.target_ = {std::move(target), positions("model.decoder.embed_positions.weight"), width,
                   factor};

  for (int i = 0; i < config.encoder_layers; ++i) {
    const std::string name = "model.encoder.layers." + std::to_string(i);
    model.encoder_.emplace_back(
        "encoder." + std::to_string(i),
        loader.self_attention(name + ".self_attn", width, config.encoder_attention_heads),
        loader.norm(name + ".self_attn_layer_norm", width),
        loader.feed_forward(name, width, config.encoder_ffn_dim, config.activation_function),
        loader.norm(name + ".final_layer_norm", width));
  }
  for (int i = 0; i < config.decoder_layers; ++i) {
    const std::string name = "model.decoder.layers." + std::to_string(i);
    model.decoder_.emplace_back(
        "decoder." + std::to_string(i),
        loader.self_attention(name + ".self_attn", width, config.decoder_attention_heads),
        loader.norm(name + ".self_attn_layer_norm", width),
        loader.cross_attention(name + ".encoder_attn", width, config.decoder_attention_heads),
        loader.norm(name + ".encoder_attn_layer_norm", width),
        loader.feed_forward(name, width, config.decoder_ffn_dim, config.activation_function),
        loader.norm(name + ".final_layer_norm", width));
  }
  return model;
}

void Marian::check_ids(std::span<const int> ids, std::int64_t vocabulary, const char* what) const {
  const std::string who = std::string("Marian: ") + what;
  if (ids.empty()) throw std::invalid_argument(who + ": expected at least one id, got none");
  if (std::ssize(ids) > config_.max_position_embeddings)
    throw std::invalid_argument(who + ": expected at most " +
                                std::to_string(config_.max_position_embeddings) + " ids, got " +
                                std::to_string(ids.size()));
  for (const int id : ids)
    if (id < 0 || id >= vocabulary)
      throw std::invalid_argument(who + ": expected ids below " + std::to_string(vocabulary) +
                                  ", got " + std::to_string(id));
}

Marian::Memory Marian::encode(std::span<const std::vector<int>> sentences, int threads,
                              layers::AttentionTape* tape) const {
  Memory memory;
  for (const std::vector<int>& ids : sentences) {
    check_ids(ids, source_.count(), "encode");
    memory.lengths.push_back(static_cast<std::int32_t>(ids.size()));
    memory.tokens = std::max(memory.tokens, std::ssize(ids));
  }
  if (tape != nullptr && sentences.size() != 1)
    throw std::invalid_argument("Marian: encode: a tape is for one sentence, got " +
                                std::to_string(sentences.size()));
  const std::int64_t width = config_.d_model, rows = memory.count() * memory.tokens;
  memory.states.resize(static_cast<std::size_t>(rows * width),
                       0.0f);  // padding is 0: finite, and never read
  for (std::int64_t s = 0; s < memory.count(); ++s)
    for (std::int64_t t = 0; t < memory.lengths[s]; ++t)
      source_.forward(sentences[s][t], t, memory.states.data() + (s * memory.tokens + t) * width);

  layers::LayerScratch scratch;
  for (const layers::EncoderLayer& layer : encoder_)
    layer.forward(memory.states.data(), memory.sentences(), scratch, threads, tape);
  for (const layers::DecoderLayer& layer : decoder_) {
    Buffer& remembered = memory.remembered.emplace_back();
    layer.cross().remember(memory.states.data(), rows,
                           layers::at_least(remembered, rows * layer.cross().remembered_width()),
                           threads);
  }
  return memory;
}

void Marian::decode(const Memory& memory, std::span<const int> ids, int threads,
                    std::vector<float>* logits, layers::AttentionTape* tape) const {
  check_ids(ids, target_.count(), "decode");
  if (memory.count() != 1)
    throw std::invalid_argument("Marian: decode: expected the memory of one sentence, got " +
                                std::to_string(memory.count()));
  const std::int64_t width = config_.d_model, rows = std::ssize(ids);
  Buffer x(static_cast<std::size_t>(rows * width));
  for (std::int64_t t = 0; t < rows; ++t) target_.forward(ids[t], t, x.data() + t * width);
  layers::LayerScratch scratch;
  for (std::size_t i = 0; i < decoder_.size(); ++i)
    decoder_[i].forward(x.data(), rows, memory.remembered[i].data(), memory.sentences(), scratch,
                        threads, tape);
  if (logits == nullptr) return;
  logits->resize(static_cast<std::size_t>(rows * vocabulary()));
  logits_.forward(x.data(), width, rows, logits->data(), vocabulary(), threads);
}

MarianDecoder::MarianDecoder(const Marian& model, Marian::Memory memory, int threads)
    : model_(model), memory_(std::move(memory)), threads_(threads) {
  for (const layers::DecoderLayer& layer : model.decoder_)
    caches_.emplace_back(layer.self().shape());
}

void MarianDecoder::watch(int layer, int head) {
  const MarianConfig& config = model_.config();
  if (layer < 0 || layer >= config.decoder_layers || head < -1 ||
      head >= config.decoder_attention_heads)
    throw std::invalid_argument(
        "Marian: watch: the decoder has " + std::to_string(config.decoder_layers) + " layers of " +
        std::to_string(config.decoder_attention_heads) + " heads, got layer " +
        std::to_string(layer) + ", head " + std::to_string(head));
  watched_layer_ = layer;
  watched_head_ = head;
}

float* MarianDecoder::step(std::span<const int> ids) {
  if (stop_ && stop_())
    throw Stopped("the translation was stopped after " + std::to_string(position_) + " steps");
  const std::int64_t width = model_.config_.d_model, vocabulary = model_.vocabulary();
  float* x = layers::at_least(x_, rows() * width);
  for (std::int64_t r = 0; r < rows(); ++r)
    model_.target_.forward(ids[r], position_, x + r * width);
  for (std::size_t i = 0; i < model_.decoder_.size(); ++i) {
    layers::WeightsProbe probe;
    if (static_cast<int>(i) == watched_layer_)
      probe = {watched_head_, layers::at_least(watched_, rows() * memory_.tokens)};
    model_.decoder_[i].step(x, beams_, caches_[i], memory_.remembered[i].data(),
                            memory_.sentences(), scratch_, threads_, probe);
  }
  ++position_;
  float* logits = layers::at_least(logits_, rows() * vocabulary);
  model_.logits_.forward(x, width, rows(), logits, vocabulary, threads_);
  return logits;
}

void MarianDecoder::branch(int beams) {
  // from the last sentence to the first, as the rows move apart
  for (std::int64_t s = sentences(); s-- > 0;)
    for (std::int64_t b = beams; b-- > 0;)
      if (s * beams + b != s)
        for (layers::KeyValueCache& cache : caches_) cache.copy_row(s, s * beams + b);
  beams_ = beams;
}

void MarianDecoder::copy_row(std::int64_t from, std::int64_t to) {
  for (layers::KeyValueCache& cache : caches_) cache.copy_row(from, to);
}

void MarianDecoder::keep(std::span<const std::int64_t> sentences) {
  std::int64_t place = 0;
  for (const std::int64_t s : sentences) {
    if (s != place) {
      for (std::int64_t b = 0; b < beams_; ++b) copy_row(s * beams_ + b, place * beams_ + b);
      for (std::size_t i = 0; i < memory_.remembered.size(); ++i) {
        Buffer& all = memory_.remembered[i];
        const std::int64_t size = memory_.tokens * model_.decoder_[i].cross().remembered_width();
        std::copy_n(all.data() + s * size, size, all.data() + place * size);
      }
      memory_.lengths[place] = memory_.lengths[s];
    }
    ++place;
  }
  memory_.lengths.resize(static_cast<std::size_t>(place));
}

}  // namespace qkv::models
