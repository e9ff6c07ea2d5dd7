#include "models/finder/picture_encoder.h"

#include <algorithm>
#include <string>

namespace qkv::models::finder {
namespace {

using layers::Buffer;
using layers::Linear;
using layers::MapShape;

constexpr int kMiddleBlocks = 2;  // as training/finder/model.py has them

layers::LocalBlock local_block(const Checkpoint& file, const std::string& name,
                               std::int64_t channels) {
  const auto weight = file.tensor(name + ".mix.weight", {channels, 1, 3, 3});
  return {layers::NeighbourMix(weight, file.tensor(name + ".mix.bias", {channels})),
          file.norm(name + ".norm", channels),
          feed_forward_of(file, name + ".feed_forward", channels, 2 * channels)};
}

// One new row for each row of x.
Buffer apply(const Linear& linear, const Buffer& x, int threads) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / linear.in();
  Buffer y(static_cast<std::size_t>(rows * linear.out()));
  linear.forward(x.data(), linear.in(), rows, y.data(), linear.out(), threads);
  return y;
}

// Every n×n block of the map as one row, and a new row for each.
Buffer merged(const Linear& linear, const Buffer& x, const MapShape& shape, std::int64_t n,
              int threads) {
  Buffer blocks(x.size());
  layers::merge_blocks(x.data(), shape, n, blocks.data());
  return apply(linear, blocks, threads);
}

}  // namespace

PictureEncoder::PictureEncoder(const Checkpoint& file, const Config& c) : config_(c) {
  const std::string root = "picture.";
  patch_ = file.linear(root + "patch", c.fine, std::int64_t{3} * c.patch * c.patch);
  fine_ = local_block(file, root + "fine.0", c.fine);
  to_middle_ = file.linear(root + "to_middle", c.middle, std::int64_t{4} * c.fine);
  for (int i = 0; i < kMiddleBlocks; ++i)
    middle_.push_back(local_block(file, root + "middle." + std::to_string(i), c.middle));
  to_tokens_ = file.linear(root + "to_tokens", c.width, std::int64_t{4} * c.middle);
  const auto position = file.tensor(root + "position", {c.tokens(), c.width});
  position_.assign(position.begin(), position.end());
  for (int i = 0; i < c.picture_layers; ++i)
    layers_.emplace_back(file, root + "layers." + std::to_string(i),
                         root + std::to_string(i) + ".self", c.width, c.heads, c.picture_ffn);
  norm_ = file.norm(root + "norm", c.width);
  token_pixels_ = file.linear(root + "token_pixels", std::int64_t{16} * c.pixel, c.width);
  middle_pixels_ = file.linear(root + "middle_pixels", std::int64_t{4} * c.pixel, c.middle);
  fine_pixels_ = file.linear(root + "fine_pixels", c.pixel, c.fine);
  pixel_ = local_block(file, root + "pixel", c.pixel);
  pixel_norm_ = file.norm(root + "pixel_norm", c.pixel);
  sharpen_ = head_of(file, root + "sharpen", c.pixel, std::int64_t{4} * c.pixel);
}

void PictureEncoder::forward(const float* rgb, float* tokens, float* pixels, int threads,
                             layers::AttentionTape* tape) const {
  const Config& c = config_;
  const std::int64_t fine_side = c.fine_side(), middle_side = fine_side / 2, side = c.side();
  const MapShape picture{c.image, c.image, 3};
  layers::LocalBlock::Scratch local;

  Buffer centred(static_cast<std::size_t>(picture.size()));
  for (std::int64_t i = 0; i < picture.size(); ++i) centred[i] = (rgb[i] - 0.5f) * 4;
  Buffer fine = merged(patch_, centred, picture, c.patch, threads);
  fine_.forward(fine.data(), fine_side, fine_side, local, threads);

  Buffer middle = merged(to_middle_, fine, {fine_side, fine_side, c.fine}, 2, threads);
  for (const layers::LocalBlock& block : middle_)
    block.forward(middle.data(), middle_side, middle_side, local, threads);

  Buffer x = merged(to_tokens_, middle, {middle_side, middle_side, c.middle}, 2, threads);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += position_[i];
  BlockScratch scratch;
  for (const EncoderBlock& layer : layers_)
    layer.forward(x.data(), c.tokens(), scratch, threads, tape);
  norm_.forward(x.data(), nullptr, c.tokens(), tokens);

  // said = what the finest patches say, and on it what the coarser ones say of each of theirs
  x.assign(tokens, tokens + c.tokens() * c.width);
  const Buffer coarse = apply(token_pixels_, x, threads);
  const Buffer half = apply(middle_pixels_, middle, threads);
  Buffer said = apply(fine_pixels_, fine, threads);
  layers::add_spread_blocks(half.data(), {middle_side, middle_side, std::int64_t{4} * c.pixel}, 2,
                            said.data());
  layers::add_spread_blocks(coarse.data(), {side, side, std::int64_t{16} * c.pixel}, 4,
                            said.data());
  pixel_.forward(said.data(), fine_side, fine_side, local, threads);
  pixel_norm_.forward(said.data(), nullptr, fine_side * fine_side, said.data());

  // pixels = each patch's four: what it says, and how each of them differs
  const std::int64_t patches = fine_side * fine_side, four = std::int64_t{4} * c.pixel;
  Buffer hidden, sharp(static_cast<std::size_t>(patches * four));
  sharpen_.forward(said.data(), patches, sharp.data(), hidden, threads);
  for (std::int64_t i = 0; i < patches; ++i)
    for (std::int64_t k = 0; k < four; ++k) sharp[i * four + k] += said[i * c.pixel + k % c.pixel];
  std::fill_n(pixels, patches * four, 0.0f);
  layers::add_spread_blocks(sharp.data(), {fine_side, fine_side, four}, 2, pixels);
}

}  // namespace qkv::models::finder
