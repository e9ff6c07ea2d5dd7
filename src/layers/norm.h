// Layer normalisation (Ba et al. 2016).
#pragma once

#include <cstdint>
#include <span>

#include "layers/buffer.h"

namespace qkv::layers {

class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(std::span<const float> weight, std::span<const float> bias, float epsilon = 1e-5f);

  std::int64_t width() const { return static_cast<std::int64_t>(weight_.size()); }

  // y[r] = (x[r] − mean) / √(variance + ε) · weight + bias with x = sum[r] + add[r] (add may be null); y may be sum or add.
  // All [rows, dim] dense.
  void forward(const float* sum, const float* add, std::int64_t rows, float* y) const;

 private:
  Buffer weight_;
  Buffer bias_;
  float epsilon_ = 0;
};

}  // namespace qkv::layers
