// A picture at other sizes: in the square that the finder sees, and small enough for a screen.
#pragma once

#include <cstdint>
#include <vector>

#include "picture/image.h"

namespace qkv::picture {

// Where pixel (x, y) of the picture goes: (left + scale·x, top + scale·y), in pixels of the square.
struct Placement {
  float scale = 1;
  float left = 0;
  float top = 0;
};

// [side, side, 3] in [0, 1]; `around` where the picture does not reach. A pixel of the square is the mean of the picture over its own
// footprint, or over one pixel of the picture where that is larger: shrinking averages areas, enlarging interpolates linearly,
// and at scale 1 nothing changes.
std::vector<float> in_square(const Image& image, const Placement& placement, int side,
                             float around);

// The picture itself if neither side is longer than `side`, else with the longer one at that and the other in proportion, rounded down
// but at least 1: each side has its own scale, and a pixel is the mean of all that it stands for. Throws std::invalid_argument for a
// side below 1.
Image at_most(const Image& image, std::int64_t side);

}  // namespace qkv::picture
