// Which bfloat16 dot products there are.
#include "kernels/bf16_dots.h"

#include <string_view>

namespace qkv::kernels {

extern const Bf16DotKernels scalar_bf16_dot_kernels;
#if defined(__x86_64__)
extern const Bf16DotKernels avx512_bf16_dot_kernels;
#endif

const Bf16DotKernels* bf16_dot_kernels_of(const char* name) {
#if defined(__x86_64__)
  if (std::string_view(name) == avx512_bf16_dot_kernels.name)
    return kernels_of(name) != nullptr ? &avx512_bf16_dot_kernels : nullptr;
#endif
  return std::string_view(name) == scalar_bf16_dot_kernels.name ? &scalar_bf16_dot_kernels
                                                                : nullptr;
}

}  // namespace qkv::kernels
