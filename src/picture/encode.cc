#include "picture/encode.h"

#include <algorithm>
#include <string>

#include "picture/jpeg.h"
#include "picture/png.h"

namespace qkv::picture {

std::optional<Format> format_of(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const std::size_t dot = name.rfind('.');
  std::string ending(dot == std::string_view::npos ? "" : name.substr(dot));
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (ending.empty() || ending == ".png") return Format::png;
  if (ending == ".jpg" || ending == ".jpeg") return Format::jpeg;
  return std::nullopt;
}

std::vector<std::uint8_t> encode(const Image& image, Format format) {
  return format == Format::jpeg ? encode_jpeg(image) : encode_png(image);
}

}  // namespace qkv::picture
