#include "picture/resize.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace qkv::picture {
namespace {

// What one new pixel takes along one axis of the picture: `weights` of pixels first, first + 1, …, which add to 1,
// or nothing; and how much of it the picture covers.
struct Share {
  std::int64_t first = 0;
  std::vector<float> weights;
  float covered = 0;
};

// Of `side` new pixels, where pixel x of `count` goes to start + scale·x.
std::vector<Share> shares(std::int64_t count, double scale, double start, std::int64_t side) {
  std::vector<Share> all(static_cast<std::size_t>(side));
  const auto end = static_cast<double>(count);
  const double half = std::max(1.0, 1 / scale) / 2;
  for (std::int64_t i = 0; i < side; ++i) {
    Share& share = all[static_cast<std::size_t>(i)];
    const auto left = static_cast<double>(i);
    const double covered = std::min(left + 1, start + scale * end) - std::max(left, start);
    if (covered <= 0) continue;
    share.covered = static_cast<float>(std::min(covered, 1.0));
    const double middle = (left + 0.5 - start) / scale;
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

// [rows, columns, 3] in 0 to 255: the means that the shares ask for.
std::vector<float> means(const Image& image, const std::vector<Share>& columns,
                         const std::vector<Share>& rows) {
  // narrow[y][i][c] = Σ_x weight[i][x]·rgb[y][x][c]
  const std::int64_t line = 3 * std::ssize(columns);
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

  // mean[j][i][c] = Σ_y weight[j][y]·narrow[y][i][c]; rounding may lift it over the largest by a little
  std::vector<float> mean(rows.size() * static_cast<std::size_t>(line));
  float* to = mean.data();
  for (const Share& row : rows) {
    for (std::size_t k = 0; k < row.weights.size(); ++k) {
      const float* from = narrow.data() + (row.first + static_cast<std::int64_t>(k)) * line;
      for (std::int64_t i = 0; i < line; ++i) to[i] += row.weights[k] * from[i];
    }
    for (std::int64_t i = 0; i < line; ++i) to[i] = std::min(to[i], 255.0f);
    to += line;
  }
  return mean;
}

}  // namespace

std::vector<float> in_square(const Image& image, const Placement& placement, int side,
                             float around) {
  const auto columns = shares(image.width, placement.scale, placement.left, side);
  const auto rows = shares(image.height, placement.scale, placement.top, side);
  std::vector<float> square = means(image, columns, rows);
  float* pixel = square.data();
  for (const Share& row : rows)
    for (const Share& column : columns) {
      const float covered = row.covered * column.covered;
      for (int c = 0; c < 3; ++c, ++pixel) {
        const float inside = *pixel / 255;
        *pixel = covered == 1 ? inside : around + covered * (inside - around);
      }
    }
  return square;
}

Image at_most(const Image& image, std::int64_t side) {
  if (side < 1)
    throw std::invalid_argument("at_most: expected a side of 1 pixel or more, got " +
                                std::to_string(side));
  const std::int64_t longest = std::max(image.width, image.height);
  if (longest <= side) return image;
  Image small;
  small.damaged = image.damaged;
  const auto shrunk = [&](std::int64_t pixels) {
    return std::max<std::int64_t>(1, pixels * side / longest);
  };
  small.width = shrunk(image.width);
  small.height = shrunk(image.height);
  const auto along = [](std::int64_t from, std::int64_t to) {
    return shares(from, static_cast<double>(to) / static_cast<double>(from), 0, to);
  };
  for (const float value :
       means(image, along(image.width, small.width), along(image.height, small.height)))
    small.rgb.push_back(static_cast<std::uint8_t>(std::lround(value)));
  return small;
}

}  // namespace qkv::picture
