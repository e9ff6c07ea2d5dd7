// What the index holds, and what it promises of each block; docs/index.md uses these names.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/kernels.h"
#include "qkv/index.h"

namespace qkv {

inline constexpr std::int64_t kBlockRows = kernels::kMaxChunk;  // most rows of a block
// Blocks that a loop over all of them takes at once. Sums over blocks are added part by part, so it is in the bits of an answer.
inline constexpr std::int64_t kPartBlocks = 128;
// Widens a bound computed in float64 by more than computing it can have rounded off: sums of up to 65536 numbers lose 2⁻³⁷.
inline constexpr double kWiden = 1 + 1e-9;

// Bounds hold for every row of the block: ‖key − centroid‖ ≤ key_radius, ‖value − mean‖ ≤ value_radius,
// ‖key − centroid − step·code‖ ≤ code_error. Those of the means hold for the exact means: ‖mean key − centroid‖ ≤ key_drift,
// ‖mean value − mean‖ ≤ value_drift.
struct IndexBlock {
  std::vector<std::int64_t> ids;
  std::vector<float> keys, values;  // [rows, dim], [rows, value_dim]
  bool mirrored = false;            // values are the keys to the bit, and `values` is empty
  std::vector<std::int8_t> codes;   // [rows, dim] key ≈ centroid + step·code
  double key_radius = 0, key_drift = 0, value_radius = 0, value_drift = 0;
  double centroid_norm = 0, mean_norm = 0;
  double step = 0, code_error = 0;
  std::int64_t changes = 0;  // since it was measured

  std::int64_t rows() const { return static_cast<std::int64_t>(ids.size()); }
  const float* value_rows() const { return mirrored ? keys.data() : values.data(); }
  void append(std::int64_t id, std::span<const float> key, std::span<const float> value);
};

struct MemoryIndex::Store {
  std::int64_t dim = 0, value_dim = 0;
  std::uint64_t seed = 1;
  std::vector<IndexBlock> blocks;
  std::vector<float> centroids, means;  // [blocks, dim], [blocks, value_dim]
  struct Place {
    std::uint32_t block, row;
  };
  std::unordered_map<std::int64_t, Place> places;

  std::int64_t rows() const { return static_cast<std::int64_t>(places.size()); }
  std::span<const float> centroid(std::size_t b) const {
    return std::span(centroids).subspan(b * static_cast<std::size_t>(dim),
                                        static_cast<std::size_t>(dim));
  }
  std::span<const float> mean(std::size_t b) const {
    return std::span(means).subspan(b * static_cast<std::size_t>(value_dim),
                                    static_cast<std::size_t>(value_dim));
  }

  // New centroid, mean value, radii and codes of block b, from its rows.
  void measure(std::size_t b);
  void add_block() {
    blocks.emplace_back();
    centroids.resize(centroids.size() + static_cast<std::size_t>(dim));
    means.resize(means.size() + static_cast<std::size_t>(value_dim));
  }
  void put(std::size_t b, std::int64_t id, std::span<const float> key,
           std::span<const float> value);
  void split(std::size_t b);
};

// ‖a − b‖, a little too large rather than too small. b may be null: ‖a‖.
double distance(const float* a, const float* b, std::int64_t size);

// out[i] = query·rows[i] by the engine's kernel, |out[i] − exact| ≤ γ(kernels::kDotRoundings)·‖query‖·‖row‖ + dim·2⁻¹⁴⁹. Where
// float32 overflows the row is computed in float64.
void query_dot_rows(std::span<const float> query, const float* rows, std::int64_t count,
                    double* out);

}  // namespace qkv
