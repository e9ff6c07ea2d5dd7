#include "kernels/vec_neon.h"
// the vectors come first: decode_tile.h is written over them
#include "kernels/decode_tile.h"

namespace qkv::kernels {
extern const DecodeKernels neon_decode_kernels;
const DecodeKernels neon_decode_kernels = decode_table_of("neon");
}  // namespace qkv::kernels
