#include "kernels/decode_scalar.h"

namespace qkv::kernels {
extern const DecodeKernels scalar_decode_kernels;
const DecodeKernels scalar_decode_kernels = {
    .name = "scalar",
    .of = {scalar::element_kernels<scalar::Float>(), scalar::element_kernels<scalar::Half>(),
           scalar::element_kernels<scalar::Bfloat16>(), scalar::element_kernels<scalar::Int8>()},
    .scale = scalar::scale_row,
    .softcap = scalar::softcap_row,
    .add_alibi = scalar::add_alibi_row,
    .softmax = scalar::softmax_rows,
    .merge_states = scalar::merge_rows};
}  // namespace qkv::kernels
