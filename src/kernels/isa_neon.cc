#include "kernels/vec_neon.h"
// the vectors come first: tile.h is written over them
#include "kernels/tile.h"

namespace qkv::kernels {
extern const Kernels neon_kernels;
const Kernels neon_kernels = table_of("neon", nullptr);
}  // namespace qkv::kernels
