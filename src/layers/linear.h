// y = x·Wᵀ + b, over the engine's own tiles.
#pragma once

#include <cstdint>
#include <span>

#include "layers/buffer.h"

namespace qkv::layers {

// Some outputs of a linear layer: weight [out, in] row by row, bias [out] or null for none.
struct LinearPart {
  const float* weight = nullptr;
  const float* bias = nullptr;
  std::int64_t out = 0;
};

// The weights are packed once, when the layer is made. Layers that read the same input can be one: their outputs follow
// one another (query, key and value of self-attention).
class Linear {
 public:
  Linear() = default;
  Linear(std::int64_t in, std::span<const LinearPart> parts);
  Linear(std::int64_t in, const LinearPart& part) : Linear(in, std::span(&part, 1)) {}

  std::int64_t in() const { return in_; }
  std::int64_t out() const { return out_; }

  // y[r][o] = bias[o] + Σ_i x[r][i] · weight[o][i]; x [rows, in], y [rows, out], rows x_stride and y_stride apart.
  // The bits of a row depend on nothing but the row, whatever `rows` and `threads` are.
  void forward(const float* x, std::int64_t x_stride, std::int64_t rows, float* y,
               std::int64_t y_stride, int threads) const;

 private:
  std::int64_t in_ = 0;
  std::int64_t out_ = 0;
  // [⌈out / panel⌉, in, panel]. Weights that are all halves (a checkpoint in fp16) are kept as halves: the products have
  // the same bits, and a decoder's step, which waits for its weights to come from memory, waits half as long.
  Buffer packed_;
  HalfBuffer packed_half_;
  Buffer bias_;  // [⌈out / panel⌉ · panel], 0 where there is none
};

}  // namespace qkv::layers
