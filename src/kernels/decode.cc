// The decode kernels follow the choice that dispatch.cc makes.
#include "kernels/decode.h"

#include <string_view>

#include "kernels/kernels.h"

namespace qkv::kernels {

extern const DecodeKernels scalar_decode_kernels;
#if defined(__x86_64__)
extern const DecodeKernels avx512_decode_kernels;
extern const DecodeKernels avx2_decode_kernels;
#elif defined(__aarch64__)
extern const DecodeKernels neon_decode_kernels;
#endif

const DecodeKernels* decode_kernels_of(const char* name) {
  if (kernels_of(name) == nullptr) return nullptr;
  for (const DecodeKernels* table : {
#if defined(__x86_64__)
         &avx512_decode_kernels, &avx2_decode_kernels,
#elif defined(__aarch64__)
           &neon_decode_kernels,
#endif
             &scalar_decode_kernels
       })
    if (std::string_view(name).starts_with(table->name)) return table;  // avx512_bf16 has avx512's
  return nullptr;
}

const DecodeKernels& decode_kernels() {
  static const DecodeKernels& chosen = *decode_kernels_of(kernels().name);
  return chosen;
}

}  // namespace qkv::kernels
