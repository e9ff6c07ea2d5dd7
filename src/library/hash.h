// What tells one content from another: XXH3, 128 bits. It guards against change and accident, not against intent.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace qkv::library {

using Hash = std::array<std::uint64_t, 2>;

struct HashOfHash {
  std::size_t operator()(const Hash& hash) const { return hash[0]; }
};

Hash hash_of(std::string_view bytes);
// Of the names given and what the files hold, in order; a file that is not there counts as such.
// Throws std::runtime_error naming a file that cannot be read.
Hash hash_of_files(std::span<const std::filesystem::path> files, std::string_view more = {});

}  // namespace qkv::library
