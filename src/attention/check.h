// What every argument of a public function of this room must be, and how it is said when it is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "attention/problem.h"

namespace qkv {

inline constexpr std::int64_t kMaxDim = 1024;
inline constexpr std::int64_t kMaxTokens = 0x7fffffff - 4096;
inline constexpr std::int64_t kMaxEntries =
    1 << 24;  // of batch and of heads: each entry of a batch costs some bytes, even if empty

[[noreturn]] void fail(const char* function, const std::string& what);
std::string text_of(const Shape4& shape);
// Product of sizes that are not negative; less than 0 where it does not fit.
std::int64_t elements(const Shape4& shape);

// float32, float16 or bfloat16.
bool is_float(DType dtype);

// Each throws std::invalid_argument that names `function`, the tensor, what was expected and what came.
// Sizes that fit, data where there is an element, aligned to its type, and no entry outside of what can be addressed.
void check_memory(const char* function, const char* name, const TensorView& t);
// A pointer that is a multiple of `size`.
void check_aligned(const char* function, const char* name, const void* data, std::int64_t size);
// The same as check_memory, and a contiguous last dimension.
void check_rows(const char* function, const char* name, const TensorView& t);
// The same, and floats of any width in this shape.
void check_tensor(const char* function, const char* name, const TensorView& t, const Shape4& shape);
// The same for a tensor that is written to; no two entries may share a byte.
void check_output(const char* function, const char* name, const TensorView& out,
                  const Shape4& shape);
void check_dim(const char* function, const char* name, std::int64_t dim);
// [n+1] rising from 0 to `total`.
void check_starts(const char* function, const char* name, std::span<const std::int32_t> starts,
                  std::int64_t total);

template <class Byte = const std::byte, class View>
BasicRows<Byte> rows_of(const View& t) {
  // a stride that leads nowhere may be any number
  const bool empty = elements(t.shape) == 0;
  const auto step = [&](std::size_t i) {
    return empty || t.shape[i] == 1 ? 0 : t.strides[i] * size_of(t.dtype);
  };
  BasicRows<Byte> rows;
  rows.data = static_cast<Byte*>(t.data);
  rows.dtype = t.dtype;
  rows.batch_stride = step(0);
  rows.head_stride = step(1);
  rows.token_stride = step(2);
  return rows;
}

}  // namespace qkv
