#include "kernels/vec_avx512.h"
// the vectors come first: rows_tile.h is written over them
#include "kernels/rows_tile.h"

namespace qkv::kernels {
extern const RowKernels avx512_row_kernels;
const RowKernels avx512_row_kernels = row_table_of("avx512");
}  // namespace qkv::kernels
