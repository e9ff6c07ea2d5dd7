// Maps: blocks merged and spread, neighbours mixed, against loops that follow the definitions.
#include "layers/maps.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace qkv::layers {
namespace {

std::vector<float> random_floats(std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = uniform(generator);
  return values;
}

TEST(Maps, MergeKeepsABlocksLinesInOrder) {
  // a 2×4 map of one channel: two 2×2 blocks
  const std::vector<float> x = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> y(8);
  merge_blocks(x.data(), {2, 4, 1}, 2, y.data());
  EXPECT_EQ(y, (std::vector<float>{0, 1, 4, 5, 2, 3, 6, 7}));
}

TEST(Maps, SpreadUndoesMergeAndAdds) {
  for (const std::int64_t n : {1, 2, 3})
    for (const std::int64_t channels : {1, 3, 16}) {
      const MapShape shape{6, 12, channels};
      const auto x = random_floats(shape.size(), 1), before = random_floats(shape.size(), 2);
      std::vector<float> merged(x.size()), y = before;
      merge_blocks(x.data(), shape, n, merged.data());
      add_spread_blocks(merged.data(), {6 / n, 12 / n, n * n * channels}, n, y.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], before[i] + x[i]) << n;
    }
}

TEST(Maps, NeighbourMixIsADepthwiseConvolution) {
  for (const auto& [height, width, channels] :
       {MapShape{1, 1, 1}, {1, 5, 2}, {5, 1, 3}, {9, 7, 17}, {20, 20, 4}}) {
    const auto x = random_floats(height * width * channels, 3);
    const auto weight = random_floats(channels * 9, 4), bias = random_floats(channels, 5);
    const NeighbourMix mix(weight, bias);
    std::vector<float> y(x.size()), with_threads(x.size());
    mix.forward(x.data(), height, width, y.data(), 1);
    mix.forward(x.data(), height, width, with_threads.data(), 3);
    EXPECT_EQ(y, with_threads);
    for (std::int64_t i = 0; i < height; ++i)
      for (std::int64_t j = 0; j < width; ++j)
        for (std::int64_t c = 0; c < channels; ++c) {
          double want = bias[c];
          for (std::int64_t u = -1; u <= 1; ++u)
            for (std::int64_t v = -1; v <= 1; ++v)
              if (i + u >= 0 && i + u < height && j + v >= 0 && j + v < width)
                want += double{weight[c * 9 + (u + 1) * 3 + v + 1]} *
                        x[((i + u) * width + j + v) * channels + c];
          // nine products and a bias, each below 1: 10 roundings of at most 10 · 2⁻²⁴
          ASSERT_NEAR(y[(i * width + j) * channels + c], want, 10 * 10 * std::ldexp(1.0, -24));
        }
  }
}

TEST(Maps, LocalBlockAddsWhatItFinds) {
  const std::int64_t side = 4, channels = 2;
  const std::vector<float> zeros(18), zero_bias(2), ones(2, 1.0f);
  // a mix of nothing is 0 everywhere, its norm is the norm's bias, and the layers after it add a constant
  const std::vector<float> shift = {0.5f, -1.0f}, up = {1, 0, 0, 1}, down = {2, 0, 0, 2},
                           up_bias = {0, 0}, down_bias = {0.25f, 0};
  const LocalBlock block(NeighbourMix(zeros, zero_bias), LayerNorm(ones, shift),
                         FeedForward(Linear(channels, LinearPart{up.data(), up_bias.data(), 2}),
                                     Linear(channels, LinearPart{down.data(), down_bias.data(), 2}),
                                     Activation::relu));
  const auto before = random_floats(side * side * channels, 6);
  std::vector<float> x = before;
  LocalBlock::Scratch scratch;
  block.forward(x.data(), side, side, scratch, 1);
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_FLOAT_EQ(x[i], before[i] + (i % 2 == 0 ? 1.25f : 0.0f));  // relu(−1) is 0
}

}  // namespace
}  // namespace qkv::layers
