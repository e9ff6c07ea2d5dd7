// The layers of an encoder and of a decoder, normalised after each residual sum (as in Vaswani et al. 2017 and Marian):
//   encoder: x ← norm(x + self(x)); x ← norm(x + feed_forward(x))
//   decoder: x ← norm(x + self(x)); x ← norm(x + cross(x, memory)); x ← norm(x + feed_forward(x))
#pragma once

#include <cstdint>
#include <string>

#include "layers/feed_forward.h"
#include "layers/multi_head_attention.h"
#include "layers/norm.h"

namespace qkv::layers {

struct LayerScratch {
  AttentionScratch attention;
  Buffer update;  // what is added to x
  Buffer hidden;
};

class EncoderLayer {
 public:
  // `where` names the layer's attention on a tape.
  EncoderLayer(std::string where, SelfAttention self, LayerNorm self_norm, FeedForward feed_forward,
               LayerNorm final_norm);

  // x [count·tokens, width] dense, in place.
  void forward(float* x, const Sentences& sentences, LayerScratch& scratch, int threads,
               AttentionTape* tape) const;

 private:
  std::string where_;
  SelfAttention self_;
  LayerNorm self_norm_;
  FeedForward feed_forward_;
  LayerNorm final_norm_;
};

class DecoderLayer {
 public:
  DecoderLayer(std::string where, SelfAttention self, LayerNorm self_norm, CrossAttention cross,
               LayerNorm cross_norm, FeedForward feed_forward, LayerNorm final_norm);

  const SelfAttention& self() const { return self_; }
  const CrossAttention& cross() const { return cross_; }

  // All tokens of a given target: x [memory.count·tokens, width] dense, in place.
  void forward(float* x, std::int64_t tokens, const float* remembered, const Sentences& memory,
               LayerScratch& scratch, int threads, AttentionTape* tape) const;

  // One token for each of memory.count·beams rows, in place; the rows of one sentence stand together.
  void step(float* x, std::int64_t beams, KeyValueCache& cache, const float* remembered,
            const Sentences& memory, LayerScratch& scratch, int threads,
            const WeightsProbe& probe) const;

 private:
  // The part after self-attention, whose result is in scratch.update.
  void finish(float* x, std::int64_t queries, const float* remembered, const Sentences& memory,
              LayerScratch& scratch, int threads, const TapePlace& tape,
              const WeightsProbe& probe) const;

  std::string where_self_;
  std::string where_cross_;
  SelfAttention self_;
  LayerNorm self_norm_;
  CrossAttention cross_;
  LayerNorm cross_norm_;
  FeedForward feed_forward_;
  LayerNorm final_norm_;
};

}  // namespace qkv::layers
