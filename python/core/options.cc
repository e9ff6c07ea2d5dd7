#include "options.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <type_traits>

namespace qkv::python {

namespace {

using nb::dlpack::dtype_code;

std::string repr_of(nb::handle object) { return text_of(nb::repr(object)); }

double number(const char* function, const char* name, nb::handle object) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    fail(function, std::string(name) + " is " + repr_of(object) + "; expected a number");
  }
  return value;
}

std::int64_t integer(const char* function, const char* name, nb::handle object) {
  const nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  const std::int64_t value = index.is_valid() ? PyLong_AsLongLong(index.ptr()) : -1;
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    fail(function, std::string(name) + " is " + repr_of(object) + "; expected an integer");
  }
  return value;
}

Causal causal_of(const char* function, nb::handle object) {
  if (object.is(Py_False)) return Causal::no;
  if (object.is(Py_True)) return Causal::bottom_right;
  if (PyUnicode_Check(object.ptr()) != 0) {
    if (PyUnicode_CompareWithASCIIString(object.ptr(), "bottom-right") == 0)
      return Causal::bottom_right;
    if (PyUnicode_CompareWithASCIIString(object.ptr(), "top-left") == 0) return Causal::top_left;
  }
  fail(function, "causal is " + repr_of(object) +
                     "; expected False, True (which is 'bottom-right') or 'top-left'");
}

Window window_of(const char* function, nb::handle object) {
  if (PySequence_Check(object.ptr()) == 0 || PySequence_Size(object.ptr()) != 2) {
    PyErr_Clear();
    fail(function,
         "window is " + repr_of(object) + "; expected (left, right), −1 for an open side");
  }
  const nb::object left = object[0];
  const nb::object right = object[1];
  return {integer(function, "window[0]", left), integer(function, "window[1]", right)};
}

template <class T>
constexpr bool kIsFloat = std::is_same_v<T, float>;

template <class T>
T checked(const char* function, const char* name, nb::handle object) {
  if constexpr (kIsFloat<T>) {
    return static_cast<float>(number(function, name, object));
  } else {
    const std::int64_t value = integer(function, name, object);
    if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max())
      fail(function, std::string(name) + " holds " + std::to_string(value) +
                         "; expected numbers that fit into 32 bits");
    return static_cast<T>(value);
  }
}

}  // namespace

template <class T>
Numbers<T>::Numbers(const char* function, const char* name, nb::handle object, int dimensions) {
  static const T nothing{};  // where an empty list lies
  if (object.is_none()) return;
  if (!nb::isinstance<nb::list>(object) && !nb::isinstance<nb::tuple>(object)) {
    array_ = Array(function, name, object);
    if (array_.dimensions() != dimensions)
      fail(function, std::string(name) + " has shape " + array_.shape_text() + "; expected " +
                         (dimensions == 1 ? "one dimension" : "two dimensions"));
    const Shape4& shape = array_.shape();
    rows_ = shape[static_cast<std::size_t>(4 - dimensions)];
    const bool same =
        same_type(array_.type(), kIsFloat<T> ? dtype_code::Float : dtype_code::Int, 32);
    if (array_.size() == 0) {
      values_ = std::span<const T>(&nothing, 0);
      return;
    }
    if (same && array_.dense()) {
      values_ = {static_cast<const T*>(array_.data()), static_cast<std::size_t>(array_.size())};
      return;
    }
  }
  // Short lists: a copy costs less than an error would.
  const auto append = [&](nb::handle list) {
    for (const nb::handle entry : list) copy_.push_back(checked<T>(function, name, entry));
  };
  nb::object list = nb::borrow(object);
  if (array_.given()) {
    if (!nb::hasattr(object, "tolist"))
      fail(function, std::string(name) + " has elements of type " + type_text(array_.type()) +
                         "; expected " + (kIsFloat<T> ? "float32" : "int32"));
    list = object.attr("tolist")();
  } else {
    rows_ = static_cast<std::int64_t>(nb::len(list));
  }
  if (dimensions == 1) {
    append(list);
  } else {
    std::optional<std::size_t> width;
    for (const nb::handle row : list) {
      if (PySequence_Check(row.ptr()) == 0 || (width && nb::len(row) != *width))
        fail(function, std::string(name) + " has rows of different lengths; expected a table");
      width = nb::len(row);
      append(row);
    }
  }
  values_ = copy_.empty() ? std::span<const T>(&nothing, 0) : std::span<const T>(copy_);
}

template class Numbers<float>;
template class Numbers<std::int32_t>;

void Options::take_scale(const char* function, const char* name, nb::handle object, Array& array,
                         float& scale, TensorView& view) {
  if (object.is_none()) return;
  if (PyFloat_Check(object.ptr()) != 0 || PyLong_Check(object.ptr()) != 0) {
    scale = static_cast<float>(number(function, name, object));
    view = TensorView(&scale, {1, 1, 1, 1});
    return;
  }
  array = Array(function, name, object);
  view = array.view(function, "float32");
}

Options::Options(const char* function, const nb::tuple& given) {
  const auto at = [&](Place place) -> nb::handle {
    return PyTuple_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(place));
  };
  if (given.size() != kPlaces) fail(function, "the package and its core are of different versions");
  if (!at(kScale).is_none())
    engine.scale = static_cast<float>(number(function, "scale", at(kScale)));
  if (!at(kCausal).is_none()) engine.causal = causal_of(function, at(kCausal));
  if (!at(kWindow).is_none()) engine.window = window_of(function, at(kWindow));
  if (!at(kMask).is_none()) {
    mask = Array(function, "mask", at(kMask));
    constexpr const char* kExpected = "bool (True = may attend; what is added to scores is bias)";
    engine.mask = mask.view(function, kExpected);
    if (engine.mask.dtype != DType::boolean)
      fail(function,
           "mask has elements of type " + type_text(mask.type()) + "; expected " + kExpected);
  }
  if (!at(kBias).is_none()) {
    bias = Array(function, "bias", at(kBias));
    engine.bias = bias.view(function, "float32, whatever the inputs are");
  }
  if (!at(kSoftcap).is_none())
    engine.softcap = static_cast<float>(number(function, "softcap", at(kSoftcap)));
  sinks = Numbers<float>(function, "sinks", at(kSinks));
  alibi_slopes = Numbers<float>(function, "alibi_slopes", at(kAlibiSlopes));
  key_lengths = Numbers<std::int32_t>(function, "key_lengths", at(kKeyLengths));
  cu_seqlens_q = Numbers<std::int32_t>(function, "cu_seqlens_q", at(kCuSeqlensQ));
  cu_seqlens_k = Numbers<std::int32_t>(function, "cu_seqlens_k", at(kCuSeqlensK));
  block_table = Numbers<std::int32_t>(function, "block_table", at(kBlockTable), 2);
  engine.sinks = sinks.values();
  engine.alibi_slopes = alibi_slopes.values();
  engine.key_lengths = key_lengths.values();
  engine.cu_seqlens_q = cu_seqlens_q.values();
  engine.cu_seqlens_k = cu_seqlens_k.values();
  engine.block_table = block_table.values();
  take_scale(function, "k_scale", at(kKScale), k_scale, k_scale_number, engine.k_scale);
  take_scale(function, "v_scale", at(kVScale), v_scale, v_scale_number, engine.v_scale);
  if (!at(kThreads).is_none()) {
    const std::int64_t threads = integer(function, "threads", at(kThreads));
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    engine.threads = static_cast<int>(std::clamp(threads, std::int64_t{-1}, kMost));
  }
}

}  // namespace qkv::python
