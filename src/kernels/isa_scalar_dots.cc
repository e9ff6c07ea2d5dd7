#include "kernels/dots.h"
#include "kernels/dots_scalar.h"

namespace qkv::kernels {
extern const DotKernels scalar_dot_kernels;
const DotKernels scalar_dot_kernels = {.name = "scalar",
                                       .query_dot_rows = scalar::query_dot_rows,
                                       .query_dot_codes = scalar::query_dot_codes};
}  // namespace qkv::kernels
