// A picture and a prompt in, every object that the prompt names out, by three attentions: the picture attends to itself, object
// queries attend to the prompt's words, object queries attend to the picture. The twin that is trained is
// training/finder/model.py, whose first lines draw the whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "layers/embedding.h"
#include "models/finder/blocks.h"
#include "models/finder/config.h"
#include "models/finder/picture_encoder.h"

namespace qkv::models::finder {

// What a picture became, for any number of prompts.
struct Picture {
  layers::Buffer tokens;                   // [side², width]
  layers::Buffer pixels;                   // [mask_side², pixel]
  std::vector<layers::Buffer> remembered;  // per decoder layer [side², keys and values]
};

struct Box {    // in fractions of the picture
  float x = 0;  // of its centre
  float y = 0;
  float width = 0;
  float height = 0;
};

// What the queries said, best-liked token first. Numbers before any threshold.
struct Output {
  float presence = 0;         // logit: is what the prompt names in the picture at all?
  std::vector<float> select;  // [side²] logits: is an object that is meant centred in this token?
  std::vector<int> chosen;    // [queries] the token each query started from
  std::vector<float> score;   // [queries] logits: does the query stand for an object that is meant?
  std::vector<Box> boxes;     // [queries]
  std::vector<float> masks;   // [queries, mask_side, mask_side] logits
};

class Finder {
 public:
  // Reads config.json and model.safetensors of the folder. Throws std::runtime_error naming the file, the key or the tensor,
  // what was expected and what came.
  static Finder load(const std::filesystem::path& folder);

  const Config& config() const { return config_; }

  // rgb [image, image, 3] in [0, 1]. Throws std::invalid_argument if there are not as many numbers. The tape receives
  // "picture.N.self".
  Picture look(std::span<const float> rgb, int threads,
               layers::AttentionTape* tape = nullptr) const;

  // The pieces of a prompt, the end of sentence included, asked of a picture. The tape receives "text.N.self" and for every decoder
  // layer "decoder.N.self", "decoder.N.words" and "decoder.N.picture", whose first query is the presence token. Throws
  // std::invalid_argument for no pieces, more than config().words, or an id outside the vocabulary.
  Output ask(const Picture& picture, std::span<const int> pieces, int threads,
             layers::AttentionTape* tape = nullptr) const;

 private:
  // The words [pieces, width] after the text layers.
  layers::Buffer read(std::span<const int> pieces, BlockScratch& scratch, int threads,
                      layers::AttentionTape* tape) const;
  // Fills select and chosen.
  void choose(const Picture& picture, const float* meaning, Output& output, int threads) const;
  // The rest of the output, from x [1 + queries, width].
  void conclude(const Picture& picture, const layers::Buffer& x, Output& output, int threads) const;

  Config config_;
  PictureEncoder picture_;
  layers::Embedding pieces_;  // without positions
  layers::Linear widen_;
  layers::Buffer word_position_;  // [words, width]
  std::vector<EncoderBlock> text_;
  layers::LayerNorm text_norm_;
  layers::Linear select_picture_;
  layers::Linear select_text_;
  float select_bias_ = 0;
  layers::Linear query_picture_;
  layers::Linear query_text_;
  layers::Buffer presence_token_;
  std::vector<DecoderBlock> decoder_;
  layers::LayerNorm norm_;
  layers::Linear presence_;
  layers::Linear score_;
  layers::FeedForward box_;
  layers::FeedForward mask_;
};

}  // namespace qkv::models::finder
