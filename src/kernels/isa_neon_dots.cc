#include "kernels/vec_neon.h"
// the vectors come first: dots_tile.h is written over them
#include "kernels/dots_tile.h"

namespace qkv::kernels {
extern const DotKernels neon_dot_kernels;
const DotKernels neon_dot_kernels = dot_table_of("neon");
}  // namespace qkv::kernels
