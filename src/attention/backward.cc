// Placeholder, to be replaced: gradients are declared in qkv/attention.h and not built yet.
#include <stdexcept>

#include "qkv/attention.h"

namespace qkv {

void attention_backward(const TensorView&, const TensorView&, const TensorView&,
                        const AttentionOptions&, const AttentionForward&, const TensorView&,
                        const AttentionGradients&, std::span<const float>) {
  throw std::logic_error("not built yet");
}

}  // namespace qkv
