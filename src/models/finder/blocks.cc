#include "models/finder/blocks.h"

#include <array>
#include <utility>

namespace qkv::models::finder {
namespace {

using layers::at_least;

layers::AttentionShape shape_of(std::int64_t width, int heads) {
  return {heads, width / heads, width / heads, 0};
}

// query, key, value, out
std::array<Checkpoint::Affine, 4> projections(const Checkpoint& file, const std::string& name,
                                              std::int64_t width) {
  return {file.affine(name + ".q", width, width), file.affine(name + ".k", width, width),
          file.affine(name + ".v", width, width), file.affine(name + ".out", width, width)};
}

layers::SelfAttention self_attention(const Checkpoint& file, const std::string& name,
                                     std::int64_t width, int heads) {
  const auto [q, k, v, out] = projections(file, name, width);
  return {shape_of(width, heads), width, q.part(), k.part(), v.part(), out.part()};
}

layers::CrossAttention cross_attention(const Checkpoint& file, const std::string& name,
                                       std::int64_t width, int heads) {
  const auto [q, k, v, out] = projections(file, name, width);
  return {shape_of(width, heads), width, width, q.part(), k.part(), v.part(), out.part()};
}

// x ← x + step(norm(x)), where step(normed, update) fills update [rows, width].
template <class Step>
void residual(const layers::LayerNorm& norm, float* x, std::int64_t rows, BlockScratch& scratch,
              const Step& step) {
  const std::int64_t size = rows * norm.width();
  float* normed = at_least(scratch.normed, size);
  float* update = at_least(scratch.layer.update, size);
  norm.forward(x, nullptr, rows, normed);
  step(normed, update);
  for (std::int64_t i = 0; i < size; ++i) x[i] += update[i];
}

}  // namespace

layers::FeedForward feed_forward_of(const Checkpoint& file, const std::string& name,
                                    std::int64_t width, std::int64_t hidden) {
  return {file.linear(name + ".up", hidden, width), file.linear(name + ".down", width, hidden),
          layers::Activation::gelu_new};
}

EncoderBlock::EncoderBlock(const Checkpoint& file, const std::string& name, std::string where,
                           std::int64_t width, int heads, std::int64_t hidden)
    : where_(std::move(where)),
      self_norm_(file.norm(name + ".self_norm", width)),
      self_(self_attention(file, name + ".self_attention", width, heads)),
      norm_(file.norm(name + ".norm", width)),
      feed_forward_(feed_forward_of(file, name + ".feed_forward", width, hidden)) {}

void EncoderBlock::forward(float* x, std::int64_t tokens, BlockScratch& scratch, int threads,
                           layers::AttentionTape* tape) const {
  residual(self_norm_, x, tokens, scratch, [&](const float* normed, float* update) {
    self_.forward(normed, {1, tokens, {}}, Causal::no, update, scratch.layer.attention, threads,
                  {tape, where_});
  });
  residual(norm_, x, tokens, scratch, [&](const float* normed, float* update) {
    feed_forward_.forward(normed, tokens, update, scratch.layer.hidden, threads);
  });
}

DecoderBlock::DecoderBlock(const Checkpoint& file, const std::string& name,
                           const std::string& where, std::int64_t width, int heads,
                           std::int64_t hidden)
    : where_self_(where + ".self"),
      where_words_(where + ".words"),
      where_picture_(where + ".picture"),
      self_norm_(file.norm(name + ".self_norm", width)),
      self_(self_attention(file, name + ".self_attention", width, heads)),
      words_norm_(file.norm(name + ".text_norm", width)),
      words_(cross_attention(file, name + ".text_attention", width, heads)),
      picture_norm_(file.norm(name + ".picture_norm", width)),
      picture_(cross_attention(file, name + ".picture_attention", width, heads)),
      norm_(file.norm(name + ".norm", width)),
      feed_forward_(feed_forward_of(file, name + ".feed_forward", width, hidden)) {}

void DecoderBlock::forward(float* x, std::int64_t queries, const float* words,
                           std::int64_t word_count, const float* picture, std::int64_t token_count,
                           BlockScratch& scratch, int threads, layers::AttentionTape* tape) const {
  layers::AttentionScratch& attention = scratch.layer.attention;
  residual(self_norm_, x, queries, scratch, [&](const float* normed, float* update) {
    self_.forward(normed, {1, queries, {}}, Causal::no, update, attention, threads,
                  {tape, where_self_});
  });
  residual(words_norm_, x, queries, scratch, [&](const float* normed, float* update) {
    words_.forward(normed, queries, words, {1, word_count, {}}, update, attention, threads,
                   {tape, where_words_});
  });
  residual(picture_norm_, x, queries, scratch, [&](const float* normed, float* update) {
    picture_.forward(normed, queries, picture, {1, token_count, {}}, update, attention, threads,
                     {tape, where_picture_});
  });
  residual(norm_, x, queries, scratch, [&](const float* normed, float* update) {
    feed_forward_.forward(normed, queries, update, scratch.layer.hidden, threads);
  });
}

layers::FeedForward head_of(const Checkpoint& file, const std::string& name, std::int64_t width,
                            std::int64_t out) {
  return {file.linear(name + ".hidden", width, width), file.linear(name + ".out", out, width),
          layers::Activation::gelu_new};
}

}  // namespace qkv::models::finder
