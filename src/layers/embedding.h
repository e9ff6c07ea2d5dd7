// Ids to vectors: a row of a table, times a factor, plus the position's sines and cosines.
#pragma once

#include <cstdint>
#include <span>

#include "layers/buffer.h"

namespace qkv::layers {

// [positions, dim]: the sines of all frequencies, then their cosines,
//   table[p][i] = sin(p / 10000^(2i/dim)) for i < ⌈dim/2⌉,  table[p][⌈dim/2⌉ + i] = cos(p / 10000^(2i/dim)),
// as Marian and XLM order them (Vaswani et al. 2017, §3.5, interleaves the two).
Buffer sinusoidal_positions(std::int64_t positions, std::int64_t dim);

class Embedding {
 public:
  Embedding() = default;
  // table [count, dim], positions [most, dim]
  Embedding(Buffer table, Buffer positions, std::int64_t dim, float factor);

  std::int64_t count() const { return static_cast<std::int64_t>(table_.size()) / dim_; }
  std::int64_t positions() const { return static_cast<std::int64_t>(positions_.size()) / dim_; }
  std::span<const float> table() const { return table_; }

  // out[d] = factor · table[id][d] + positions[position][d]
  void forward(int id, std::int64_t position, float* out) const;

 private:
  Buffer table_;
  Buffer positions_;
  std::int64_t dim_ = 1;
  float factor_ = 1;
};

}  // namespace qkv::layers
