#include "kernels/bf16_dots_scalar.h"

namespace qkv::kernels {
extern const Bf16DotKernels scalar_bf16_dot_kernels;
const Bf16DotKernels scalar_bf16_dot_kernels = {
    .name = "scalar",
    .query_dot_keys = scalar::bf16_query_dot_keys,
    .narrow_weights = scalar::narrow_weights,
    .weighted_sum_values = scalar::bf16_weighted_sum_values};
}  // namespace qkv::kernels
