// Maps: pictures of features, [height, width, channels] dense. Their rows are mixed with their neighbours, merged and spread.
#pragma once

#include <cstdint>
#include <span>

#include "layers/buffer.h"
#include "layers/feed_forward.h"
#include "layers/norm.h"

namespace qkv::layers {

struct MapShape {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;

  std::int64_t rows() const { return height * width; }
  std::int64_t size() const { return rows() * channels; }
};

// Every n×n block becomes one row: x [h, w, c] → y [h/n, w/n, n·n·c], the block's rows one after the other. h and w are
// multiples of n.
void merge_blocks(const float* x, const MapShape& shape, std::int64_t n, float* y);

// The way back, added to y: x [h, w, n·n·c] → y [h·n, w·n, c]; `shape` is x's.
void add_spread_blocks(const float* x, const MapShape& shape, std::int64_t n, float* y);

// Each channel with its eight neighbours, zeros beyond the edge (a depthwise 3×3 convolution):
//   y[i][j][c] = bias[c] + Σ_{u,v ∈ −1..1} weight[c][u+1][v+1] · x[i+u][j+v][c]
class NeighbourMix {
 public:
  NeighbourMix() = default;
  // weight [channels, 3, 3], bias [channels]
  NeighbourMix(std::span<const float> weight, std::span<const float> bias);

  void forward(const float* x, std::int64_t height, std::int64_t width, float* y,
               int threads) const;

 private:
  Buffer taps_;  // [9, channels]
  Buffer bias_;
};

// x ← x + feed_forward(norm(mix(x))), the block of ConvNeXt (Liu et al. 2022) with a 3×3 neighbourhood.
class LocalBlock {
 public:
  struct Scratch {
    Buffer mixed;
    Buffer hidden;
  };

  LocalBlock() = default;
  LocalBlock(NeighbourMix mix, LayerNorm norm, FeedForward feed_forward);

  // x [height, width, channels], in place.
  void forward(float* x, std::int64_t height, std::int64_t width, Scratch& scratch,
               int threads) const;

 private:
  NeighbourMix mix_;
  LayerNorm norm_;
  FeedForward feed_forward_;
};

}  // namespace qkv::layers
