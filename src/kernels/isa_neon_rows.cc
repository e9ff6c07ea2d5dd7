#include "kernels/vec_neon.h"
// the vectors come first: rows_tile.h is written over them
#include "kernels/rows_tile.h"

namespace qkv::kernels {
extern const RowKernels neon_row_kernels;
const RowKernels neon_row_kernels = row_table_of("neon");
}  // namespace qkv::kernels
