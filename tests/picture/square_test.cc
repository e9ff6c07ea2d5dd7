// The finder's square of a picture: areas when it shrinks, lines when it grows, nothing changed at scale 1.
#include "picture/square.h"

#include <gtest/gtest.h>

#include <numeric>

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

}  // namespace
}  // namespace qkv::picture
