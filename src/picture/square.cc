#include "picture/square.h"

#include <algorithm>

namespace qkv::picture {
namespace {

// What one pixel of the square takes along one axis of the picture: `weights` of pixels first, first + 1, …, which add to 1,
// or nothing; and how much of it the picture covers.
struct Share {
  std::int64_t first = 0;
  std::vector<float> weights;
  float covered = 0;
};

std::vector<Share> shares(std::int64_t count, double scale, double start, int side) {
  std::vector<Share> all(static_cast<std::size_t>(side));
  const auto end = static_cast<double>(count);
  const double half = std::max(1.0, 1 / scale) / 2;
  for (int i = 0; i < side; ++i) {
    Share& share = all[static_cast<std::size_t>(i)];
    const double covered = std::min(i + 1.0, start + scale * end) - std::max<double>(i, start);
    if (covered <= 0) continue;
    share.covered = static_cast<float>(std::min(covered, 1.0));
    const double middle = (i + 0.5 - start) / scale;
    const double from = std::clamp(middle - half, 0.0, end),
                 to = std::clamp(middle + half, 0.0, end);
    share.first = std::min(static_cast<std::int64_t>(from), count - 1);
    for (std::int64_t p = share.first; p < count && static_cast<double>(p) < to; ++p) {
      const auto at = static_cast<double>(p);
      share.weights.push_back(
          static_cast<float>((std::min(to, at + 1) - std::max(from, at)) / (to - from)));
    }
  }
  return all;
}

}  // namespace

std::vector<float> in_square(const Image& image, const Placement& placement, int side,
                             float around) {
  const auto columns = shares(image.width, placement.scale, placement.left, side);
  const auto rows = shares(image.height, placement.scale, placement.top, side);

  // narrow[y][i][c] = Σ_x weight[i][x]·rgb[y][x][c]
  const std::int64_t line = std::int64_t{3} * side;
  std::vector<float> narrow(static_cast<std::size_t>(image.height * line));
  for (std::int64_t y = 0; y < image.height; ++y) {
    float* to = narrow.data() + y * line;
    for (const Share& share : columns) {
      const std::uint8_t* from = image.rgb.data() + (y * image.width + share.first) * 3;
      for (const float weight : share.weights) {
        for (int c = 0; c < 3; ++c) to[c] += weight * static_cast<float>(from[c]);
        from += 3;
      }
      to += 3;
    }
  }

  // square[j][i][c] = Σ_y weight[j][y]·narrow[y][i][c] / 255
  std::vector<float> square(static_cast<std::size_t>(side * line));
  std::vector<float> sum(static_cast<std::size_t>(line));
  for (int j = 0; j < side; ++j) {
    const Share& row = rows[static_cast<std::size_t>(j)];
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (std::size_t k = 0; k < row.weights.size(); ++k) {
      const float* from = narrow.data() + (row.first + static_cast<std::int64_t>(k)) * line;
      for (std::int64_t i = 0; i < line; ++i) sum[i] += row.weights[k] * from[i];
    }
    for (std::int64_t i = 0; i < line; ++i) {
      const float covered = row.covered * columns[static_cast<std::size_t>(i / 3)].covered;
      const float inside = std::min(sum[i] / 255, 1.0f);
      square[j * line + i] = around + covered * (inside - around);
      if (covered == 1) square[j * line + i] = inside;
    }
  }
  return square;
}

}  // namespace qkv::picture
