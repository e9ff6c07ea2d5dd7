// y = W₂·f(W₁·x + b₁) + b₂, for each row by itself.
#pragma once

#include <cstdint>

#include "layers/activation.h"
#include "layers/linear.h"

namespace qkv::layers {

class FeedForward {
 public:
  FeedForward() = default;
  FeedForward(Linear expand, Linear contract, Activation activation);

  // x [rows, in] dense, y [rows, out] dense; `hidden` is working memory.
  void forward(const float* x, std::int64_t rows, float* y, Buffer& hidden, int threads) const;

 private:
  Linear expand_;
  Linear contract_;
  Activation activation_ = Activation::relu;
};

}  // namespace qkv::layers
