// Pictures to PNG and JPEG files.
#pragma once

#include <optional>
#include <string_view>

#include "picture/image.h"

namespace qkv::picture {

enum class Format { png, jpeg };

// By the name's ending, in small letters or capitals: .png, .jpg or .jpeg; PNG for a name without one. Nothing for any other.
std::optional<Format> format_of(std::string_view path);

// Throws Error for a picture that the format cannot hold.
std::vector<std::uint8_t> encode(const Image& image, Format format);

}  // namespace qkv::picture
