// The part of DLPack's C exchange interface that is used here (DLPack 1.2, `__dlpack_c_exchange_api__`): a type tells once how its
// objects are read, and then reading one costs no Python call. PyTorch has it from 2.9 on.
#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>

namespace qkv::python {

struct DLPackExchange {
  std::uint32_t major, minor;
  DLPackExchange* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_object;
  void* managed_tensor_to_object;
  // 0, or -1 with a Python exception; the shape and strides are the object's own. May be null.
  int (*tensor_from_object)(void* object, nanobind::dlpack::dltensor* tensor);
  void* current_work_stream;
};

}  // namespace qkv::python
