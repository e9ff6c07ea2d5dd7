#include "kernels/vec_avx2.h"
// the vectors come first: rows_tile.h is written over them
#include "kernels/rows_tile.h"

namespace qkv::kernels {
extern const RowKernels avx2_row_kernels;
const RowKernels avx2_row_kernels = row_table_of("avx2");
}  // namespace qkv::kernels
