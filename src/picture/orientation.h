// EXIF orientation: how a camera was held. Exif 2.32, tag 0x0112: where the first row and the first column of the stored pixels
// belong.
#pragma once

#include "picture/image.h"

namespace qkv::picture {

inline constexpr int kUpright = 1;

// The tag's value, 1 to 8, of an EXIF block, which is a TIFF header and its first directory. kUpright if there is none, or if
// anything about it is not as it should be: a picture is not refused for what stands beside it.
int exif_orientation(Bytes tiff);

// The picture as it was seen. Orientation 1 to 8.
Image upright(Image stored, int orientation);

}  // namespace qkv::picture
