// Layers from a checkpoint, by the names that transformers gives their parameters: a linear layer is NAME.weight [out, in] and
// NAME.bias [out], a normalisation NAME.weight and NAME.bias [width].
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "layers/norm.h"
#include "models/safetensors.h"

namespace qkv::models {

// Each function throws std::runtime_error that names the file, the tensor, what was expected and what is there.
class Checkpoint {
 public:
  // Opens model.safetensors of a model's folder.
  explicit Checkpoint(const std::filesystem::path& folder);

  const Safetensors& file() const { return file_; }
  bool has(const std::string& name) const { return file_.has(name); }

  std::vector<float> tensor(const std::string& name,
                            std::initializer_list<std::int64_t> shape) const;

  // A weight and a bias, kept alive until the layer is packed.
  struct Affine {
    std::vector<float> weight;
    std::vector<float> bias;
    layers::LinearPart part() const {
      return {weight.data(), bias.data(), static_cast<std::int64_t>(bias.size())};
    }
  };
  Affine affine(const std::string& name, std::int64_t out, std::int64_t in) const;

  layers::Linear linear(const std::string& name, std::int64_t out, std::int64_t in) const;
  // The oldest checkpoints call the two gamma and beta.
  layers::LayerNorm norm(const std::string& name, std::int64_t width, float epsilon = 1e-5f) const;

 private:
  Safetensors file_;
};

}  // namespace qkv::models
