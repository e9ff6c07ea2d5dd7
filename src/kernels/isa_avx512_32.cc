#define QKV_PANEL_VECS 2
#include "kernels/vec_avx512.h"
// the vectors come first: tile.h is written over them
#include "kernels/tile.h"

namespace qkv::kernels {
extern const Kernels avx512_16_kernels;
extern const Kernels avx512_32_kernels;
const Kernels avx512_32_kernels = table_of("avx512", &avx512_16_kernels);
}  // namespace qkv::kernels
