// Which strided tensors share a byte: against counting the bytes one by one.
#include "attention/overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/attention/cases.h"
#include "tests/attention/tensors.h"

namespace qkv::tests {
namespace {

std::string text_of(const TensorView& t) {
  std::string text = std::to_string(reinterpret_cast<std::uintptr_t>(t.data) % 4096);
  for (std::size_t i = 0; i < 4; ++i)
    text += " " + std::to_string(t.shape[i]) + "·" + std::to_string(t.strides[i]);
  return text;
}

// How often each byte of memory[size] is part of an entry.
std::vector<int> bytes_of(const TensorView& t, const char* memory, std::size_t size) {
  std::vector<int> bytes(size);
  const auto* data = static_cast<const char*>(t.data);
  for (std::int64_t b = 0; b < t.shape[0]; ++b)
    for (std::int64_t h = 0; h < t.shape[1]; ++h)
      for (std::int64_t q = 0; q < t.shape[2]; ++q)
        for (std::int64_t d = 0; d < t.shape[3]; ++d) {
          const std::int64_t at =
              (data - memory) + size_of(t.dtype) * (b * t.strides[0] + h * t.strides[1] +
                                                    q * t.strides[2] + d * t.strides[3]);
          for (std::int64_t i = 0; i < size_of(t.dtype); ++i)
            ++bytes.at(static_cast<std::size_t>(at + i));
        }
  return bytes;
}

constexpr std::size_t kSize = 16384;
constexpr std::uintptr_t kSomewhere = std::uintptr_t{1} << 40;  // an address; nobody reads there

TensorView random_view(Random& random, const char* memory) {
  TensorView t;
  const DType types[] = {DType::f32, DType::f16, DType::i8};
  t.dtype = types[random.between(0, 2)];
  std::int64_t below = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    t.shape[i] = random.chance(0.02) ? 0 : random.between(1, 5);
    t.strides[i] = random.chance(0.3) ? random.between(-60, 60) : random.between(-3, 9) * 4;
    if (random.chance(0.1)) t.strides[i] = 0;
    below += std::min<std::int64_t>(0, t.strides[i] * (t.shape[i] - 1));
  }
  t.data = memory + (5000 - 4 * below + random.between(0, 900)) / 4 * 4;
  return t;
}

TEST(Overlap, EqualsCountingBytes) {
  const std::vector<char> memory(kSize);
  Random random(5);
  int shared = 0;
  int apart_within = 0;  // interleaved
  int self = 0;
  const int rounds = scaled(20000);
  for (int i = 0; i < rounds; ++i) {
    const TensorView a = random_view(random, memory.data());
    const TensorView b = random_view(random, memory.data());
    const std::vector<int> in_a = bytes_of(a, memory.data(), kSize);
    const std::vector<int> in_b = bytes_of(b, memory.data(), kSize);
    bool expected = false;
    for (std::size_t at = 0; at < kSize; ++at) expected |= in_a[at] > 0 && in_b[at] > 0;
    const Place place_a("a", a);
    const Place place_b("b", b);
    ASSERT_EQ(overlap(place_a, place_b), expected) << text_of(a) << " | " << text_of(b);
    ASSERT_EQ(overlap(place_b, place_a), expected) << text_of(b) << " | " << text_of(a);
    const bool twice = *std::max_element(in_a.begin(), in_a.end()) > 1;
    ASSERT_EQ(overlaps_itself(a), twice) << text_of(a);
    ASSERT_FALSE(reaches_far(a));
    shared += expected;
    self += twice;
    apart_within += !expected && place_a.low < place_b.high && place_b.low < place_a.high;
  }
  EXPECT_GT(shared, rounds / 10);
  EXPECT_GT(apart_within, rounds / 20);
  EXPECT_GT(self, rounds / 10);
  EXPECT_LT(self, rounds * 9 / 10);
}

// Layouts that models use, at their sizes: none needs a long search.
TEST(Overlap, InterleavedTensorsLieApart) {
  constexpr std::int64_t kTokens = 100000;
  constexpr std::int64_t kHeads = 32;
  constexpr std::int64_t kDim = 128;
  const auto* memory = reinterpret_cast<const float*>(kSomewhere);
  // [tokens, 4, heads, dim]
  const Shape4 shape = {1, kHeads, kTokens, kDim};
  const Shape4 strides = {0, kDim, 4 * kHeads * kDim, 1};
  std::vector<Place> places;
  for (std::int64_t i = 0; i < 4; ++i)
    places.emplace_back("", TensorView(memory + i * kHeads * kDim, shape, strides));
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j) EXPECT_EQ(overlap(places[i], places[j]), i == j);
  // one float too far to the left
  EXPECT_TRUE(
      overlap(places[0], Place("", TensorView(memory + kHeads * kDim - 1, shape, strides))));
  // [tokens, heads, 2, dim], one backwards
  const Shape4 pairs = {0, 2 * kDim, -2 * kHeads * kDim, 1};
  const Shape4 forwards = {0, 2 * kDim, 2 * kHeads * kDim, 1};
  const std::int64_t last = 2 * kHeads * kDim * (kTokens - 1);
  EXPECT_FALSE(overlap(Place("", TensorView(memory, shape, forwards)),
                       Place("", TensorView(memory + last + kDim, shape, pairs))));
  EXPECT_TRUE(overlap(Place("", TensorView(memory, shape, forwards)),
                      Place("", TensorView(memory + last + kDim - 1, shape, pairs))));
}

TEST(Overlap, NothingReachesOutOfMemory) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto far = [](const Shape4& shape, const Shape4& strides) {
    return reaches_far(TensorView(reinterpret_cast<const float*>(kSomewhere), shape, strides));
  };
  EXPECT_FALSE(far({1, 1, 3, 4}, {kMost, -kMost, 4, 1})) << "a dimension of 1 leads nowhere";
  EXPECT_FALSE(far({1, 0, 3, 4}, {kMost, -kMost, kMost, 1})) << "nothing is there";
  EXPECT_TRUE(far({1, 1, 2, 4}, {0, 0, kMost, 1}));
  EXPECT_TRUE(far({1, 1, 2, 4}, {0, 0, -kMost, 1}));
  EXPECT_TRUE(far({1, 3, 2, 4}, {0, kMost / 2, 4, 1}));
  EXPECT_TRUE(far({2, 2, 2, 4}, {kMost / 16, kMost / 16, kMost / 16, 1})) << "together";
  EXPECT_TRUE(far({1, 1, 2, 4}, {0, 0, -(std::int64_t{1} << 50), 1})) << "before address 0";
}

// No input makes the search run long: what it cannot tell within its budget, it takes for shared.
TEST(Overlap, MadeUpStridesTakeNoLongTime) {
  const auto* memory = reinterpret_cast<const char*>(kSomewhere);
  const Shape4 shape = {1000, 1000, 1000, 1};
  const Place a("", TensorView(memory, DType::i8, shape, {1000003, 1000033, 999983, 1}));
  const Place b("", TensorView(memory + 1, DType::i8, shape, {1000037, 1000039, 999979, 1}));
  overlap(a, b);
  overlaps_itself(TensorView(memory, DType::i8, shape, {1000003, 1000033, 999983, 1}));
}

}  // namespace
}  // namespace qkv::tests
