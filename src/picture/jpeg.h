// JPEG by libjpeg-turbo (ITU-T T.81, JFIF, and Adobe's CMYK).
#pragma once

#include "picture/image.h"

namespace qkv::picture {

bool is_jpeg(Bytes file);

// As stored; `orientation` receives what its EXIF block says, for upright(). A file that ends before its pixels do is refused; one
// with wrong data in the middle is read as far as the decoder can. Throws Error.
Image decode_jpeg(Bytes file, const Limits& limits, int& orientation);

// A baseline JPEG file. Throws Error for a picture that libjpeg refuses.
std::vector<std::uint8_t> encode_jpeg(const Image& image);

}  // namespace qkv::picture
