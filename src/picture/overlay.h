// Found objects painted over the picture they were found in.
#pragma once

#include <array>
#include <span>
#include <string>

#include "picture/image.h"

namespace qkv::picture {

using Colour = std::array<std::uint8_t, 3>;

// The n-th of as many colours as one likes, each far from its neighbours: hues 137.5° apart.
Colour distinct_colour(int n);

struct Painted {
  std::span<const std::uint8_t> mask;  // [height, width] of the picture, 1 where the object is
  Colour colour{};
  std::string label;  // of 0-9, '%', '.' and blanks; others are left out
};

// Each mask half over the picture, its outline, and its label at the upper end of it; later ones over earlier ones. Throws
// std::invalid_argument for a mask of another size.
void paint(Image& image, std::span<const Painted> objects);

}  // namespace qkv::picture
