// The dot kernels follow the choice that dispatch.cc makes.
#include "kernels/dots.h"

#include <string_view>

#include "kernels/kernels.h"

namespace qkv::kernels {

extern const DotKernels scalar_dot_kernels;
#if defined(__x86_64__)
extern const DotKernels avx512_dot_kernels;
extern const DotKernels avx2_dot_kernels;
#elif defined(__aarch64__)
extern const DotKernels neon_dot_kernels;
#endif

const DotKernels* dot_kernels_of(const char* name) {
  if (kernels_of(name) == nullptr) return nullptr;
  for (const DotKernels* table : {
#if defined(__x86_64__)
         &avx512_dot_kernels, &avx2_dot_kernels,
#elif defined(__aarch64__)
           &neon_dot_kernels,
#endif
             &scalar_dot_kernels
       })
    if (std::string_view(name).starts_with(table->name)) return table;  // avx512_bf16 has avx512's
  return nullptr;
}

const DotKernels& dot_kernels() {
  static const DotKernels& chosen = *dot_kernels_of(kernels().name);
  return chosen;
}

}  // namespace qkv::kernels
