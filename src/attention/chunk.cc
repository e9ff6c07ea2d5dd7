#include "attention/chunk.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/rows.h"

namespace qkv {
namespace {

constexpr std::size_t kAlignment = 64;

void load_row(const std::byte* from, DType dtype, int dim, float* to) {
  const kernels::RowKernels& kernel = kernels::row_kernels();
  switch (dtype) {
    case DType::f16:
      return kernel.widen_half(reinterpret_cast<const std::uint16_t*>(from), dim, to);
    case DType::bf16:
      return kernel.widen_bfloat16(reinterpret_cast<const std::uint16_t*>(from), dim, to);
    case DType::i8:
      return kernel.widen_int8(reinterpret_cast<const std::int8_t*>(from), dim, to);
    default:
      std::memcpy(to, from, static_cast<std::size_t>(dim) * sizeof(float));
  }
}

}  // namespace

FloatRows float_rows(const Rows& rows, std::int64_t b, std::int64_t h, Range range, int dim,
                     float* scratch) {
  if (rows.dtype == DType::f32 && rows.run_end(range.begin, range.end) == range.end)
    return {rows.row_as<float>(b, h, range.begin), rows.stride_in<float>(), range};
  for (std::int64_t r = range.begin; r < range.end; ++r)
    load_row(rows.row(b, h, r), rows.dtype, dim, scratch + (r - range.begin) * dim);
  return {scratch, dim, range};
}

void row_scales(const Rows& scales, std::int64_t b, std::int64_t h, Range range, float* scale) {
  for (std::int64_t r = range.begin; r < range.end; ++r)
    scale[r - range.begin] = *scales.row_as<float>(b, h, r);
}

void store_row(const float* from, int dim, const MutableRows& rows, std::int64_t b, std::int64_t h,
               std::int64_t t) {
  const kernels::RowKernels& kernel = kernels::row_kernels();
  std::byte* to = rows.row(b, h, t);
  switch (rows.dtype) {
    case DType::f16:
      return kernel.narrow_half(from, dim, reinterpret_cast<std::uint16_t*>(to));
    case DType::bf16:
      return kernel.narrow_bfloat16(from, dim, reinterpret_cast<std::uint16_t*>(to));
    default:
      std::memcpy(to, from, static_cast<std::size_t>(dim) * sizeof(float));
  }
}

void Scratch::Free::operator()(float* p) const { std::free(p); }

float* Scratch::floats(std::size_t count) {
  if (count > size_) {
    data_.reset();
    size_ = 0;
    // Large memory lies in large pages where the system has them: fewer faults, and misses of the address cache
    constexpr std::size_t kLargePage = std::size_t{2} << 20;
    const std::size_t bytes = count * sizeof(float);
    const std::size_t alignment = bytes < kLargePage ? kAlignment : kLargePage;
    void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kLargePage) madvise(memory, bytes, MADV_HUGEPAGE);  // only advice
#endif
    data_.reset(static_cast<float*>(memory));
    size_ = count;
  }
  return data_.get();
}

Scratch& thread_scratch(ScratchUse use) {
  thread_local std::array<Scratch, static_cast<std::size_t>(ScratchUse::count)> scratch;
  return scratch[static_cast<std::size_t>(use)];
}

}  // namespace qkv
