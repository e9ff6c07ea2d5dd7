#include "picture/decode.h"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>
#include <system_error>

#include "picture/jpeg.h"
#include "picture/orientation.h"
#include "picture/png.h"

namespace qkv::picture {
namespace {

constexpr std::size_t kMostBytes = std::size_t{256}
                                   << 20;  // 4096² pixels of 16-bit RGBA are 128 MiB

bool has(Bytes file, std::size_t at, std::string_view text) {
  return file.size() >= at + text.size() &&
         std::equal(text.begin(), text.end(), file.begin() + static_cast<std::ptrdiff_t>(at),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

// What else it looks like, for the message.
std::string other_format(Bytes file) {
  if (has(file, 0, "GIF8")) return "a GIF";
  if (has(file, 0, "RIFF") && has(file, 8, "WEBP")) return "a WebP";
  if (has(file, 4, "ftyp")) return "a HEIF, AVIF or video";
  if (has(file, 0, "BM")) return "a BMP";
  if (has(file, 0, "II*") || has(file, 0, std::string_view("MM\0*", 4))) return "a TIFF";
  if (has(file, 0, "%PDF")) return "a PDF";
  return {};
}

}  // namespace

void check_size(std::int64_t width, std::int64_t height, const Limits& limits) {
  if (width >= 1 && height >= 1 && width <= limits.side && height <= limits.side) return;
  const std::string most = std::to_string(limits.side);
  throw Error("has " + std::to_string(width) + "×" + std::to_string(height) +
              " pixels; expected 1×1 to " + most + "×" + most);
}

Image decode(Bytes file, const Limits& limits) {
  if (file.empty()) throw Error("is empty");
  if (is_png(file)) return upright(decode_png(file, limits), png_orientation(file));
  if (is_jpeg(file)) {
    int orientation = kUpright;
    Image image = decode_jpeg(file, limits, orientation);
    return upright(std::move(image), orientation);
  }
  const std::string other = other_format(file);
  throw Error("is neither PNG nor JPEG" + (other.empty() ? "" : "; it looks like " + other));
}

Image read(const std::string& path, const Limits& limits) {
  errno = 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (!file) throw std::system_error(errno, std::generic_category(), path);
  std::vector<std::uint8_t> bytes;
  constexpr std::size_t kStep = std::size_t{1} << 20;
  for (std::size_t got = kStep; got == kStep;) {  // read, not asked for its size: pipes have none
    const std::size_t before = bytes.size();
    bytes.resize(before + kStep);
    errno = 0;
    got = std::fread(bytes.data() + before, 1, kStep, file.get());
    if (std::ferror(file.get()) != 0) throw std::system_error(errno, std::generic_category(), path);
    bytes.resize(before + got);
    if (bytes.size() > kMostBytes)
      throw Error("has more than " + std::to_string(kMostBytes >> 20) + " MiB");
  }
  return decode(bytes, limits);
}

}  // namespace qkv::picture
