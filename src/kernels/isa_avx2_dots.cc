#include "kernels/vec_avx2.h"
// the vectors come first: dots_tile.h is written over them
#include "kernels/dots_tile.h"

namespace qkv::kernels {
extern const DotKernels avx2_dot_kernels;
const DotKernels avx2_dot_kernels = dot_table_of("avx2");
}  // namespace qkv::kernels
