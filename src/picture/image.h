// A picture as the finder's door sees it: 8-bit sRGB, upright, without transparency. Start here: decode.h makes one from a file,
// resize.h gives the model its square, overlay.h paints answers over it, png.h writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace qkv::picture {

struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]
  bool damaged =
      false;  // the decoder met wrong data and went on; what it could not read is grey or wrong
};

using Bytes = std::span<const std::uint8_t>;

// Largest sides that are decoded; a header that says more is refused before pixels are allocated.
struct Limits {
  std::int64_t side = 4096;
};

// What is wrong with a picture, to be read behind its name: "is empty", "has 5000×10 pixels; …".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error unless both sides are 1 to limits.side.
void check_size(std::int64_t width, std::int64_t height, const Limits& limits);

}  // namespace qkv::picture
