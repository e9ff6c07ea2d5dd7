// The finder's layers, normalised before each step (Xiong et al. 2020):
//   EncoderBlock: x ← x + self(norm(x)); x ← x + feed_forward(norm(x))
//   DecoderBlock: x ← x + self(norm(x)); x ← x + words(norm(x)); x ← x + picture(norm(x)); x ← x + feed_forward(norm(x))
#pragma once

#include <cstdint>
#include <string>

#include "layers/feed_forward.h"
#include "layers/multi_head_attention.h"
#include "layers/norm.h"
#include "layers/transformer.h"
#include "models/checkpoint.h"

namespace qkv::models::finder {

struct BlockScratch {
  layers::LayerScratch layer;
  layers::Buffer normed;
};

class EncoderBlock {
 public:
  // NAME.self_norm, .self_attention.{q,k,v,out}, .norm, .feed_forward.{up,down}; `where` names its attention on a tape.
  EncoderBlock(const Checkpoint& file, const std::string& name, std::string where,
               std::int64_t width, int heads, std::int64_t hidden);

  // x [tokens, width] of one sequence, in place.
  void forward(float* x, std::int64_t tokens, BlockScratch& scratch, int threads,
               layers::AttentionTape* tape) const;

 private:
  std::string where_;
  layers::LayerNorm self_norm_;
  layers::SelfAttention self_;
  layers::LayerNorm norm_;
  layers::FeedForward feed_forward_;
};

class DecoderBlock {
 public:
  DecoderBlock(const Checkpoint& file, const std::string& name, const std::string& where,
               std::int64_t width, int heads, std::int64_t hidden);

  const layers::CrossAttention& words() const { return words_; }
  const layers::CrossAttention& picture() const { return picture_; }

  // x [queries, width], in place; what words() and picture() remember of the prompt and of the picture.
  void forward(float* x, std::int64_t queries, const float* words, std::int64_t word_count,
               const float* picture, std::int64_t token_count, BlockScratch& scratch, int threads,
               layers::AttentionTape* tape) const;

 private:
  std::string where_self_;
  std::string where_words_;
  std::string where_picture_;
  layers::LayerNorm self_norm_;
  layers::SelfAttention self_;
  layers::LayerNorm words_norm_;
  layers::CrossAttention words_;
  layers::LayerNorm picture_norm_;
  layers::CrossAttention picture_;
  layers::LayerNorm norm_;
  layers::FeedForward feed_forward_;
};

// NAME.up and NAME.down around a GELU (its tanh form).
layers::FeedForward feed_forward_of(const Checkpoint& file, const std::string& name,
                                    std::int64_t width, std::int64_t hidden);

// NAME.hidden, as wide as what it reads, and NAME.out around a GELU.
layers::FeedForward head_of(const Checkpoint& file, const std::string& name, std::int64_t width,
                            std::int64_t out);

}  // namespace qkv::models::finder
