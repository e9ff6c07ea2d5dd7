// Pictures at other sizes. The finder's square: areas when it shrinks, lines when it grows, nothing changed at scale 1. What a screen
// shows: never larger, each side at its own scale.
#include "picture/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "tests/picture/files.h"

namespace qkv::picture {
namespace {

constexpr float kAround = 0.5f;
constexpr float kRounding = 1e-6f;  // sums of some dozen weights in [0, 1]

// One channel of it as [side, side].
std::vector<float> channel(const Image& image, const Placement& place, int side, int c) {
  const std::vector<float> square = in_square(image, place, side, kAround);
  EXPECT_EQ(square.size(), static_cast<std::size_t>(side) * side * 3);
  std::vector<float> one;
  for (std::size_t i = static_cast<std::size_t>(c); i < square.size(); i += 3)
    one.push_back(square[i]);
  return one;
}

TEST(Square, ScaleOneChangesNothing) {
  const Image image = slopes(8, 8);
  const std::vector<float> square = in_square(image, {}, 8, kAround);
  for (std::size_t i = 0; i < square.size(); ++i)
    EXPECT_EQ(square[i], static_cast<float>(image.rgb[i]) / 255);
}

TEST(Square, ShrinkingAveragesAreas) {
  const Image image = slopes(12, 12);
  const std::vector<float> red = channel(image, {1 / 3.0f, 0, 0}, 4, 0);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x) {
      float sum = 0;
      for (int v = 3 * y; v < 3 * y + 3; ++v)
        for (int u = 3 * x; u < 3 * x + 3; ++u) sum += image.rgb[(v * 12 + u) * 3];
      EXPECT_NEAR(red[y * 4 + x], sum / 9 / 255, kRounding);
    }
  // 5 to 4: the second takes a quarter less of pixel 1 and half of pixel 2; footprints of 1.25
  const Image five = slopes(5, 5);
  const std::vector<float> uneven = channel(five, {0.8f, 0, 0}, 4, 0);
  const auto at = [&](int x) { return static_cast<float>(five.rgb[x * 3]) / 255; };
  EXPECT_NEAR(uneven[1], (0.75f * at(1) + 0.5f * at(2)) / 1.25f, kRounding);
}

TEST(Square, GrowingInterpolates) {
  Image image{2, 1, {0, 0, 0, 255, 255, 255}, false};
  const std::vector<float> row = channel(image, {4, 0, 2}, 8, 1);  // rows 2 to 5
  const float want[] = {0, 0, 0.125f, 0.375f, 0.625f, 0.875f, 1, 1};
  for (int x = 0; x < 8; ++x) {
    EXPECT_NEAR(row[3 * 8 + x], want[x], kRounding) << x;
    EXPECT_EQ(row[x], kAround);       // above the picture
    EXPECT_EQ(row[56 + x], kAround);  // below it
  }
}

TEST(Square, APixelThatIsHalfCoveredIsHalfGrey) {
  Image image{4, 3, std::vector<std::uint8_t>(36, 255), false};
  const std::vector<float> red = channel(image, {1, 0, 0.5f}, 4, 0);
  for (int x = 0; x < 4; ++x) {
    EXPECT_NEAR(red[x], 0.75f, kRounding);
    EXPECT_NEAR(red[4 + x], 1, kRounding);
    EXPECT_NEAR(red[12 + x], 0.75f, kRounding);
  }
}

TEST(Square, OfAnyShapeItStaysInRange) {
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 300}, {300, 1}, {37, 91}, {100, 1000}}) {
    const float scale = 16.0f / static_cast<float>(std::max(width, height));
    const Placement place{scale, (16 - scale * static_cast<float>(width)) / 2,
                          (16 - scale * static_cast<float>(height)) / 2};
    for (const float value : in_square(slopes(width, height), place, 16, kAround)) {
      ASSERT_GE(value, 0);
      ASSERT_LE(value, 1);
    }
  }
  const Image white{64, 3, std::vector<std::uint8_t>(576, 255), false};
  const std::vector<float> square = channel(white, {0.25f, 0, 8 - 0.375f}, 16, 2);
  // what the picture adds to the grey is its own area
  const float sum = std::accumulate(square.begin(), square.end(), 0.0f) - 256 * kAround;
  EXPECT_NEAR(sum, 0.5f * 16 * 0.75f, 1e-4f);
}

// The mean of one channel over the part of the picture that pixel (x, y) of the small one stands for.
double mean_of(const Image& image, const Image& small, std::int64_t x, std::int64_t y, int c) {
  const auto part = [](std::int64_t place, std::int64_t of, std::int64_t pixels, std::int64_t p) {
    const double wide = static_cast<double>(pixels) / static_cast<double>(of);
    const double from = static_cast<double>(place) * wide, at = static_cast<double>(p);
    return std::max(0.0, std::min(from + wide, at + 1) - std::max(from, at)) / wide;
  };
  double sum = 0;
  for (std::int64_t v = y * image.height / small.height; v < image.height; ++v) {
    const double down = part(y, small.height, image.height, v);
    if (down == 0) break;
    for (std::int64_t u = x * image.width / small.width; u < image.width; ++u) {
      const double right = part(x, small.width, image.width, u);
      if (right == 0) break;
      sum += down * right * image.rgb[static_cast<std::size_t>((v * image.width + u) * 3 + c)];
    }
  }
  return sum;
}

TEST(AtMost, IsTheMeanOfWhatEachPixelStandsFor) {
  struct Sizes {
    std::int64_t width, height, small_width, small_height;
  };
  for (const auto& [width, height, small_width, small_height] : {Sizes{1, 5000, 1, 1024},
                                                                 {5000, 1, 1024, 1},
                                                                 {4096, 3, 1024, 1},
                                                                 {1025, 1025, 1024, 1024},
                                                                 {1500, 700, 1024, 477},
                                                                 {5000, 7, 1024, 1}}) {
    const Image image = slopes(width, height);
    const Image small = at_most(image, 1024);
    ASSERT_EQ(small.width, small_width);
    ASSERT_EQ(small.height, small_height);
    ASSERT_EQ(small.rgb.size(), static_cast<std::size_t>(small_width * small_height * 3));
    for (std::int64_t y = 0; y < small.height; ++y)
      for (std::int64_t x = 0; x < small.width; ++x)
        for (int c = 0; c < 3; ++c)  // to the nearest of 256, and sums of some dozen weights
          ASSERT_NEAR(small.rgb[static_cast<std::size_t>((y * small.width + x) * 3 + c)],
                      mean_of(image, small, x, y, c), 0.5 + 255e-6)
              << width << "×" << height << " at " << x << "," << y;
  }
}

TEST(AtMost, OneColourStaysThatColour) {
  for (const auto& [width, height] : {std::pair{1, 5000}, {5000, 1}, {4096, 3}, {1031, 977}}) {
    Image image{width, height, {}, false};
    for (std::int64_t i = 0; i < image.width * image.height; ++i)
      image.rgb.insert(image.rgb.end(), {255, 1, 130});
    const Image small = at_most(image, 1024);
    for (std::size_t i = 0; i < small.rgb.size(); i += 3) {
      ASSERT_EQ(small.rgb[i], 255);
      ASSERT_EQ(small.rgb[i + 1], 1);
      ASSERT_EQ(small.rgb[i + 2], 130);
    }
  }
}

TEST(AtMost, WhatFitsComesBackUnchanged) {
  for (const auto& [width, height] : {std::pair{16, 16}, {16, 3}, {1, 16}, {5, 7}, {1, 1}}) {
    Image image = slopes(width, height);
    image.damaged = true;
    const Image same = at_most(image, 16);
    EXPECT_EQ(same.width, width);
    EXPECT_EQ(same.height, height);
    EXPECT_EQ(same.rgb, image.rgb);
    EXPECT_TRUE(same.damaged);
  }
  EXPECT_THROW(at_most(slopes(2, 2), 0), std::invalid_argument);
}

}  // namespace
}  // namespace qkv::picture
