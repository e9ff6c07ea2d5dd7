// The main step for few query rows over many keys, as when a decoder writes: a row of scores for each query instead of a lane
// of a panel. Keys and values are read once, in the type in which they are stored, and widened in registers.
//
// A row's numbers have the bits they would have as a lane of a panel (kernels.h). decode_scalar.h is the specification;
// decode_tile.h is the same over vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace qkv::kernels {

// What keys or values are stored as; all of them widen to float exactly.
enum class Element : std::uint8_t { f32, f16, bf16, i8 };
inline constexpr int kElements = 4;

// Scores of row r begin at scores + r·kScoreStride: a chunk, and room for a vector that begins at its last key.
inline constexpr int kScoreStride = kMaxChunk + 16;
// Sums of row r begin at acc + r·acc_stride(dim): whole vectors of every instruction set.
constexpr std::int64_t acc_stride(int dim) { return (dim + 15) / 16 * 16; }

// `count` rows of `dim` elements, `stride` elements apart.
struct StoredRows {
  const void* data = nullptr;
  std::int64_t stride = 0;
  int count = 0;
  int dim = 0;
};

// How many rows ahead of those that are worked on memory is asked for. Measured at 64 to 512 bytes a row: what is asked for and
// what is worked on must fit into the first-level cache together, and half as far ahead costs a tenth of the bandwidth.
constexpr int rows_ahead(int bytes_of_row) {
  if (bytes_of_row < 512) return kMaxChunk;
  const int rows = 16384 / bytes_of_row;
  return rows < 32 ? 32 : rows;
}

// Rows that will be worked on next: the first of them are asked for while others are worked on. Without them, none is. Bytes.
struct RowsAhead {
  const std::byte* data = nullptr;
  std::int64_t stride = 0;
  int count = 0;
  int bytes = 0;  // of a row
};

// What depends on the type of keys and values.
struct ElementKernels {
  // scores[r][k] = Σ_d queries[r][d] · keys[k][d], queries [rows, keys.dim] dense. Up to a vector beyond the last key is
  // overwritten.
  void (*query_dot_keys)(const float* queries, int rows, const StoredRows& keys,
                         const RowsAhead& next, float* scores);

  // acc[r][d] = acc[r][d]·alpha[r] + Σ_k weights[r][k] · values[k][d], a chain from k = 0. What is in acc beyond dim is of no
  // use before and after.
  void (*weighted_sum_values)(const float* weights, int rows, const StoredRows& values,
                              const RowsAhead& next, const float* alpha, float* acc);

  // The same for one row and the values listed[0], listed[1], … alone; weights are listed alike.
  void (*weighted_sum_listed_values)(const float* weights, const std::int32_t* listed, int count,
                                     const StoredRows& values, float alpha, float* acc);

  // Whether no element of the rows is Inf or NaN.
  bool (*all_finite)(const StoredRows& rows);
};

struct DecodeKernels {
  const char* name;
  ElementKernels of[kElements];

  // row[k] *= factor[k], k < key_count
  void (*scale)(float* row, int key_count, const float* factor);
  // row[k] → cap·tanh(row[k] / cap)·factor
  void (*softcap)(float* row, int key_count, float cap, float factor);
  // row[k] −= slope · |position − (first_key + k)|
  void (*add_alibi)(float* row, int key_count, std::int32_t first_key, std::int32_t position,
                    float slope);
  // One chunk of the online softmax of each row; state's arrays have `rows` entries. Scores up to a vector beyond the last are
  // overwritten. Unless state.spread is null it is softmax_traced; its other bits are the same.
  void (*softmax)(float* scores, int rows, int key_count, const SoftmaxState& state);
  // merge_states of kernels.h for one row: state points to one number each.
  void (*merge_states)(int dim, const SoftmaxState& total, float* total_acc,
                       const SoftmaxState& part, const float* part_acc);
};

// The table of the instruction set in use (qkv::isa()); chosen once.
const DecodeKernels& decode_kernels();
// By name; null if this build or this CPU lacks it.
const DecodeKernels* decode_kernels_of(const char* name);

}  // namespace qkv::kernels
