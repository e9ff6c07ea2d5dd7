#include "layers/feed_forward.h"

#include <utility>

namespace qkv::layers {

FeedForward::FeedForward(Linear expand, Linear contract, Activation activation)
    : expand_(std::move(expand)), contract_(std::move(contract)), activation_(activation) {}

void FeedForward::forward(const float* x, std::int64_t rows, float* y, Buffer& hidden,
                          int threads) const {
  const std::int64_t width = expand_.out();
  float* h = at_least(hidden, rows * width);
  expand_.forward(x, expand_.in(), rows, h, width, threads);
  activate(activation_, h, rows * width);
  contract_.forward(h, width, rows, y, contract_.out(), threads);
}

}  // namespace qkv::layers
