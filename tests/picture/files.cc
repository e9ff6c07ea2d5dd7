#include "tests/picture/files.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>
#include <zlib.h>

namespace qkv::picture {
namespace {

void put(File& file, std::uint32_t value, int bytes, bool big_endian) {
  for (int i = 0; i < bytes; ++i)
    file.push_back(static_cast<std::uint8_t>(value >> (8 * (big_endian ? bytes - 1 - i : i))));
}

}  // namespace

Image slopes(std::int64_t width, std::int64_t height) {
  Image image{width, height, {}, false};
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (const std::int64_t value : {30 + 200 * x / width, 30 + 200 * y / height, 100 + x + y})
        image.rgb.push_back(static_cast<std::uint8_t>(value));
  return image;
}

File exif_of(int orientation, bool big_endian) {
  File tiff = big_endian ? File{'M', 'M'} : File{'I', 'I'};
  const auto add = [&](std::uint32_t value, int bytes) { put(tiff, value, bytes, big_endian); };
  add(42, 2);
  add(8, 4);
  add(2, 2);  // entries: tag, type, count, value
  add(0x0100, 2), add(4, 2), add(1, 4), add(640, 4);
  add(0x0112, 2), add(3, 2), add(1, 4), add(static_cast<std::uint32_t>(orientation), 2), add(0, 2);
  add(0, 4);
  return tiff;
}

File jpeg_of(const Image& image, const JpegOptions& options) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};  // ends the program: what is written here is right
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = options.inks ? 4 : options.grey ? 1 : 3;
  info.in_color_space = options.inks ? JCS_CMYK : options.grey ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  info.restart_interval = static_cast<unsigned>(options.restarts);
  if (options.progressive) jpeg_simple_progression(&info);
  if (options.inks) info.write_Adobe_marker = TRUE;
  jpeg_start_compress(&info, TRUE);
  if (options.orientation > 0) {
    File block = {'E', 'x', 'i', 'f', 0, 0};
    const File tiff = exif_of(options.orientation, options.big_endian);
    block.insert(block.end(), tiff.begin(), tiff.end());
    jpeg_write_marker(&info, JPEG_APP0 + 1, block.data(), static_cast<unsigned>(block.size()));
  }
  File row;
  while (info.next_scanline < info.image_height) {
    row.clear();
    const std::uint8_t* from = image.rgb.data() + info.next_scanline * image.width * 3;
    for (std::int64_t x = 0; x < image.width; ++x, from += 3) {
      if (options.grey) {
        row.push_back(from[1]);
        continue;
      }
      row.insert(row.end(), from, from + 3);
      if (options.inks) row.push_back(255);  // no black: Adobe's numbers are what an ink leaves
    }
    JSAMPROW start = row.data();
    jpeg_write_scanlines(&info, &start, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  File file(bytes, bytes + size);
  std::free(bytes);
  return file;
}

File with_chunk(const File& png, const char* name, const File& data) {
  File chunk;
  put(chunk, static_cast<std::uint32_t>(data.size()), 4, true);
  chunk.insert(chunk.end(), name, name + 4);
  chunk.insert(chunk.end(), data.begin(), data.end());
  put(chunk,
      static_cast<std::uint32_t>(crc32(0, chunk.data() + 4, static_cast<uInt>(chunk.size() - 4))),
      4, true);
  File file = png;
  file.insert(file.begin() + 33, chunk.begin(),
              chunk.end());  // the signature has 8 bytes, the header 25
  return file;
}

}  // namespace qkv::picture
