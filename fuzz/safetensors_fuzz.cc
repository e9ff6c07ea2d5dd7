// Any bytes as a safetensors file: refused with std::runtime_error, or every tensor can be read.
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "fuzz/file.h"
#include "models/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile file({reinterpret_cast<const char*>(data), size});
  try {
    using qkv::models::Safetensors;
    const Safetensors tensors = Safetensors::open(file.path());
    for (const auto& [name, entry] : tensors.entries()) {
      try {
        tensors.read(name, entry.shape);
      } catch (const std::runtime_error&) {  // not a type of floats
      }
    }
  } catch (const std::runtime_error&) {
  }
  return 0;
}
