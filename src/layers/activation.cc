#include "layers/activation.h"

#include <array>
#include <utility>

#include "kernels/rows.h"

namespace qkv::layers {

std::optional<Activation> activation_of(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Activation>, 9> kNames = {
      {{"relu", Activation::relu},
       {"gelu", Activation::gelu},
       {"gelu_python", Activation::gelu},
       {"gelu_new", Activation::gelu_new},
       {"gelu_pytorch_tanh", Activation::gelu_new},
       {"gelu_fast", Activation::gelu_new},
       {"silu", Activation::silu},
       {"swish", Activation::silu},
       {"tanh", Activation::tanh}}};
  for (const auto& [known, activation] : kNames)
    if (known == name) return activation;
  return std::nullopt;
}

void activate(Activation activation, float* values, std::int64_t count) {
  const kernels::RowKernels& rows = kernels::row_kernels();
  switch (activation) {
    case Activation::relu:
      for (std::int64_t i = 0; i < count; ++i)
        values[i] = values[i] < 0 ? 0 : values[i];  // a NaN stays
      return;
    case Activation::gelu:
      return rows.gelu(values, count);
    case Activation::gelu_new:
      return rows.gelu_new(values, count);
    case Activation::silu:
      return rows.silu(values, count);
    case Activation::tanh:
      return rows.tanh(values, count);
  }
}

}  // namespace qkv::layers
