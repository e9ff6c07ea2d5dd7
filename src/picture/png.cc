#include "picture/png.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "picture/orientation.h"

namespace qkv::picture {
namespace {

constexpr std::array<std::uint8_t, 8> kSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

// libpng's state of one picture. Its errors come back as a message here: no longjmp crosses our frames.
struct Png {
  Png() { image.version = PNG_IMAGE_VERSION; }
  ~Png() { png_image_free(&image); }
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(what + ": " + std::string(image.message));
  }

  png_image image{};
};

}  // namespace

bool is_png(Bytes file) {
  return file.size() >= kSignature.size() &&
         std::equal(kSignature.begin(), kSignature.end(), file.begin());
}

Image decode_png(Bytes file, const Limits& limits) {
  Png png;
  if (png_image_begin_read_from_memory(&png.image, file.data(), file.size()) == 0)
    png.fail("is no PNG that can be read");
  check_size(png.image.width, png.image.height, limits);
  png.image.format = PNG_FORMAT_RGB;
  png.image.flags |=
      PNG_IMAGE_FLAG_16BIT_sRGB;  // 16 bits without a gamma are sRGB too, not linear light
  Image image{png.image.width, png.image.height,
              std::vector<std::uint8_t>(PNG_IMAGE_SIZE(png.image)), false};
  const png_color white{255, 255, 255};
  if (png_image_finish_read(&png.image, &white, image.rgb.data(), 0, nullptr) == 0)
    png.fail("is a damaged or truncated PNG");
  image.damaged = (png.image.warning_or_error & PNG_IMAGE_WARNING) != 0;
  return image;
}

int png_orientation(Bytes file) {
  // A chunk is its length in 4 bytes, its name in 4, the data, and a checksum in 4.
  for (Bytes rest = file.subspan(std::min(file.size(), kSignature.size())); rest.size() >= 12;) {
    const std::size_t length = std::size_t{rest[0]} << 24 | std::size_t{rest[1]} << 16 |
                               std::size_t{rest[2]} << 8 | rest[3];
    if (length > rest.size() - 12) break;
    const std::string_view name = "eXIf";
    if (std::equal(name.begin(), name.end(), rest.begin() + 4))
      return exif_orientation(rest.subspan(8, length));
    rest = rest.subspan(length + 12);
  }
  return kUpright;
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  Png png;
  png.image.width = static_cast<png_uint_32>(image.width);
  png.image.height = static_cast<png_uint_32>(image.height);
  png.image.format = PNG_FORMAT_RGB;
  png.image.flags = PNG_IMAGE_FLAG_FAST;  // a person waits: time before size
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png.image);
  std::vector<std::uint8_t> file(size);
  if (png_image_write_to_memory(&png.image, file.data(), &size, 0, image.rgb.data(), 0, nullptr) ==
      0)
    png.fail("cannot be written as PNG");
  file.resize(size);
  return file;
}

}  // namespace qkv::picture
