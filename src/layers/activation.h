// Activation functions, element by element.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace qkv::layers {

enum class Activation : std::uint8_t {
  relu,      // max(x, 0)
  gelu,      // x·Φ(x) = x/2·(1 + erf(x/√2))
  gelu_new,  // x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
  silu,      // x / (1 + e^−x), also called swish
  tanh,
};

// By the name that Hugging Face's config.json uses; nothing for a name that is not known.
std::optional<Activation> activation_of(std::string_view name);

// values[i] = f(values[i])
void activate(Activation activation, float* values, std::int64_t count);

}  // namespace qkv::layers
