#define QKV_PANEL_VECS 1
#include "kernels/vec_avx512.h"
// the vectors come first: tile_pairs.h is written over them
#include "kernels/vec_avx512_bf16.h"
//
#include "kernels/tile_pairs.h"

namespace qkv::kernels {
extern const PairKernels avx512bf16_16_pairs;
const PairKernels avx512bf16_16_pairs = pair_table();
}  // namespace qkv::kernels
