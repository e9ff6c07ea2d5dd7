#include "layers/maps.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "attention/parallel.h"

namespace qkv::layers {
namespace {

// Rows of a map that are worth a thread: one of 64 pixels and 64 channels takes 10 µs or so.
constexpr std::int64_t kRowsOfTask = 8;

}  // namespace

void merge_blocks(const float* x, const MapShape& shape, std::int64_t n, float* y) {
  assert(shape.height % n == 0 && shape.width % n == 0);
  const std::int64_t run = n * shape.channels;  // a block's pixels of one line lie together
  for (std::int64_t i = 0; i < shape.height; ++i)
    for (std::int64_t j = 0; j < shape.width / n; ++j)
      std::copy_n(x + (i * shape.width + j * n) * shape.channels, run,
                  y + ((i / n * (shape.width / n) + j) * n + i % n) * run);
}

void add_spread_blocks(const float* x, const MapShape& shape, std::int64_t n, float* y) {
  const std::int64_t run = shape.channels / n, wide = shape.width * run;
  for (std::int64_t i = 0; i < shape.height * n; ++i)
    for (std::int64_t j = 0; j < shape.width; ++j) {
      const float* from = x + ((i / n * shape.width + j) * n + i % n) * run;
      float* to = y + i * wide + j * run;
      for (std::int64_t k = 0; k < run; ++k) to[k] += from[k];
    }
}

NeighbourMix::NeighbourMix(std::span<const float> weight, std::span<const float> bias)
    : taps_(weight.size()), bias_(bias.begin(), bias.end()) {
  assert(weight.size() == 9 * bias.size());
  for (std::size_t c = 0; c < bias.size(); ++c)
    for (std::size_t tap = 0; tap < 9; ++tap) taps_[tap * bias.size() + c] = weight[c * 9 + tap];
}

void NeighbourMix::forward(const float* x, std::int64_t height, std::int64_t width, float* y,
                           int threads) const {
  const auto channels = static_cast<std::int64_t>(bias_.size());
  const auto line = [&](std::int64_t i) {
    for (std::int64_t j = 0; j < width; ++j) {
      float* out = y + (i * width + j) * channels;
      std::copy(bias_.begin(), bias_.end(), out);
      for (std::int64_t u = std::max<std::int64_t>(i - 1, 0); u <= std::min(i + 1, height - 1); ++u)
        for (std::int64_t v = std::max<std::int64_t>(j - 1, 0); v <= std::min(j + 1, width - 1);
             ++v) {
          const float* in = x + (u * width + v) * channels;
          const float* tap = taps_.data() + ((u - i + 1) * 3 + v - j + 1) * channels;
          for (std::int64_t c = 0; c < channels; ++c) out[c] += tap[c] * in[c];
        }
    }
  };
  const std::int64_t tasks = (height + kRowsOfTask - 1) / kRowsOfTask;
  parallel_for(threads, tasks, [&](std::int64_t task) {
    const std::int64_t last = std::min(height, (task + 1) * kRowsOfTask);
    for (std::int64_t i = task * kRowsOfTask; i < last; ++i) line(i);
  });
}

LocalBlock::LocalBlock(NeighbourMix mix, LayerNorm norm, FeedForward feed_forward)
    : mix_(std::move(mix)), norm_(std::move(norm)), feed_forward_(std::move(feed_forward)) {}

void LocalBlock::forward(float* x, std::int64_t height, std::int64_t width, Scratch& scratch,
                         int threads) const {
  const std::int64_t rows = height * width, size = rows * norm_.width();
  float* mixed = at_least(scratch.mixed, size);
  mix_.forward(x, height, width, mixed, threads);
  norm_.forward(mixed, nullptr, rows, mixed);
  feed_forward_.forward(mixed, rows, mixed, scratch.hidden, threads);
  for (std::int64_t i = 0; i < size; ++i) x[i] += mixed[i];
}

}  // namespace qkv::layers
