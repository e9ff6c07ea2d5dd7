// The row kernels follow the choice that dispatch.cc makes.
#include "kernels/rows.h"

#include <string_view>

#include "kernels/kernels.h"

namespace qkv::kernels {

extern const RowKernels scalar_row_kernels;
#if defined(__x86_64__)
extern const RowKernels avx512_row_kernels;
extern const RowKernels avx2_row_kernels;
#elif defined(__aarch64__)
extern const RowKernels neon_row_kernels;
#endif

const RowKernels* row_kernels_of(const char* name) {
  if (kernels_of(name) == nullptr) return nullptr;
  for (const RowKernels* table : {
#if defined(__x86_64__)
         &avx512_row_kernels, &avx2_row_kernels,
#elif defined(__aarch64__)
           &neon_row_kernels,
#endif
             &scalar_row_kernels
       })
    if (std::string_view(name).starts_with(table->name)) return table;  // avx512_bf16 has avx512's
  return nullptr;
}

const RowKernels& row_kernels() {
  static const RowKernels& chosen = *row_kernels_of(kernels().name);
  return chosen;
}

}  // namespace qkv::kernels
