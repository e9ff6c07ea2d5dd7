// The trace, field by field: by hand where the answer is known, and against the fp64 reference at awkward block sizes.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "attention/decode.h"
#include "attention/panel.h"
#include "attention/traced_rows.h"
#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

// One query and keys whose scores are the given numbers.
Case with_scores(const std::vector<float>& scores) {
  Case c({1, 1, 1, 1, static_cast<std::int64_t>(scores.size()), 1, 1}, 1);
  c.query.fill([] { return 1.0f; });
  std::size_t next = 0;
  c.key.fill([&] { return scores[next++]; });
  c.plain.scale = 1;
  return c;
}

TEST(Trace, KnownNumbers) {
  Case c = with_scores({0, std::log(2.0f), std::log(5.0f)});  // weights 1/8, 2/8, 5/8
  c.plain.trace = {2, true, 2};
  const Trace t = c.run().trace;
  EXPECT_NEAR(t.lse[0], std::log(8.0), 1e-6);
  EXPECT_NEAR(t.max[0], std::log(5.0), 1e-6);
  EXPECT_NEAR(t.entropy[0], std::log(8.0) / 8 + std::log(4.0) / 4 + std::log(1.6) * 5 / 8, 1e-6);
  EXPECT_EQ(t.top_keys, (std::vector<std::int32_t>{2, 1}));
  EXPECT_NEAR(t.top_weights[0], 0.625, 1e-6);
  EXPECT_NEAR(t.top_weights[1], 0.25, 1e-6);
  EXPECT_NEAR(t.remainder[0], 0.125, 1e-6);
  EXPECT_NEAR(t.received[0], 0.125, 1e-6);
  EXPECT_EQ(t.visible, (std::vector<std::int32_t>{1, 1, 1}));
  ASSERT_EQ(t.block_mass.size(), 2u);
  EXPECT_NEAR(t.block_mass[0], 0.375, 1e-6);
  EXPECT_NEAR(t.block_mass[1], 0.625, 1e-6);
  EXPECT_NEAR(t.block_max[0], 0.25, 1e-6);
}

TEST(Trace, SinkCountsInEntropyAndRemainderButNotInMaxOrTop) {
  Case c = with_scores({0, std::log(2.0f)});
  c.sinks = {std::log(5.0f)};  // weights 1/8, 2/8, the sink's share 5/8
  c.plain.trace = {8, true, 0};
  const Trace t = c.run().trace;
  EXPECT_NEAR(t.lse[0], std::log(8.0), 1e-6);
  EXPECT_NEAR(t.max[0], std::log(2.0), 1e-6);
  EXPECT_NEAR(t.entropy[0], std::log(8.0) / 8 + std::log(4.0) / 4 + std::log(1.6) * 5 / 8, 1e-6);
  EXPECT_EQ(t.top_keys, (std::vector<std::int32_t>{1, 0, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(t.top_weights[2], 0);
  EXPECT_NEAR(t.remainder[0], 0.625, 1e-6);
}

TEST(Trace, OneKeyHasNoEntropyAndEqualKeysTheMost) {
  EXPECT_NEAR(with_scores({3.7f}).run().trace.entropy[0], 0, 1e-6);
  for (const std::size_t keys : {2u, 300u, 3000u}) {
    const Trace t = with_scores(std::vector<float>(keys, -1.3f)).run().trace;
    EXPECT_NEAR(t.entropy[0], std::log(static_cast<double>(keys)), 4e-6) << keys;
    EXPECT_NEAR(std::exp(t.entropy[0]), static_cast<double>(keys), 5e-6 * static_cast<double>(keys))
        << "effective keys";
  }
}

// Equal weights: the lower index first, also across chunks of keys. (With the largest score up front all weights are relative to
// it; where the maximum grows, equal scores in front of and behind that may differ in their weights' last bits.)
TEST(Trace, TiesGoToTheLowerIndex) {
  std::vector<float> scores(600, 0);
  for (const std::size_t k : {599u, 3u, 300u, 255u, 256u}) scores[k] = 2;
  scores[2] = 3;
  Case c = with_scores(scores);
  c.plain.trace.top = 9;
  EXPECT_EQ(c.run().trace.top_keys, (std::vector<std::int32_t>{2, 3, 255, 256, 300, 599, 0, 1, 4}));
  c.plain.trace.top = 3;
  EXPECT_EQ(c.run().trace.top_keys, (std::vector<std::int32_t>{2, 3, 255}));
  c.plain.trace.top = 1;
  EXPECT_EQ(c.run().trace.top_keys, (std::vector<std::int32_t>{2}));
}

// Keys that weigh 0 because they are far below the largest are seen all the same.
TEST(Trace, VisibleKeysOfWeightZeroAreListed) {
  Case c = with_scores({0, 2000, -2000});
  c.plain.trace = {4, true, 0};
  const Trace t = c.run().trace;
  EXPECT_EQ(t.top_keys, (std::vector<std::int32_t>{1, 0, 2, -1}));
  EXPECT_EQ(t.top_weights, (std::vector<float>{1, 0, 0, 0}));
  EXPECT_EQ(t.visible, (std::vector<std::int32_t>{1, 1, 1}));
  EXPECT_EQ(t.entropy[0], 0);
  EXPECT_EQ(t.remainder[0], 0);
}

TEST(Trace, OnlyWhatWasAskedFor) {
  Case c({2, 1, 2, 9, 20, 4, 4}, 1);
  const Trace plain = c.run().trace;
  EXPECT_EQ(plain.lse.size(), 36u);
  EXPECT_TRUE(plain.top_keys.empty() && plain.top_weights.empty() && plain.received.empty() &&
              plain.visible.empty() && plain.block_mass.empty() && plain.block_max.empty());
  EXPECT_EQ(plain.remainder, std::vector<float>(36, 1)) << "nothing is listed";
  Trace reused = plain;  // what it held before is gone
  c.plain.trace = {2, true, 8};
  Result r = c.run();
  attention(c.query.view(), c.key.view(), c.value.view(), c.options(),
            {r.out.mutable_view(), {}, &reused});
  r.trace = reused;
  EXPECT_EQ(difference(r, c.run()), "");
}

struct Setting {
  const char* name;
  Sizes sizes;
  Causal causal = Causal::no;
  Window window = {};
  bool sinks = false;
  bool lengths = false;
};

const Setting kSettings[] = {
    {"plain", {1, 1, 1, 77, 131, 16, 16}},
    {"grouped heads", {2, 2, 3, 50, 90, 8, 24}},
    {"causal, keys of several chunks", {1, 1, 1, 300, 530, 16, 8}, Causal::bottom_right},
    {"more queries than keys",
     {1, 1, 2, 270, 90, 16, 16},
     Causal::bottom_right},  // rows that see nothing
    {"top-left", {1, 1, 2, 130, 100, 8, 8}, Causal::top_left},
    {"window", {1, 1, 1, 260, 300, 8, 8}, Causal::no, {20, 3}},
    {"causal window and sinks", {1, 2, 1, 140, 140, 16, 16}, Causal::bottom_right, {33, -1}, true},
    {"sinks, nothing visible for some",
     {2, 1, 2, 60, 40, 16, 16},
     Causal::bottom_right,
     {},
     true,
     true},
};

TEST(Trace, EveryFieldAgainstTheReferenceAtEveryBlockSize) {
  for (const Setting& s : kSettings) {
    Case c(s.sizes, 17);
    c.plain.causal = s.causal;
    c.plain.window = s.window;
    for (std::int64_t h = 0; s.sinks && h < s.sizes.heads(); ++h)
      c.sinks.push_back(static_cast<float>(h) - 1);
    if (s.lengths) c.key_lengths = {31, 0};
    const Exact exact(c);
    for (const int block : {1, 7, 64, 100, 128, 200, 5000}) {
      SCOPED_TRACE(std::string(s.name) + ", block " + std::to_string(block));
      c.plain.trace = {block % 10, block != 64, block};
      expect_trace_matches(c, exact, c.run(true, block == 7 ? 3 : 1));
    }
  }
}

// The map is the matrix added up: all blocks together hold what all queries gave.
TEST(Trace, MassIsConserved) {
  Case c({1, 1, 2, 333, 290, 16, 16}, 23);
  c.plain.causal = Causal::top_left;
  c.plain.trace = {0, true, 48};
  const Trace t = c.run().trace;
  for (std::size_t h = 0; h < 2; ++h) {
    double received = 0;
    for (std::size_t k = 0; k < 290; ++k) received += double{t.received[h * 290 + k]};
    double mass = 0;
    const std::size_t blocks = t.block_mass.size() / 2;
    for (std::size_t i = 0; i < blocks; ++i) mass += double{t.block_mass[h * blocks + i]};
    EXPECT_NEAR(received, 333, 333 * 1e-6);
    EXPECT_NEAR(mass, 333, 333 * 1e-6);
  }
}

// Few queries take decode's way, and have the bits of the panels' way, also where a group's rows are worked on in several units.
TEST(Trace, FewQueriesHaveTheBitsOfPanels) {
  for (const std::int64_t queries : {1, 2, 10})
    for (const std::int64_t keys : {1, 130, 2100})
      for (const int block : {0, 64, 100})
        for (const Window window : {Window{}, Window{20, 5}}) {
          Case c({2, 2, 7, queries, keys, 8, 5}, static_cast<std::uint64_t>(keys + queries));
          c.plain.causal = Causal::bottom_right;
          c.plain.window = window;
          c.plain.trace = {5, block != 64, block};
          SCOPED_TRACE(c.describe());
          const Problem p = c.problem();
          ASSERT_TRUE(is_decode(p));
          const kernels::Kernels& kernel = narrowest_panel(kernels::kernels(), p.queries);
          Result panels = c.run();
          attention_traced(p, c.options(), {panels.out.mutable_view(), panels.lse, &panels.trace},
                           {&kernel, kernel.panel, false});
          panels.out.read_back();
          for (const int threads : {1, 3})
            EXPECT_EQ(difference(panels, c.run(true, threads)), "") << threads << " threads";
        }
}

}  // namespace
}  // namespace qkv::tests
