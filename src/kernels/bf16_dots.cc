// Which bfloat16 dot products there are.
#include "kernels/bf16_dots.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <string_view>

namespace qkv::kernels {

extern const Bf16DotKernels scalar_bf16_dot_kernels;
#if defined(__x86_64__)
extern const Bf16DotKernels avx512_bf16_dot_kernels;

namespace {

bool has_avx512_bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kBf16 = 1u << 5;
  return kernels_of("avx512") != nullptr && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax & kBf16) != 0;
}

}  // namespace
#endif

const Bf16DotKernels* bf16_dot_kernels_of(const char* name) {
#if defined(__x86_64__)
  if (std::string_view(name) == avx512_bf16_dot_kernels.name)
    return has_avx512_bf16() ? &avx512_bf16_dot_kernels : nullptr;
#endif
  return std::string_view(name) == scalar_bf16_dot_kernels.name ? &scalar_bf16_dot_kernels
                                                                : nullptr;
}

}  // namespace qkv::kernels
