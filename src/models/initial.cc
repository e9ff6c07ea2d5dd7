#include "models/initial.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

namespace qkv::models {
namespace {

// Fowler, Noll & Vo, FNV-1a, 64 bits.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 14695981039346656037U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return value;
}

bool is_embedding(std::string_view name) {
  for (const char* part : {"shared", "embed_tokens", "lm_head"})
    if (name.find(part) != std::string_view::npos) return true;
  return false;
}

}  // namespace

std::vector<float> initial_tensor(std::string_view name, std::span<const std::int64_t> shape,
                                  std::uint64_t seed, std::int64_t blank) {
  std::int64_t size = 1;
  for (const std::int64_t side : shape) size *= side;
  std::vector<float> values(static_cast<std::size_t>(size));
  if (name.ends_with("bias")) return values;
  if (shape.size() == 1) return std::vector<float>(values.size(), 1.0F);

  std::mt19937_64 engine(seed ^ hash(name));
  const auto draw = [&engine] { return static_cast<double>(engine() >> 11) * 0x1p-53; };
  if (!is_embedding(name)) {
    const double most = std::sqrt(6.0 / static_cast<double>(shape[0] + shape[1]));
    for (float& value : values) value = static_cast<float>(most * (2 * draw() - 1));
    return values;
  }
  const double deviation = 1 / std::sqrt(static_cast<double>(shape[1]));
  for (float& value : values) {
    const double radius = std::sqrt(-2 * std::log1p(-draw()));
    value = static_cast<float>(deviation * radius * std::cos(2 * std::numbers::pi * draw()));
  }
  if (blank >= 0 && blank < shape[0])
    std::fill_n(values.begin() + blank * shape[1], shape[1], 0.0F);
  return values;
}

}  // namespace qkv::models
