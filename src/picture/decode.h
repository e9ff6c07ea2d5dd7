// PNG and JPEG files to pictures.
#pragma once

#include <string>

#include "picture/image.h"

namespace qkv::picture {

// PNG (every colour type and depth, interlaced too; transparency over white) or JPEG (baseline and progressive; grey, YCbCr, RGB,
// CMYK, YCCK), told by the first bytes, turned upright by its EXIF orientation. Throws Error.
Image decode(Bytes file, const Limits& limits = {});

// Throws std::system_error if the file cannot be read, Error if it is larger than 256 MiB or no picture.
Image read(const std::string& path, const Limits& limits = {});

}  // namespace qkv::picture
