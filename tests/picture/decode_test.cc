// PNG and JPEG files of every kind to upright pixels; what is no picture is refused by name. tests/cli/test_find.py compares the
// kinds of files that another program writes.
#include "picture/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>

#include "picture/encode.h"
#include "picture/jpeg.h"
#include "picture/orientation.h"
#include "picture/png.h"
#include "tests/picture/files.h"

namespace qkv::picture {
namespace {

std::string refusal(Bytes file, const Limits& limits = {}) {
  try {
    decode(file, limits);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

int farthest(const Image& a, const Image& b) {
  if (a.width != b.width || a.height != b.height) return 256;
  int most = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i)
    most = std::max(most, std::abs(a.rgb[i] - b.rgb[i]));
  return most;
}

TEST(Decode, PngIsWhatWasWritten) {
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {64, 48}}) {
    const Image image = slopes(width, height);
    const Image read = decode(encode_png(image));
    EXPECT_EQ(farthest(read, image), 0);
    EXPECT_FALSE(read.damaged);
  }
}

TEST(Decode, JpegIsNearWhatWasWritten) {
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {64, 48}}) {
    const Image image = slopes(width, height);
    const File file = encode(image, Format::jpeg);
    EXPECT_TRUE(is_jpeg(file));
    EXPECT_LE(farthest(decode(file), image), 12) << width;
  }
  Image noise = slopes(96, 96);  // a larger file than the encoder makes room for
  std::uint32_t state = 1;
  for (std::uint8_t& value : noise.rgb)
    value = static_cast<std::uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  const File large = encode(noise, Format::jpeg);
  EXPECT_GT(large.size(), 96U * 96 + 4096);
  EXPECT_EQ(decode(large).width, 96);
  Image none = slopes(1, 1);
  none.width = 0;
  EXPECT_THROW(encode(none, Format::jpeg), Error);
  EXPECT_THROW(encode(none, Format::png), Error);
}

TEST(Encode, TheNameSaysTheFormat) {
  for (const char* name : {"a.png", "a.PNG", "a", "out.d/a", "/dev/fd/63"})
    EXPECT_EQ(format_of(name), Format::png) << name;
  for (const char* name : {"a.jpg", "a.jpeg", "A.JPG", "a.png.jpg"})
    EXPECT_EQ(format_of(name), Format::jpeg) << name;
  for (const char* name : {"a.webp", "a.gif", "a.jpg.txt", "a."})
    EXPECT_EQ(format_of(name), std::nullopt) << name;
}

TEST(Decode, JpegOfEveryKindIsNear) {
  const Image image = slopes(64, 48);
  EXPECT_LE(farthest(decode(jpeg_of(image)), image), 6);
  EXPECT_LE(farthest(decode(jpeg_of(image, {.progressive = true})), image), 6);
  EXPECT_LE(farthest(decode(jpeg_of(image, {.restarts = 2})), image), 6);
  EXPECT_LE(farthest(decode(jpeg_of(image, {.inks = true})), image), 8);
  const Image grey = decode(jpeg_of(image, {.grey = true}));
  for (std::size_t i = 0; i < grey.rgb.size(); ++i)
    ASSERT_LE(std::abs(grey.rgb[i] - image.rgb[i / 3 * 3 + 1]), 4);
}

// Where the upper left pixel and the one right of it are seen, of 3×2 stored pixels, for orientation 1 to 8 (Exif 2.32, 4.6.4.A).
TEST(Decode, EveryOrientation) {
  const std::int64_t corner[][2] = {{0, 0}, {2, 0}, {2, 1}, {0, 1}, {0, 0}, {1, 0}, {1, 2}, {0, 2}};
  const std::int64_t next[][2] = {{1, 0}, {1, 0}, {1, 1}, {1, 1}, {0, 1}, {1, 1}, {1, 1}, {0, 1}};
  const Image stored = slopes(3, 2);
  const auto same = [&](const Image& seen, const std::int64_t* at, std::int64_t from) {
    return std::equal(seen.rgb.begin() + (at[1] * seen.width + at[0]) * 3,
                      seen.rgb.begin() + (at[1] * seen.width + at[0]) * 3 + 3,
                      stored.rgb.begin() + from * 3);
  };
  for (int orientation = 1; orientation <= 8; ++orientation)
    for (const bool big_endian : {false, true}) {
      const File exif = exif_of(orientation, big_endian);
      ASSERT_EQ(exif_orientation(exif), orientation);
      const Image seen = decode(with_chunk(encode_png(stored), "eXIf", exif));
      ASSERT_EQ(seen.width, orientation < 5 ? 3 : 2);
      ASSERT_EQ(seen.height, orientation < 5 ? 2 : 3);
      EXPECT_TRUE(same(seen, corner[orientation - 1], 0)) << orientation;
      EXPECT_TRUE(same(seen, next[orientation - 1], 1)) << orientation;
      const Image jpeg =
          decode(jpeg_of(slopes(48, 32), {.orientation = orientation, .big_endian = big_endian}));
      EXPECT_LE(farthest(jpeg, upright(slopes(48, 32), orientation)), 6) << orientation;
    }
}

TEST(Decode, AnOrientationThatIsNoneIsUpright) {
  for (const int wrong : {0, 9, 65535}) EXPECT_EQ(exif_orientation(exif_of(wrong, true)), kUpright);
  const File exif = exif_of(6, false);
  for (std::size_t size = 0; size < exif.size(); ++size)
    exif_orientation(Bytes(exif).first(size));  // reads nothing beyond it (the sanitizers watch)
  File far = exif;
  far[4] = far[5] = far[6] = far[7] = 0xFF;  // the directory lies beyond the end
  EXPECT_EQ(exif_orientation(far), kUpright);
  EXPECT_EQ(exif_orientation({}), kUpright);
}

TEST(Decode, EveryTruncationIsRefused) {
  const Image image = slopes(24, 16);
  for (const File& file : {encode_png(image), jpeg_of(image), jpeg_of(image, {.progressive = true}),
                           jpeg_of(image, {.inks = true, .orientation = 6})}) {
    // the last bytes of a PNG are its end mark, behind the pixels
    const std::size_t pixels_end = is_png(file) ? file.size() - 16 : file.size();
    for (std::size_t size = 0; size < pixels_end; ++size)
      ASSERT_NE(refusal(Bytes(file).first(size)), "accepted") << size << " of " << file.size();
  }
  EXPECT_NE(refusal(Bytes(jpeg_of(image)).first(300)).find("truncated"), std::string::npos);
}

TEST(Decode, TheSizeIsCheckedFromTheHeader) {
  const File png = encode_png(slopes(9, 5)), jpeg = jpeg_of(slopes(9, 5));
  for (const File& file : {png, jpeg}) {
    EXPECT_EQ(refusal(file, {8}), "has 9×5 pixels; expected 1×1 to 8×8");
    EXPECT_EQ(refusal(file, {9}), "accepted");
  }
  File huge = jpeg;  // 61166×61166 pixels in a few hundred bytes
  for (std::size_t i = 0; i + 9 < huge.size(); ++i)
    if (huge[i] == 0xFF && huge[i + 1] == 0xC0) {
      std::fill_n(huge.begin() + static_cast<std::ptrdiff_t>(i) + 5, 4, 0xEE);
      break;
    }
  EXPECT_EQ(refusal(huge), "has 61166×61166 pixels; expected 1×1 to 4096×4096");
}

TEST(Decode, WhatIsNoPictureIsNamed) {
  const auto bytes = [](const std::string& text) { return File(text.begin(), text.end()); };
  EXPECT_EQ(refusal({}), "is empty");
  EXPECT_EQ(refusal(bytes("hello")), "is neither PNG nor JPEG");
  EXPECT_EQ(refusal(bytes("GIF89a...")), "is neither PNG nor JPEG; it looks like a GIF");
  EXPECT_EQ(refusal(bytes("RIFF....WEBPVP8 ")), "is neither PNG nor JPEG; it looks like a WebP");
  EXPECT_NE(refusal(bytes("\xFF\xD8\xFFhello")).find("JPEG"), std::string::npos);
  EXPECT_NE(refusal(bytes("\x89PNG\r\n\x1A\nhello")).find("PNG"), std::string::npos);
}

TEST(Decode, DamageIsRefusedOrSaid) {
  const Image image = slopes(64, 64);
  File jpeg = jpeg_of(image, {.restarts = 2});
  bool said = false;
  for (std::size_t at = jpeg.size() / 2; at < jpeg.size() - 2; ++at) {
    File wrong = jpeg;
    wrong[at] ^= 0x5A;
    try {
      said |= decode(wrong).damaged;
    } catch (const Error&) {
      said = true;
    }
  }
  EXPECT_TRUE(said);
  File png = encode_png(image);
  png[png.size() - 30] ^= 0x5A;  // the checksum of the pixels is wrong
  EXPECT_NE(refusal(png), "accepted");
}

// A progressive picture that asks for more passes than any real one.
TEST(Decode, TooManyScans) {
  const File jpeg = jpeg_of(slopes(16, 16), {.progressive = true});
  std::size_t last = jpeg.size() - 2;  // the last scan: from its header to the end of the picture
  while (!(jpeg[last] == 0xFF && jpeg[last + 1] == 0xDA)) --last;
  File many(jpeg.begin(), jpeg.end() - 2);
  for (int i = 0; i < 300; ++i)
    many.insert(many.end(), jpeg.begin() + static_cast<std::ptrdiff_t>(last), jpeg.end() - 2);
  many.insert(many.end(), {0xFF, 0xD9});
  EXPECT_EQ(refusal(many), "is a JPEG with more than 200 scans");
}

TEST(Decode, AFileThatCannotBeRead) {
  EXPECT_THROW(read("/nowhere/picture.png"), std::system_error);
  EXPECT_THROW(read("/"), std::system_error);
}

}  // namespace
}  // namespace qkv::picture
