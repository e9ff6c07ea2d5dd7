#include "layers/norm.h"

#include "kernels/rows.h"

namespace qkv::layers {

LayerNorm::LayerNorm(std::span<const float> weight, std::span<const float> bias, float epsilon)
    : weight_(weight.begin(), weight.end()), bias_(bias.begin(), bias.end()), epsilon_(epsilon) {}

void LayerNorm::forward(const float* sum, const float* add, std::int64_t rows, float* y) const {
  const kernels::RowKernels& kernels = kernels::row_kernels();
  for (std::int64_t r = 0; r < rows; ++r)
    kernels.layer_norm(sum + r * width(), add != nullptr ? add + r * width() : nullptr,
                       weight_.data(), bias_.data(), epsilon_, width(), y + r * width());
}

}  // namespace qkv::layers
