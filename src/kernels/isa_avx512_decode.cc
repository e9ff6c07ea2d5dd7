#include "kernels/vec_avx512.h"
// the vectors come first: decode_tile.h is written over them
#include "kernels/decode_tile.h"

namespace qkv::kernels {
extern const DecodeKernels avx512_decode_kernels;
const DecodeKernels avx512_decode_kernels = decode_table_of("avx512");
}  // namespace qkv::kernels
