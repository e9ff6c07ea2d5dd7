// Small pictures as files, for the tests of decoding.
#pragma once

#include <cstdint>
#include <vector>

#include "picture/image.h"

namespace qkv::picture {

using File = std::vector<std::uint8_t>;

// Different in every pixel, and smooth, so that JPEG keeps it.
Image slopes(std::int64_t width, std::int64_t height);

struct JpegOptions {
  bool progressive = false;
  bool grey = false;
  bool inks = false;        // CMYK, as Adobe writes it
  int orientation = 0;      // in an EXIF block; 0: none
  bool big_endian = false;  // EXIF
  int restarts = 0;
};
File jpeg_of(const Image& image, const JpegOptions& options = {});

// "II" or "MM", one directory with the orientation behind another tag.
File exif_of(int orientation, bool big_endian);

// The PNG with a chunk behind its header; its checksum is right.
File with_chunk(const File& png, const char* name, const File& data);

}  // namespace qkv::picture
