#include "library/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string>

#include "models/mapped_file.h"

namespace qkv::library {

Hash hash_of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

Hash hash_of_files(std::span<const std::filesystem::path> files, std::string_view more) {
  std::string all;
  const auto put = [&](const Hash& hash) {
    all.append(reinterpret_cast<const char*>(hash.data()), sizeof hash);
  };
  for (const std::filesystem::path& path : files) {
    put(hash_of(path.filename().string()));
    if (!std::filesystem::exists(path)) continue;
    const models::MappedFile file = models::map_file(path);
    put(hash_of({reinterpret_cast<const char*>(file.bytes.get()), file.size}));
  }
  return hash_of(all + std::string(more));
}

}  // namespace qkv::library
