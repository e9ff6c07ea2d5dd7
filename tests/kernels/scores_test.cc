// Kernels that make and mask scores, each against its scalar twin.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

class Scores : public EveryIsa {};
QKV_FOR_EVERY_ISA(Scores);

TEST_P(Scores, PackQueriesHasTheTwinsBits) {
  Random random(1);
  for (const int dim : kDims)
    for (int count = 1; count <= panel(); ++count) {
      const std::int64_t stride = dim + count % 3;
      const Floats rows(panel() * stride, random, -2, 2);
      Floats packed(std::int64_t{dim} * panel(), kNaN);
      kernel().pack_queries(rows.data(), stride, count, dim, 0.3f, packed.data());
      for (int first = 0; first < panel(); first += scalar::kPanel) {
        Floats twin(std::int64_t{dim} * scalar::kPanel, kNaN);
        scalar::pack_queries(rows.data() + first * stride, stride,
                             std::clamp(count - first, 0, scalar::kPanel), dim, 0.3f, twin.data());
        const Floats lanes = group(packed, panel(), first);
        for (std::int64_t i = 0; i < twin.size(); ++i)
          ASSERT_EQ(bits_of(lanes[i]), bits_of(twin[i]))
              << "dim " << dim << " count " << count << " at " << i;
      }
    }
}

// Both are chains of dim multiply-adds: |difference| ≤ 2·γ(dim + 1)·Σ|packed||key|.
TEST_P(Scores, QueryDotKeysIsItsTwin) {
  Random random(2);
  for (const int dim : kDims)
    for (const int count : kLengths) {
      if (dim * count > 8192) continue;
      const std::int64_t stride = dim + count % 4;
      const Floats packed(std::int64_t{dim} * panel(), random, -1, 1);
      const Floats keys(count * stride, random, -1, 1);
      Floats scores(std::int64_t{count} * panel(), kNaN);
      kernel().query_dot_keys(packed.data(), keys.data(), stride, count, dim, 0, scores.data(),
                              nullptr);
      for (int first = 0; first < panel(); first += scalar::kPanel) {
        const Floats lanes = group(packed, panel(), first);
        Floats twin(std::int64_t{count} * scalar::kPanel);
        scalar::query_dot_keys(lanes.data(), keys.data(), stride, count, dim, 0, twin.data(),
                               nullptr);
        for (int k = 0; k < count; ++k)
          for (int lane = 0; lane < scalar::kPanel; ++lane) {
            double size = 0;
            for (int d = 0; d < dim; ++d)
              size += std::fabs(lanes[d * scalar::kPanel + lane] * keys[k * stride + d]);
            ASSERT_NEAR(scores[std::int64_t{k} * panel() + first + lane],
                        twin[k * scalar::kPanel + lane], 2 * gamma(dim + 1) * size)
                << "dim " << dim << " keys " << count << " key " << k;
          }
      }
    }
}

// The largest score of each lane, beside the scores themselves: for every number of keys and every tile, a NaN left out, a lane
// of −inf or NaN alone has none.
TEST_P(Scores, QueryDotKeysFindsTheLargest) {
  Random random(12);
  for (const int dim : {1, 16, 33})
    for (const int count : kLengths)
      for (int first = 0; first < panel(); first += kernel().step) {
        Floats packed(std::int64_t{dim} * panel(), random, -1, 1);
        Floats keys(std::int64_t{count} * dim, random, -1, 1);
        for (int d = 0; d < dim; ++d) packed[d * panel() + panel() - 1] = kNaN;
        if (count > 2) keys[std::int64_t{2} * dim] = kNaN;
        Floats scores(std::int64_t{count} * panel(), 7);
        Floats plain = scores;
        Floats top(panel(), 7);
        kernel().query_dot_keys(packed.data(), keys.data(), dim, count, dim, first, scores.data(),
                                top.data());
        kernel().query_dot_keys(packed.data(), keys.data(), dim, count, dim, first, plain.data(),
                                nullptr);
        for (int lane = 0; lane < panel(); ++lane) {
          float largest = lane < first ? 7 : -kInfinity;
          for (int k = 0; k < count; ++k) {
            const float score = scores[std::int64_t{k} * panel() + lane];
            ASSERT_EQ(bits_of(score), bits_of(plain[std::int64_t{k} * panel() + lane]));
            if (lane >= first && score > largest) largest = score;
          }
          ASSERT_EQ(bits_of(top[lane]), bits_of(largest))
              << "dim " << dim << " keys " << count << " from " << first << " lane " << lane;
        }
      }
}

// A score is one chain whatever tile it falls into: the same bits for every number of keys in the call, and from every key
// the call may begin with.
TEST_P(Scores, QueryDotKeysBitsDoNotDependOnTheTile) {
  Random random(3);
  constexpr int kCount = 70;
  for (const int dim : {1, 17, 64, 100}) {
    const Floats packed(std::int64_t{dim} * panel(), random, -1, 1);
    const Floats keys(std::int64_t{kCount} * dim, random, -1, 1);
    Floats all(std::int64_t{kCount} * panel());
    kernel().query_dot_keys(packed.data(), keys.data(), dim, kCount, dim, 0, all.data(), nullptr);
    for (int count = 1; count <= kCount; ++count)
      for (const int first : {0, kCount - count}) {
        Floats some(std::int64_t{count} * panel(), kNaN);
        kernel().query_dot_keys(packed.data(), keys.data() + first * dim, dim, count, dim, 0,
                                some.data(), nullptr);
        ASSERT_EQ(std::memcmp(some.data(), all.data() + first * panel(),
                              sizeof(float) * static_cast<std::size_t>(some.size())),
                  0)
            << "dim " << dim << ", keys " << first << " to " << first + count;
      }
  }
}

// Nor on the lane, nor on the other lanes.
TEST_P(Scores, QueryDotKeysBitsDoNotDependOnTheLane) {
  Random random(4);
  constexpr int kDim = 65;
  constexpr int kCount = 37;
  const Floats row(kDim, random, -1, 1);
  const Floats keys(kCount * kDim, random, -1, 1);
  std::vector<float> expected;
  for (int lane = 0; lane < panel(); ++lane) {
    Floats packed(kDim * panel(), random, -1, 1);
    for (int d = 0; d < kDim; ++d) packed[d * panel() + lane] = row[d];
    Floats scores(std::int64_t{kCount} * panel());
    kernel().query_dot_keys(packed.data(), keys.data(), kDim, kCount, kDim, 0, scores.data(),
                            nullptr);
    for (int k = 0; k < kCount; ++k) {
      const float score = scores[k * panel() + lane];
      if (lane == 0) expected.push_back(score);
      ASSERT_EQ(bits_of(score), bits_of(expected[static_cast<std::size_t>(k)]))
          << "lane " << lane << " key " << k;
    }
  }
}

// cap·tanh(s/cap)·factor. Relative error: 1/cap and the product 2u, tanh 8u (docs/numerics.md), cap·factor and the last
// product 2u: 12u, against double here.
TEST_P(Scores, SoftcapIsTanh) {
  Random random(5);
  for (const float cap : {0.5f, 5.0f, 50.0f})
    for (const int count : kLengths) {
      Floats scores(std::int64_t{count} * panel(), random, -4 * cap, 4 * cap);
      scores[0] = 0;
      if (count > 1) scores[1] = random.uniform(-1e-3f, 1e-3f) * cap;
      const Floats before = scores;
      kernel().softcap(scores.data(), count, cap, 1.25f);
      for (std::int64_t i = 0; i < scores.size(); ++i) {
        const double exact = double{cap} * 1.25 * std::tanh(double{before[i]} / double{cap});
        ASSERT_NEAR(scores[i], exact, 12 * kUnit * std::fabs(exact))
            << "cap " << cap << " score " << before[i];
      }
    }
}

TEST_P(Scores, SoftcapAtTheEnds) {
  Floats scores(panel(), 0);
  const float ends[] = {0, kInfinity, -kInfinity, kNaN, 1e30f, -1e30f, 1e-40f, -0.0f};
  std::copy(std::begin(ends), std::end(ends), scores.data());
  kernel().softcap(scores.data(), 1, 30, 1);
  EXPECT_EQ(scores[0], 0);
  EXPECT_EQ(scores[1], 30);
  EXPECT_EQ(scores[2], -30);
  EXPECT_TRUE(std::isnan(scores[3]));
  EXPECT_EQ(scores[4], 30);
  EXPECT_EQ(scores[5], -30);
  EXPECT_NEAR(scores[6], 0, 1e-38);
  EXPECT_EQ(scores[7], 0);
}

// The twin rounds slope·distance and the sum, the kernel may round once: |difference| ≤ 3u·(|score| + slope·distance).
TEST_P(Scores, AddAlibiIsItsTwin) {
  Random random(6);
  for (const int count : kLengths) {
    std::vector<std::int32_t> position(static_cast<std::size_t>(panel()));
    for (auto& p : position) p = random.below(3000) - 1000;
    Floats scores(std::int64_t{count} * panel(), random, -5, 5);
    const Floats before = scores;
    constexpr std::int32_t kFirst = 777;
    constexpr float kSlope = 0.0625f * 1.1f;
    kernel().add_alibi(scores.data(), count, kFirst, position.data(), kSlope);
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      Floats twin = group(before, panel(), first);
      scalar::add_alibi(twin.data(), count, kFirst, position.data() + first, kSlope);
      const Floats lanes = group(scores, panel(), first);
      for (std::int64_t i = 0; i < twin.size(); ++i) {
        const auto key = static_cast<double>(kFirst + i / scalar::kPanel);
        const double distance =
            std::fabs(position[static_cast<std::size_t>(first + i % scalar::kPanel)] - key);
        ASSERT_NEAR(lanes[i], twin[i], 3 * kUnit * (5 + double{kSlope} * distance))
            << "keys " << count << " at " << i;
      }
    }
  }
}

TEST_P(Scores, MaskOutsideHasTheTwinsBits) {
  Random random(7);
  for (const int count : kLengths) {
    std::vector<std::int32_t> begin(static_cast<std::size_t>(panel()));
    std::vector<std::int32_t> end(begin.size());
    for (std::size_t i = 0; i < begin.size(); ++i) {
      begin[i] = 1000 + random.below(count + 10) - 5;
      end[i] = i % 5 == 0 ? begin[i] : 1000 + random.below(count + 10) - 5;
    }
    Floats scores(std::int64_t{count} * panel(), random, -5, 5);
    for (std::int64_t i = 0; i < scores.size(); i += 3) scores[i] = i % 2 == 0 ? kNaN : kInfinity;
    const Floats before = scores;
    kernel().mask_outside(scores.data(), count, 1000, begin.data(), end.data());
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      Floats twin = group(before, panel(), first);
      scalar::mask_outside(twin.data(), count, 1000, begin.data() + first, end.data() + first);
      const Floats lanes = group(scores, panel(), first);
      for (std::int64_t i = 0; i < twin.size(); ++i)
        ASSERT_EQ(bits_of(lanes[i]), bits_of(twin[i])) << "keys " << count << " at " << i;
    }
  }
}

TEST_P(Scores, AllFiniteFindsOneBadNumberAnywhere) {
  Random random(9);
  for (const int dim : {1, 7, 16, 17, 65})
    for (const int count : {1, 2, 15, 17}) {
      const std::int64_t stride = dim + 3;
      Floats rows(count * stride, random, -1, 1);
      for (int r = 0; r < count; ++r)  // what lies between the rows does not count
        for (std::int64_t d = dim; d < stride; ++d) rows[r * stride + d] = kNaN;
      rows[0] = std::numeric_limits<float>::max();
      EXPECT_TRUE(kernel().all_finite(rows.data(), stride, count, dim));
      for (int r = 0; r < count; ++r)
        for (int d = 0; d < dim; ++d)
          for (const float bad : {kNaN, kInfinity, -kInfinity}) {
            const float kept = std::exchange(rows[r * stride + d], bad);
            ASSERT_FALSE(kernel().all_finite(rows.data(), stride, count, dim))
                << bad << " at " << r << ", " << d;
            rows[r * stride + d] = kept;
          }
    }
}

// A staircase: lanes before the first one keep what they had, the others have the bits of the whole panel.
TEST_P(Scores, QueryDotKeysFromALaneOn) {
  constexpr int kDim = 40, kCount = 37;
  Random random(9);
  const Floats packed(kDim * panel(), random, -1, 1);
  const Floats keys(kCount * kDim, random, -1, 1);
  Floats all(kCount * panel());
  kernel().query_dot_keys(packed.data(), keys.data(), kDim, kCount, kDim, 0, all.data(), nullptr);
  for (int first = 0; first < panel(); first += kernel().step) {
    Floats some(kCount * panel(), 7);
    kernel().query_dot_keys(packed.data(), keys.data(), kDim, kCount, kDim, first, some.data(),
                            nullptr);
    for (int k = 0; k < kCount; ++k)
      for (int lane = 0; lane < panel(); ++lane)
        ASSERT_EQ(bits_of(some[k * panel() + lane]),
                  bits_of(lane < first ? 7 : all[k * panel() + lane]))
            << "first lane " << first << ", key " << k << ", lane " << lane;
  }
}

}  // namespace
}  // namespace qkv::kernels::testing
