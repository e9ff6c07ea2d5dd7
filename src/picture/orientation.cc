#include "picture/orientation.h"

#include <algorithm>
#include <utility>

namespace qkv::picture {
namespace {

constexpr std::uint32_t kTag = 0x0112, kShort = 3;
constexpr std::size_t kEntry = 12;  // bytes: tag, type, count, value

// Numbers of a TIFF in its own byte order; 0 beyond its end.
class Tiff {
 public:
  explicit Tiff(Bytes bytes) : bytes_(bytes), little_(!bytes.empty() && bytes[0] == 'I') {}

  std::uint32_t number(std::size_t at, std::size_t width) const {
    if (at > bytes_.size() || bytes_.size() - at < width) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < width; ++i)
      value = value << 8 | bytes_[at + (little_ ? width - 1 - i : i)];
    return value;
  }

 private:
  Bytes bytes_;
  bool little_;
};

}  // namespace

int exif_orientation(Bytes bytes) {
  if (bytes.size() < 8 || bytes[0] != bytes[1] || (bytes[0] != 'I' && bytes[0] != 'M'))
    return kUpright;
  const Tiff tiff(bytes);
  if (tiff.number(2, 2) != 42) return kUpright;
  const std::size_t directory = tiff.number(4, 4);
  const std::uint32_t entries = tiff.number(directory, 2);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + i * kEntry;
    if (at >= bytes.size()) break;
    if (tiff.number(at, 2) != kTag) continue;
    const std::uint32_t value = tiff.number(at + 8, 2);
    return tiff.number(at + 2, 2) == kShort && value >= 1 && value <= 8 ? static_cast<int>(value)
                                                                        : kUpright;
  }
  return kUpright;
}

Image upright(Image stored, int orientation) {
  if (orientation == kUpright) return stored;
  // Seen pixel (x, y) is stored at (x, y) with the axes swapped for 5 to 8, then mirrored:
  //   2 x   3 x and y   4 y   5 –   6 y   7 x and y   8 x
  const bool swapped = orientation >= 5;
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image seen{stored.width, stored.height, std::vector<std::uint8_t>(stored.rgb.size()),
             stored.damaged};
  if (swapped) std::swap(seen.width, seen.height);
  std::uint8_t* to = seen.rgb.data();
  for (std::int64_t y = 0; y < seen.height; ++y)
    for (std::int64_t x = 0; x < seen.width; ++x, to += 3) {
      std::int64_t column = swapped ? y : x, row = swapped ? x : y;
      if (mirror_x) column = stored.width - 1 - column;
      if (mirror_y) row = stored.height - 1 - row;
      std::copy_n(stored.rgb.data() + (row * stored.width + column) * 3, 3, to);
    }
  return seen;
}

}  // namespace qkv::picture
