#include "kernels/vec_avx2.h"
// the vectors come first: tile.h is written over them
#include "kernels/tile.h"

namespace qkv::kernels {
extern const Kernels avx2_kernels;
const Kernels avx2_kernels = table_of("avx2", nullptr);
}  // namespace qkv::kernels
