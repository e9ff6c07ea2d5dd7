// Masks as COCO's run lengths, and painted over a picture.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <stdexcept>

#include "picture/overlay.h"
#include "picture/rle.h"
#include "tests/picture/files.h"

namespace qkv::picture {
namespace {

using Mask = std::vector<std::uint8_t>;

// Back from the string, the way its description reads.
Mask decoded(const std::string& counts, std::int64_t height, std::int64_t width) {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < counts.size();) {
    std::int64_t value = 0;
    int shift = 0, bits = 32;
    for (; (bits & 32) != 0; shift += 5) {
      bits = counts[i++] - 48;
      value |= static_cast<std::int64_t>(bits & 31) << shift;
    }
    if ((bits & 16) != 0) value -= std::int64_t{1} << shift;
    lengths.push_back(value + (lengths.size() > 2 ? lengths[lengths.size() - 2] : 0));
  }
  Mask mask(static_cast<std::size_t>(height * width));
  std::int64_t at = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i)
    for (std::int64_t n = 0; n < lengths[i]; ++n, ++at)
      mask[at % height * width + at / height] = i % 2;
  EXPECT_EQ(at, height * width);
  return mask;
}

TEST(CocoCounts, ByHand) {
  // columns: 0 1 | 1 1 | 0 0 → runs 1, 3, 2
  EXPECT_EQ(coco_counts(Mask{0, 1, 0, 1, 1, 0}, 2, 3), "132");
  EXPECT_EQ(coco_counts(Mask{1}, 1, 1), "01");
  EXPECT_EQ(coco_counts(Mask(15), 3, 5), "?");   // 15, which fits beside the sign
  EXPECT_EQ(coco_counts(Mask(16), 4, 4), "`0");  // 16 does not: 16 + more, 0
  // 1, 1, 1, 9: from the fourth on less the one two before
  EXPECT_EQ(coco_counts(Mask{0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 12, 1), "1118");
}

TEST(CocoCounts, RandomMasksComeBack) {
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    const std::int64_t height = 1 + random() % 40, width = 1 + random() % 150;
    const auto often = 1 + random() % 30;  // short runs and long ones
    Mask mask(static_cast<std::size_t>(height * width));
    std::uint8_t now = 0;
    for (std::uint8_t& value : mask) value = now ^= random() % often == 0;
    ASSERT_EQ(decoded(coco_counts(mask, height, width), height, width), mask);
  }
}

TEST(Overlay, OnlyTheMaskAndTheLabelChange) {
  Image image = slopes(64, 64);
  const Image before = image;
  Mask mask(64 * 64);
  for (int y = 30; y < 60; ++y)
    for (int x = 10; x < 50; ++x) mask[y * 64 + x] = 1;
  const Colour red{255, 0, 0};
  paint(image, std::vector<Painted>{{mask, red, ""}});
  for (int y = 0; y < 64; ++y)
    for (int x = 0; x < 64; ++x) {
      const std::size_t at = (y * 64 + x) * 3;
      const bool edge = mask[y * 64 + x] != 0 && (y == 30 || y == 59 || x == 10 || x == 49);
      for (std::size_t c = 0; c < 3; ++c) {
        const int half = (before.rgb[at + c] + red[c] + 1) / 2;
        const int want = mask[y * 64 + x] == 0 ? before.rgb[at + c] : edge ? red[c] : half;
        ASSERT_EQ(image.rgb[at + c], want) << x << " " << y;
      }
    }
  Image labelled = before;
  paint(labelled, std::vector<Painted>{{mask, red, "97%"}});
  EXPECT_NE(labelled.rgb, image.rgb);
  Image other = before;
  paint(other, std::vector<Painted>{{mask, red, "41%"}});
  EXPECT_NE(labelled.rgb, other.rgb);
}

TEST(Overlay, LabelsStayInsideAnyPicture) {
  for (const auto& [width, height] : {std::pair{1, 1}, {3, 200}, {200, 3}, {1024, 8}}) {
    Image image = slopes(width, height);
    Mask corner(static_cast<std::size_t>(width * height));
    corner.back() = 1;
    paint(image, std::vector<Painted>{{corner, {0, 0, 255}, "100%"}});
  }
}

TEST(Overlay, AMaskOfAnotherSizeIsRefused) {
  Image image = slopes(4, 4);
  const Mask mask(15);
  EXPECT_THROW(paint(image, std::vector<Painted>{{mask, {}, ""}}), std::invalid_argument);
}

TEST(Overlay, ColoursAreFarApart) {
  std::set<Colour> seen;
  for (int i = 0; i < 64; ++i) {
    const Colour colour = distinct_colour(i), next = distinct_colour(i + 1);
    EXPECT_TRUE(seen.insert(colour).second) << i;
    int apart = 0;
    for (int c = 0; c < 3; ++c) apart += std::abs(colour[c] - next[c]);
    EXPECT_GT(apart, 200) << i;
  }
}

}  // namespace
}  // namespace qkv::picture
