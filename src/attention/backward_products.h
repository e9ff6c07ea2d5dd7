// How the five products of the backward pass multiply: floats, or bfloat16 in pairs by the CPU's dot instruction. Either way the
// scores' gradients are computed as floats; what enters a product as pairs is rounded to bfloat16 just before.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/chunk.h"
#include "attention/panel.h"
#include "attention/problem.h"
#include "attention/products.h"
#include "kernels/kernels.h"
#include "kernels/pairs.h"

namespace qkv {

// The kernels for a call whose d_out has this type: with pairs where it, query, key and value are all bfloat16 and the CPU has
// them, else those of floats, to which everything is widened.
const kernels::Kernels& gradient_kernels(const Problem& p, DType d_out);

// Numbers from one row to the next in this pass's own memory. Rows lie close: the processor foresees what comes next, and an odd
// stride, which would spread them over more cache sets, is 5% slower.
inline std::int64_t padded(std::int64_t dim) {
  return (dim + kernels::kDimStep - 1) / kernels::kDimStep * kernels::kDimStep;
}

// Queries, or d_out, of a panel as its two products read them: over dims, lanes side by side, and over queries, dims side by
// side. Exactly one of rows and pairs is set.
struct PanelRows {
  const float* packed = nullptr;         // [d][lane], or pairs [d/2][lane]
  const float* rows = nullptr;           // [lane][padded d]
  const kernels::Pair* pairs = nullptr;  // [lane/2][padded d]
  bool finite = true;                    // whether no element is Inf or NaN
};

// Floats of memory for PanelRows of these dims, all in all; the packed numbers come first.
std::size_t panel_rows_floats(const kernels::Kernels& kernel, int dim);

// `queries` of the panel's own are packed with what pack_panel does to them; else rows are packed as they are.
PanelRows load_panel_rows(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                          const Rows& from, int dim, bool queries, float* memory);

// Keys, or values, of a block as their products read them: floats or halves one every padded dim, and keys, for d_query, as
// pairs [k/2][d] too.
struct BlockRows {
  KeyChunk rows;
  const kernels::Pair* pairs = nullptr;
  bool finite = true;
};

// Floats of memory that load_block_rows may need for `count` rows.
std::size_t block_rows_floats(std::size_t count, int dim);

BlockRows load_block_rows(const kernels::Kernels& kernel, const Rows& from, std::int64_t b,
                          std::int64_t kv_head, Range range, int dim, bool with_pairs,
                          float* memory);

// d_weights[k][lane] = Σ_d d_out[lane][d]·value[k][d], but for lanes that see none of a run of keys.
void value_dots(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                const PanelRows& d_out, const KeyChunk& values, float* d_weights);

// A tile [key][lane] of weights or of scores' gradients, and what it is rounded to.
struct GradientTile {
  float* floats = nullptr;
  std::uint16_t* halves = nullptr;  // null where products multiply floats
};

// acc[k][d] += Σ_q tile[k][q]·rows[q][d]. `hidden` is given where a row that is not finite may be hidden from a key: such pairs
// are left out one by one. Else whole lanes that see none of the keys are.
struct QuerySum {
  const kernels::Kernels& kernel;
  const Panel& panel;
  Range keys;
  const HiddenLanes* hidden;

  void add(const GradientTile& tile, const PanelRows& rows, int dim, float* acc) const;
};

}  // namespace qkv
