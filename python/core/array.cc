#include "array.h"

#include <array>
#include <atomic>
#include <stdexcept>
#include <utility>

#include "dlpack_exchange.h"

namespace qkv::python {

using nb::dlpack::dtype_code;

void fail(const char* function, const std::string& what) {
  throw std::invalid_argument(std::string("qkv.") + function + ": " + what);
}

std::string text_of(nb::handle object) {
  const nb::object text = nb::steal(PyObject_Str(object.ptr()));
  const char* characters = text.is_valid() ? PyUnicode_AsUTF8AndSize(text.ptr(), nullptr) : nullptr;
  if (characters == nullptr) PyErr_Clear();
  return characters == nullptr ? "?" : characters;
}

namespace {

constexpr int kMostDimensions = 4;

// How objects of this type are read in C, or null. PyTorch keeps it on the type, so a lookup there is all it takes.
const DLPackExchange* exchange_of(nb::handle object) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const nb::object capsule =
      nb::steal(PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())), name));
  if (!capsule.is_valid()) {
    PyErr_Clear();
    return nullptr;
  }
  const auto* exchange = static_cast<const DLPackExchange*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (exchange == nullptr) PyErr_Clear();
  while (exchange != nullptr && exchange->major > 1) exchange = exchange->previous;
  return exchange != nullptr && exchange->tensor_from_object != nullptr ? exchange : nullptr;
}

// Objects of Python that are asked for in every call. Never freed: the interpreter may go first.
struct Known {
  nb::object ndarray, empty, float32, float16, int32, uint16;
};
const Known& known() {
  static const Known* const known = [] {
    const nb::module_ numpy = nb::module_::import_("numpy");
    const nb::object dtype = numpy.attr("dtype");
    return new Known{numpy.attr("ndarray"), numpy.attr("empty"), dtype("float32"),
                     dtype("float16"),      dtype("int32"),      dtype("uint16")};
  }();
  return *known;
}

bool is_numpy(nb::handle object) {
  return reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) == known().ndarray.ptr() ||
         PyObject_IsInstance(object.ptr(), known().ndarray.ptr()) == 1;
}

// ml_dtypes makes NumPy's bfloat16 when it is imported, which NumPy itself cannot export.
nb::handle numpy_bfloat16() {
  static std::atomic<PyObject*> found = nullptr;
  if (PyObject* type = found.load()) return type;
  const nb::object modules = nb::module_::import_("sys").attr("modules");
  const nb::object module = modules.attr("get")("ml_dtypes");
  if (module.is_none()) return {};
  nb::object type = nb::module_::import_("numpy").attr("dtype")(module.attr("bfloat16"));
  PyObject* expected = nullptr;
  if (found.compare_exchange_strong(expected, type.ptr())) type.release();
  return found.load();
}

[[noreturn]] void fail_device(const char* function, const char* name, const std::string& device) {
  fail(function, std::string(name) + " is on " + device +
                     "; qkv computes on the CPU: move it there first, as " + name + ".cpu()");
}

// Of objects that cannot even be exported, as PyTorch's on `meta`.
void check_device(const char* function, const char* name, nb::handle object) {
  if (!nb::hasattr(object, "device")) return;
  const std::string device = text_of(object.attr("device"));
  if (device != "cpu") fail_device(function, name, device);
}

}  // namespace

bool same_type(nb::dlpack::dtype type, dtype_code code, int bits) {
  return type.code == static_cast<std::uint8_t>(code) && type.bits == bits && type.lanes == 1;
}

std::string type_text(nb::dlpack::dtype type) {
  static constexpr std::array kNames = {"int",    "uint",    "float", "opaque",
                                        "bfloat", "complex", "bool"};
  if (type.code == static_cast<std::uint8_t>(dtype_code::Bool)) return "bool";
  const char* name = type.code < kNames.size() ? kNames[type.code] : "float8 or narrower, ";
  return name + std::to_string(type.bits);
}

std::string kind_text(nb::handle object) { return text_of(object.type().attr("__name__")); }

Array::Array(const char* function, const char* name, nb::handle object, Access access)
    : name_(name), object_(object) {
  if (object.is_none()) fail(function, std::string(name) + " is None; expected an array");
  const bool of_numpy = is_numpy(object);
  const DLPackExchange* exchange = of_numpy ? nullptr : exchange_of(object);
  if (exchange != nullptr) {
    nb::dlpack::dltensor tensor;
    if (exchange->tensor_from_object(object.ptr(), &tensor) != 0) {
      nb::python_error error;
      check_device(function, name, object);
      const std::string why = text_of(error.value());
      fail(function, std::string(name) + " cannot be read: " + why.substr(0, why.find('\n')));
    }
    set(function, tensor);
    return;
  }
  nb::object source = nb::borrow(object);
  bool is_bfloat16 = false;
  if (of_numpy) {
    const nb::object dtype = object.attr("dtype");
    const bool is_common = dtype.is(known().float32) || dtype.is(known().float16);
    if (!is_common && dtype.is(numpy_bfloat16())) {
      is_bfloat16 = true;
      source = object.attr("view")(known().uint16);
    }
  }
  const auto take = [&](auto array) {
    if (!nb::try_cast(source, array, false)) return false;
    exported_ = nb::ndarray<nb::ro>(array);
    return true;
  };
  const bool taken = access == Access::read ? take(nb::ndarray<nb::ro>()) : take(nb::ndarray<>());
  if (!taken) {
    if (of_numpy && access == Access::write &&
        !nb::cast<bool>(object.attr("flags").attr("writeable")))
      fail(function, std::string(name) + " is read-only; expected an array that can be written to");
    std::string what = std::string(name) + " is a " + kind_text(object);
    check_device(function, name, object);
    if (nb::hasattr(object, "dtype")) what += " of type " + text_of(object.attr("dtype"));
    fail(function, what +
                       "; expected a NumPy array, a PyTorch tensor or another array in the CPU's "
                       "memory that exports DLPack, of float32, float16 or bfloat16");
  }
  nb::dlpack::dltensor tensor{};
  tensor.data = const_cast<void*>(exported_.data());
  tensor.device = {exported_.device_type(), exported_.device_id()};
  tensor.ndim = static_cast<std::int32_t>(exported_.ndim());
  tensor.dtype = exported_.dtype();
  tensor.shape = const_cast<std::int64_t*>(exported_.shape_ptr());
  tensor.strides = const_cast<std::int64_t*>(exported_.stride_ptr());
  set(function, tensor);
  if (is_bfloat16) type_.code = static_cast<std::uint8_t>(dtype_code::Bfloat);
}

void Array::set(const char* function, const nb::dlpack::dltensor& tensor) {
  if (tensor.device.device_type != nb::device::cpu::value) {
    check_device(function, name_, object_);
    fail_device(function, name_, "DLPack device " + std::to_string(tensor.device.device_type));
  }
  if (tensor.ndim > kMostDimensions)
    fail(function, std::string(name_) + " has " + std::to_string(tensor.ndim) +
                       " dimensions; expected at most " + std::to_string(kMostDimensions));
  dimensions_ = tensor.ndim;
  type_ = tensor.dtype;
  data_ = static_cast<std::byte*>(tensor.data) + (tensor.data == nullptr ? 0 : tensor.byte_offset);
  std::int64_t dense = 1;
  for (int i = kMostDimensions - 1; i >= 0; --i) {
    const auto to = static_cast<std::size_t>(i);
    const int from = i - (kMostDimensions - dimensions_);
    shape_[to] = from >= 0 ? tensor.shape[from] : 1;
    strides_[to] = from < 0 ? 0 : tensor.strides != nullptr ? tensor.strides[from] : dense;
    dense *= shape_[to];
  }
  if (size() == 0) strides_ = dense_strides(shape_);  // those of nothing may be any numbers
}

bool Array::dense() const {
  std::int64_t stride = 1;
  for (int i = kMostDimensions - 1; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    if (shape_[at] > 1 && strides_[at] != stride) return size() == 0;
    stride *= shape_[at];
  }
  return true;
}

DType Array::dtype(const char* function, const char* expected) const {
  if (same_type(type_, dtype_code::Float, 32)) return DType::f32;
  if (same_type(type_, dtype_code::Bfloat, 16)) return DType::bf16;
  if (same_type(type_, dtype_code::Float, 16)) return DType::f16;
  if (same_type(type_, dtype_code::Bool, 8)) return DType::boolean;
  if (same_type(type_, dtype_code::Int, 8)) return DType::i8;
  std::string convert;
  if (same_type(type_, dtype_code::Float, 64))
    convert = nb::hasattr(object_, "astype")
                  ? std::string(": convert it, as ") + name_ + ".astype('float32')"
                  : std::string(": convert it, as ") + name_ + ".float()";
  fail(function, std::string(name_) + " has elements of type " + type_text(type_) + "; expected " +
                     expected + convert);
}

MutableTensorView Array::view(const char* function, const char* expected) const {
  return {data_, dtype(function, expected), shape_, strides_};
}

std::string Array::shape_text() const {
  std::string text = "[";
  for (int i = kMostDimensions - dimensions_; i < kMostDimensions; ++i)
    text += (text.size() > 1 ? ", " : "") + std::to_string(shape_[static_cast<std::size_t>(i)]);
  return text + "]";
}

// ---- new arrays

namespace {

nb::object tuple_of(std::span<const std::int64_t> shape) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(shape.size())));
  for (std::size_t i = 0; i < shape.size(); ++i)
    PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(shape[i]));
  return tuple;
}

// PyTorch's types, asked for once.
nb::handle torch_dtype(DType dtype) {
  static std::array<std::atomic<PyObject*>, 5> found{};
  std::atomic<PyObject*>& type = found[static_cast<std::size_t>(dtype)];
  if (type.load() == nullptr) {
    const nb::module_ torch = nb::module_::import_("torch");
    nb::object named = torch.attr(std::string(name_of(dtype)).c_str());
    type = named.release().ptr();
  }
  return type.load();
}

bool is_torch(nb::handle object) { return nb::hasattr(object, "new_empty"); }

template <class T>
nb::object owned(nb::handle like, std::span<const std::int64_t> shape, std::vector<T> values) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept,
                          [](void* all) noexcept { delete static_cast<std::vector<T>*>(all); });
  std::array<std::size_t, kMostDimensions> sizes{};
  for (std::size_t i = 0; i < shape.size(); ++i) sizes[i] = static_cast<std::size_t>(shape[i]);
  nb::ndarray<nb::numpy, T> array(kept->data(), shape.size(), sizes.data(), owner);
  return as_kind_of(like, nb::cast(array));
}

}  // namespace

nb::object empty_like(nb::handle like, std::span<const std::int64_t> shape, DType dtype) {
  if (!is_numpy(like) && is_torch(like))
    return like.attr("new_empty")(tuple_of(shape), nb::arg("dtype") = torch_dtype(dtype));
  nb::handle type = dtype == DType::f32 ? known().float32 : known().float16;
  if (dtype == DType::bf16) {
    type = numpy_bfloat16();
    if (!type.is_valid()) {
      nb::module_::import_("ml_dtypes");
      type = numpy_bfloat16();
    }
  }
  return known().empty(tuple_of(shape), type);
}

nb::object as_kind_of(nb::handle like, nb::object array) {
  if (is_numpy(like) || array.type().is(like.type())) return array;
  nb::object space;
  if (nb::hasattr(like, "__array_namespace__")) {
    space = like.attr("__array_namespace__")();
  } else {
    const auto module = text_of(like.type().attr("__module__"));
    space = nb::module_::import_(module.substr(0, module.find('.')).c_str());
  }
  return nb::hasattr(space, "from_dlpack") ? space.attr("from_dlpack")(array) : array;
}

nb::object array_of(nb::handle like, std::span<const std::int64_t> shape,
                    std::vector<float> values) {
  return owned(like, shape, std::move(values));
}
nb::object array_of(nb::handle like, std::span<const std::int64_t> shape,
                    std::vector<std::int32_t> values) {
  return owned(like, shape, std::move(values));
}

}  // namespace qkv::python
