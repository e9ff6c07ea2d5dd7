#include "models/checkpoint.h"

namespace qkv::models {

Checkpoint::Checkpoint(const std::filesystem::path& folder)
    : file_(Safetensors::open(folder / "model.safetensors")) {}

std::vector<float> Checkpoint::tensor(const std::string& name,
                                      std::initializer_list<std::int64_t> shape) const {
  return file_.read(name, std::span(shape.begin(), shape.size()));
}

Checkpoint::Affine Checkpoint::affine(const std::string& name, std::int64_t out,
                                      std::int64_t in) const {
  return {tensor(name + ".weight", {out, in}), tensor(name + ".bias", {out})};
}

layers::Linear Checkpoint::linear(const std::string& name, std::int64_t out,
                                  std::int64_t in) const {
  return layers::Linear(in, affine(name, out, in).part());
}

layers::LayerNorm Checkpoint::norm(const std::string& name, std::int64_t width,
                                   float epsilon) const {
  const bool old = !has(name + ".weight") && has(name + ".gamma");
  return layers::LayerNorm(tensor(name + (old ? ".gamma" : ".weight"), {width}),
                           tensor(name + (old ? ".beta" : ".bias"), {width}), epsilon);
}

}  // namespace qkv::models
