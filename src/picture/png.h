// PNG by libpng's simplified interface (https://www.w3.org/TR/png-3/).
#pragma once

#include "picture/image.h"

namespace qkv::picture {

bool is_png(Bytes file);

// As stored: upright() follows. Throws Error.
Image decode_png(Bytes file, const Limits& limits);

// What its eXIf chunk says; kUpright without one.
int png_orientation(Bytes file);

// A PNG file of 8-bit RGB. Throws Error for a picture that libpng refuses.
std::vector<std::uint8_t> encode_png(const Image& image);

}  // namespace qkv::picture
