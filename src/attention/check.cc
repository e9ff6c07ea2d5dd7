#include "attention/check.h"

#include <cstddef>
#include <stdexcept>

#include "attention/overlap.h"

namespace qkv {

void fail(const char* function, const std::string& what) {
  throw std::invalid_argument(std::string("qkv::") + function + ": " + what);
}

std::string text_of(const Shape4& shape) {
  return "[" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " +
         std::to_string(shape[2]) + ", " + std::to_string(shape[3]) + "]";
}

std::int64_t elements(const Shape4& shape) {
  std::int64_t product = 1;
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(product, size, &product)) return -1;
  return product;
}

bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

void check_aligned(const char* function, const char* name, const void* data, std::int64_t size) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (address % static_cast<std::uintptr_t>(size) != 0)
    fail(function, std::string(name) + " lies at address " + std::to_string(address) +
                       "; expected a multiple of " + std::to_string(size) +
                       ", the size of its elements");
}

void check_memory(const char* function, const char* name, const TensorView& t) {
  for (std::size_t i = 0; i < 4; ++i)
    if (t.shape[i] < 0)
      fail(function, std::string(name) + " has a negative size in its shape " + text_of(t.shape) +
                         "; expected 0 or more");
  if (elements(t.shape) < 0)
    fail(function, std::string(name) + " has too many elements: shape " + text_of(t.shape) +
                       "; expected a product of at most 2^63 − 1");
  if (t.data == nullptr && elements(t.shape) > 0)
    fail(function, std::string(name) + " of shape " + text_of(t.shape) +
                       " has no data (null pointer); expected memory for its elements");
  if (elements(t.shape) > 0) check_aligned(function, name, t.data, size_of(t.dtype));
  if (reaches_far(t))
    fail(function, std::string(name) + " of shape " + text_of(t.shape) + " with strides " +
                       text_of(t.strides) +
                       " reaches outside of memory; expected strides within it");
}

void check_rows(const char* function, const char* name, const TensorView& t) {
  check_memory(function, name, t);
  if (t.shape[3] > 1 && t.strides[3] != 1)
    fail(function, std::string(name) + " has stride " + std::to_string(t.strides[3]) +
                       " in its last dimension; expected 1 (contiguous)");
}

void check_tensor(const char* function, const char* name, const TensorView& t,
                  const Shape4& shape) {
  if (t.shape != shape)
    fail(function,
         std::string(name) + " has shape " + text_of(t.shape) + "; expected " + text_of(shape));
  if (!is_float(t.dtype))
    fail(function, std::string(name) + " has elements of type " + std::string(name_of(t.dtype)) +
                       "; expected float32, float16 or bfloat16");
  check_rows(function, name, t);
}

void check_output(const char* function, const char* name, const TensorView& out,
                  const Shape4& shape) {
  check_tensor(function, name, out, shape);
  for (std::size_t i = 0; i < 3; ++i)
    if (elements(shape) > 0 && shape[i] > 1 && out.strides[i] == 0)
      fail(function, std::string(name) + " has stride 0 in dimension " + std::to_string(i) +
                         " of shape " + text_of(shape) + "; expected a place for each entry");
  if (overlaps_itself(out))
    fail(function, std::string(name) + " of shape " + text_of(shape) + " has strides " +
                       text_of(out.strides) +
                       ", so that entries overlap; expected a place for each");
}

void check_dim(const char* function, const char* name, std::int64_t dim) {
  if (dim < 1 || dim > kMaxDim)
    fail(function, std::string(name) + " has head dimension " + std::to_string(dim) +
                       "; expected 1 to " + std::to_string(kMaxDim));
}

void check_starts(const char* function, const char* name, std::span<const std::int32_t> starts,
                  std::int64_t total) {
  if (starts.empty()) fail(function, std::string(name) + " is empty; expected [0, …, total]");
  if (starts.front() != 0)
    fail(function, std::string(name) + "[0] is " + std::to_string(starts.front()) + "; expected 0");
  for (std::size_t i = 1; i < starts.size(); ++i)
    if (starts[i] < starts[i - 1])
      fail(function, std::string(name) + "[" + std::to_string(i) + "] is " +
                         std::to_string(starts[i]) + " after " + std::to_string(starts[i - 1]) +
                         "; expected numbers that do not fall");
  if (starts.back() != total)
    fail(function, std::string(name) + " ends with " + std::to_string(starts.back()) +
                       "; expected the number of tokens, " + std::to_string(total));
}

}  // namespace qkv
