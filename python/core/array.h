// Arrays that Python handed over, as views of the same memory, and new arrays of the same kind.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "qkv/tensor.h"

namespace qkv::python {

namespace nb = nanobind;

// Throws std::invalid_argument with "qkv.function: what".
[[noreturn]] void fail(const char* function, const std::string& what);

enum class Access : std::uint8_t { read, write };

// An array of up to four dimensions of one of DLPack's types: NumPy's (bfloat16 of ml_dtypes too), PyTorch's or any other that
// exports DLPack or a buffer. Nothing is copied. Lives no longer than the object it was made of.
class Array {
 public:
  Array() = default;
  // Throws std::invalid_argument naming the function and the argument if `object` is no such array, or not in the CPU's memory.
  Array(const char* function, const char* name, nb::handle object, Access access = Access::read);

  bool given() const { return object_.is_valid(); }
  int dimensions() const { return dimensions_; }
  nb::handle object() const { return object_; }
  const char* name() const { return name_; }
  void* data() const { return data_; }
  nb::dlpack::dtype type() const { return type_; }
  // Sizes, with ones in front of those of fewer than four dimensions.
  const Shape4& shape() const { return shape_; }
  std::int64_t size() const { return shape_[0] * shape_[1] * shape_[2] * shape_[3]; }
  // Its elements lie side by side, in order.
  bool dense() const;
  // The type as the engine knows it; throws std::invalid_argument saying which types there are.
  DType dtype(const char* function, const char* expected) const;
  MutableTensorView view(const char* function,
                         const char* expected = "float32, float16 or bfloat16") const;
  std::string shape_text() const;

 private:
  void set(const char* function, const nb::dlpack::dltensor& tensor);

  const char* name_ = "";
  nb::handle object_;
  nb::ndarray<nb::ro> exported_;  // holds what an export took; empty where nothing was taken
  void* data_ = nullptr;
  nb::dlpack::dtype type_{};
  int dimensions_ = 0;
  Shape4 shape_{}, strides_{};
};

bool same_type(nb::dlpack::dtype type, nb::dlpack::dtype_code code, int bits);
std::string type_text(nb::dlpack::dtype type);
// str(object), and the name of its type.
std::string text_of(nb::handle object);
std::string kind_text(nb::handle object);

// A new array of float32, float16 or bfloat16, not filled, dense: a tensor where `like` is one of PyTorch's, else NumPy's.
nb::object empty_like(nb::handle like, std::span<const std::int64_t> shape, DType dtype);
// The array as one of the kind that `like` is, by its module's from_dlpack, or as it is where there is none. No copy.
nb::object as_kind_of(nb::handle like, nb::object array);
// An array of the kind that `like` is, over memory that is handed over.
nb::object array_of(nb::handle like, std::span<const std::int64_t> shape,
                    std::vector<float> values);
nb::object array_of(nb::handle like, std::span<const std::int64_t> shape,
                    std::vector<std::int32_t> values);

}  // namespace qkv::python
