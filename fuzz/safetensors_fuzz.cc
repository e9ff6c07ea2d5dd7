// Any bytes as a safetensors file: refused with std::runtime_error, or every tensor can be read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "models/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // the reader maps a file; this one has no name and is gone when it is closed
  const int file = ::memfd_create("fuzz", MFD_CLOEXEC);
  if (file < 0 || ::write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    using qkv::models::Safetensors;
    const Safetensors tensors = Safetensors::open("/proc/self/fd/" + std::to_string(file));
    for (const auto& [name, entry] : tensors.entries()) {
      try {
        tensors.read(name, entry.shape);
      } catch (const std::runtime_error&) {  // not a type of floats
      }
    }
  } catch (const std::runtime_error&) {
  }
  ::close(file);
  return 0;
}
