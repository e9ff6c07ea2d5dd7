#include "picture/rle.h"

#include <vector>

namespace qkv::picture {
namespace {

std::vector<std::int64_t> runs(std::span<const std::uint8_t> mask, std::int64_t height,
                               std::int64_t width) {
  std::vector<std::int64_t> lengths{0};
  bool inside = false;
  for (std::int64_t x = 0; x < width; ++x)
    for (std::int64_t y = 0; y < height; ++y) {
      if ((mask[y * width + x] != 0) != inside) {
        inside = !inside;
        lengths.push_back(0);
      }
      ++lengths.back();
    }
  return lengths;
}

}  // namespace

std::string coco_counts(std::span<const std::uint8_t> mask, std::int64_t height,
                        std::int64_t width) {
  const std::vector<std::int64_t> lengths = runs(mask, height, width);
  std::string text;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    std::int64_t value = lengths[i] - (i > 2 ? lengths[i - 2] : 0);
    for (bool more = true; more;) {
      const auto bits = static_cast<int>(value & 31);
      value >>= 5;  // arithmetic
      more = value != ((bits & 16) != 0 ? -1 : 0);
      text += static_cast<char>(48 + bits + (more ? 32 : 0));
    }
  }
  return text;
}

}  // namespace qkv::picture
