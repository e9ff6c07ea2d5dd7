#include "layers/embedding.h"

#include <cassert>
#include <cmath>
#include <utility>

namespace qkv::layers {

Buffer sinusoidal_positions(std::int64_t positions, std::int64_t dim) {
  Buffer table(static_cast<std::size_t>(positions * dim));
  const std::int64_t sines = (dim + 1) / 2;
  for (std::int64_t i = 0; i < sines; ++i) {
    const double period = std::pow(10000.0, static_cast<double>(2 * i) / static_cast<double>(dim));
    for (std::int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) / period;
      table[static_cast<std::size_t>(p * dim + i)] = static_cast<float>(std::sin(angle));
      if (sines + i < dim)
        table[static_cast<std::size_t>(p * dim + sines + i)] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

Embedding::Embedding(Buffer table, Buffer positions, std::int64_t dim, float factor)
    : table_(std::move(table)), positions_(std::move(positions)), dim_(dim), factor_(factor) {}

void Embedding::forward(int id, std::int64_t position, float* out) const {
  assert(id >= 0 && id < count() && position >= 0 && position < this->positions());
  const float* row = table_.data() + id * dim_;
  const float* where = positions_.data() + position * dim_;
  for (std::int64_t d = 0; d < dim_; ++d) out[d] = row[d] * factor_ + where[d];
}

}  // namespace qkv::layers
