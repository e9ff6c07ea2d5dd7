#include "kernels/vec_avx512.h"
// the vectors come first: tile.h is written over them
#include "kernels/tile.h"

namespace qkv::kernels {
extern const Kernels avx512_32_kernels;
extern const Kernels avx512_kernels;
const Kernels avx512_kernels = table_of("avx512", &avx512_32_kernels);
}  // namespace qkv::kernels
