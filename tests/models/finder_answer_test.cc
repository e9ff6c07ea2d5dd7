// What a user gets of a finder's output: thresholds, one answer for one object, masks in the picture's own pixels.
#include "models/finder/answer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "tests/models/files.h"

namespace qkv::models::finder {
namespace {

// Three queries on masks of 4×4 for 16×16 pixels: the left half, the left half again but for a pixel, the lower right
// corner.
class FinderAnswer : public ::testing::Test {
 protected:
  FinderAnswer() {
    config_.image = 16;
    config_.patch = 8;
    config_.queries = 3;
    output_.presence = 2;
    output_.chosen = {0, 0, 0};
    output_.score = {1, 2, 0.5f};
    output_.boxes.assign(3, {0.5f, 0.5f, 1, 1});
    output_.masks.assign(48, -1.0f);
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 2; ++x) output_.masks[y * 4 + x] = output_.masks[16 + y * 4 + x] = 1;
    output_.masks[16] = -1;
    output_.masks[32 + 15] = 1;
  }
  Answer ask(const Frame& frame = {16, 16}) const { return answer(output_, config_, frame); }
  static int area(const Object& object) {
    return std::accumulate(object.mask.begin(), object.mask.end(), 0);
  }
  Config config_;
  Output output_;
};

TEST_F(FinderAnswer, EachObjectOnceBestFirst) {
  const Answer found = ask();
  EXPECT_FLOAT_EQ(found.presence, 1 / (1 + std::exp(-2.0f)));
  EXPECT_TRUE(found.present);
  ASSERT_EQ(found.objects.size(), 2u);
  EXPECT_EQ(found.objects[0].query, 1);  // query 0 says the same with less conviction
  EXPECT_EQ(found.objects[1].query, 2);
  EXPECT_FLOAT_EQ(found.objects[1].score, 1 / (1 + std::exp(-0.5f)));
}

TEST_F(FinderAnswer, NothingBelowAThreshold) {
  output_.score = {-0.9f, -2, -0.8f};  // probabilities 0.29, 0.12, 0.31
  EXPECT_EQ(ask().objects.size(), 1u);
  output_.presence = -0.1f;
  EXPECT_TRUE(ask().objects.empty());
  EXPECT_LT(ask().presence, 0.5f);
  EXPECT_FALSE(ask().present);
}

TEST_F(FinderAnswer, PresentIsWhatTheCallersThresholdSays) {
  output_.presence = 0;  // probability 0.5, the threshold unless told
  EXPECT_TRUE(ask().present);
  EXPECT_FALSE(answer(output_, config_, {16, 16}, {.presence = 0.51f}).present);
  output_.score = {-9, -9, -9};  // present, though no object stands out
  EXPECT_TRUE(ask().present);
  EXPECT_TRUE(ask().objects.empty());
}

TEST_F(FinderAnswer, AnEmptyMaskIsNoObject) {
  std::fill(output_.masks.begin() + 32, output_.masks.end(), -1.0f);
  EXPECT_EQ(ask().objects.size(), 1u);
}

// Of 32 places: along x 16 ± (0.25·1.15·32 + 1), which is 5.8 to 26.2, along y 16 ± (0.125·1.15·32 + 1), 10.4 to 21.6.
TEST_F(FinderAnswer, AMaskEndsALittleOutsideItsBox) {
  config_.image = 128;
  config_.patch = 8;
  output_.masks.assign(3 * 32 * 32, 1.0f);
  output_.boxes[1] = {0.5f, 0.5f, 0.5f, 0.25f};
  output_.score = {-9, 1, -9};
  const Answer found = ask({32, 32, 4, 0, 0});  // a pixel for each place
  ASSERT_EQ(found.objects.size(), 1u);
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 32; ++x)
      ASSERT_EQ(found.objects[0].mask[y * 32 + x], x >= 6 && x < 26 && y >= 10 && y < 22)
          << x << ' ' << y;
}

TEST_F(FinderAnswer, MasksAreInThePicturesOwnPixels) {
  // logits go from 1 to −1 between the middles of two map pixels, at 6 and 10 of 16: the edge is at 8
  output_.score = {1, -1, -1};
  const Answer square = ask();
  ASSERT_EQ(square.objects.size(), 1u);
  for (int y = 0; y < 16; ++y)
    for (int x = 0; x < 16; ++x) ASSERT_EQ(square.objects[0].mask[y * 16 + x], x < 8) << x;
  const Answer large = ask(Frame::fit(64, 32, 16));  // lies in rows 4 to 12
  ASSERT_EQ(large.objects[0].mask.size(), 64u * 32u);
  EXPECT_EQ(area(large.objects[0]), 32 * 32);
  EXPECT_TRUE(ask(Frame::fit(1, 1, 16)).objects.empty());  // its one pixel's middle is on the edge
}

TEST_F(FinderAnswer, FramesKeepProportionsAndRefuseNothing) {
  const Frame wide = Frame::fit(400, 100, 256);
  EXPECT_FLOAT_EQ(wide.scale, 0.64f);
  EXPECT_FLOAT_EQ(wide.left, 0);
  EXPECT_FLOAT_EQ(wide.top, 96);
  using models::testing::message_of;
  EXPECT_EQ(message_of<std::invalid_argument>([] { Frame::fit(0, 5, 256); }),
            "Frame: expected a picture with pixels, got 0×5");
  EXPECT_EQ(message_of<std::invalid_argument>([this] { ask({}); }),
            "answer: expected a frame with pixels, got 0×0");
}

}  // namespace
}  // namespace qkv::models::finder
