// Any bytes as a picture file and as an EXIF block: refused with picture::Error, or an upright picture within the limits that fits the
// finder's square, has a small copy, and is the same once it was written as PNG and read again, of the same size as JPEG.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>

#include "picture/decode.h"
#include "picture/encode.h"
#include "picture/orientation.h"
#include "picture/resize.h"

namespace {

namespace picture = qkv::picture;

constexpr std::int64_t kMost = 128;  // pixels a side
constexpr int kSquare = 16;

void require(bool fact) {
  if (!fact) std::abort();
}

void require_sides(const picture::Image& image, std::int64_t most) {
  require(image.width >= 1 && image.width <= most && image.height >= 1 && image.height <= most);
  require(std::ssize(image.rgb) == image.width * image.height * 3);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const picture::Bytes bytes(data, size);
  const int orientation = picture::exif_orientation(bytes);
  require(orientation >= 1 && orientation <= 8);
  try {
    const picture::Image image = picture::decode(bytes, {kMost});
    require_sides(image, kMost);
    const auto width = static_cast<float>(image.width), height = static_cast<float>(image.height);
    const float scale = kSquare / std::max(width, height);
    const picture::Placement middle{scale, (kSquare - scale * width) / 2,
                                    (kSquare - scale * height) / 2};
    for (const float value : picture::in_square(image, middle, kSquare, 0.5f))
      require(value >= 0 && value <= 1);
    require_sides(picture::at_most(image, kSquare), kSquare);
    for (const auto format : {picture::Format::png, picture::Format::jpeg}) {
      const picture::Image again = picture::decode(picture::encode(image, format));
      require(again.width == image.width && again.height == image.height);
      require(again.rgb == image.rgb || format == picture::Format::jpeg);
    }
  } catch (const picture::Error&) {
  }
  return 0;
}
