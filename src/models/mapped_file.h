// A file as memory that the system reads when it is touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

namespace qkv::models {

struct MappedFile {
  std::shared_ptr<const std::byte> bytes;  // null for an empty file
  std::size_t size = 0;
};

// Throws std::runtime_error that names the file and says why it cannot be opened, or that it is no file.
MappedFile map_file(const std::filesystem::path& path);

}  // namespace qkv::models
