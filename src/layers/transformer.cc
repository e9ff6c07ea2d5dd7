#include "layers/transformer.h"

#include <utility>

namespace qkv::layers {

EncoderLayer::EncoderLayer(std::string where, SelfAttention self, LayerNorm self_norm,
                           FeedForward feed_forward, LayerNorm final_norm)
    : where_(std::move(where) + ".self"),
      self_(std::move(self)),
      self_norm_(std::move(self_norm)),
      feed_forward_(std::move(feed_forward)),
      final_norm_(std::move(final_norm)) {}

void EncoderLayer::forward(float* x, const Sentences& sentences, LayerScratch& scratch, int threads,
                           AttentionTape* tape) const {
  const std::int64_t rows = sentences.count * sentences.tokens;
  float* update = at_least(scratch.update, rows * self_norm_.width());
  self_.forward(x, sentences, Causal::no, update, scratch.attention, threads, {tape, where_});
  self_norm_.forward(x, update, rows, x);
  feed_forward_.forward(x, rows, update, scratch.hidden, threads);
  final_norm_.forward(x, update, rows, x);
}

DecoderLayer::DecoderLayer(std::string where, SelfAttention self, LayerNorm self_norm,
                           CrossAttention cross, LayerNorm cross_norm, FeedForward feed_forward,
                           LayerNorm final_norm)
    : where_self_(where + ".self"),
      where_cross_(std::move(where) + ".cross"),
      self_(std::move(self)),
      self_norm_(std::move(self_norm)),
      cross_(std::move(cross)),
      cross_norm_(std::move(cross_norm)),
      feed_forward_(std::move(feed_forward)),
      final_norm_(std::move(final_norm)) {}

void DecoderLayer::forward(float* x, std::int64_t tokens, const float* remembered,
                           const Sentences& memory, LayerScratch& scratch, int threads,
                           AttentionTape* tape) const {
  const Sentences targets{memory.count, tokens, {}};
  float* update = at_least(scratch.update, memory.count * tokens * self_norm_.width());
  self_.forward(x, targets, Causal::bottom_right, update, scratch.attention, threads,
                {tape, where_self_});
  finish(x, tokens, remembered, memory, scratch, threads, {tape, where_cross_}, {});
}

void DecoderLayer::step(float* x, std::int64_t beams, KeyValueCache& cache, const float* remembered,
                        const Sentences& memory, LayerScratch& scratch, int threads,
                        const WeightsProbe& probe) const {
  const std::int64_t rows = memory.count * beams;
  float* update = at_least(scratch.update, rows * self_norm_.width());
  self_.step(x, rows, cache, update, scratch.attention, threads);
  finish(x, beams, remembered, memory, scratch, threads, {}, probe);
}

void DecoderLayer::finish(float* x, std::int64_t queries, const float* remembered,
                          const Sentences& memory, LayerScratch& scratch, int threads,
                          const TapePlace& tape, const WeightsProbe& probe) const {
  const std::int64_t rows = memory.count * queries;
  float* update = scratch.update.data();
  self_norm_.forward(x, update, rows, x);
  cross_.forward(x, queries, remembered, memory, update, scratch.attention, threads, tape, probe);
  cross_norm_.forward(x, update, rows, x);
  feed_forward_.forward(x, rows, update, scratch.hidden, threads);
  final_norm_.forward(x, update, rows, x);
}

}  // namespace qkv::layers
