// The keyword arguments of attention(), weights() and the backward pass, as the engine's options.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "array.h"
#include "qkv/attention.h"

namespace qkv::python {

// A short list of numbers, [n] or [n, m]: a dense array of T as it lies in memory, or a copy of any list or other array.
template <class T>
class Numbers {
 public:
  Numbers() = default;
  Numbers(const char* function, const char* name, nb::handle object, int dimensions = 1);

  // Null where nothing was given.
  std::span<const T> values() const { return values_; }
  bool given() const { return values_.data() != nullptr; }
  std::int64_t rows() const { return rows_; }
  bool is_array() const { return array_.given(); }
  const Array& array() const { return array_; }

 private:
  Array array_;
  std::vector<T> copy_;
  std::span<const T> values_;
  std::int64_t rows_ = 0;
};

// What the package hands over: one tuple, in this order.
struct Options {
  Options(const char* function, const nb::tuple& given);
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  AttentionOptions engine;
  Array mask, bias, k_scale, v_scale;
  Numbers<float> sinks, alibi_slopes;
  Numbers<std::int32_t> key_lengths, cu_seqlens_q, cu_seqlens_k, block_table;
  float k_scale_number = 0, v_scale_number = 0;

 private:
  void take_scale(const char* function, const char* name, nb::handle object, Array& array,
                  float& number, TensorView& view);
};

// The places of the options in the tuple.
enum Place : std::uint8_t {
  kScale,
  kCausal,
  kWindow,
  kMask,
  kBias,
  kSoftcap,
  kSinks,
  kAlibiSlopes,
  kKeyLengths,
  kCuSeqlensQ,
  kCuSeqlensK,
  kBlockTable,
  kKScale,
  kVScale,
  kThreads,
  kPlaces
};

}  // namespace qkv::python
