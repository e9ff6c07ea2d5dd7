#include "kernels/rows.h"
#include "kernels/rows_scalar.h"

namespace qkv::kernels {
extern const RowKernels scalar_row_kernels;
const RowKernels scalar_row_kernels = {.name = "scalar",
                                       .silu = scalar::silu,
                                       .gelu = scalar::gelu,
                                       .gelu_new = scalar::gelu_new,
                                       .tanh = scalar::tanh,
                                       .widen_half = scalar::widen_half,
                                       .widen_bfloat16 = scalar::widen_bfloat16,
                                       .widen_int8 = scalar::widen_int8,
                                       .narrow_half = scalar::narrow_half,
                                       .narrow_bfloat16 = scalar::narrow_bfloat16,
                                       .largest = scalar::largest,
                                       .sum_of_exp = scalar::sum_of_exp,
                                       .layer_norm = scalar::layer_norm};
}  // namespace qkv::kernels
