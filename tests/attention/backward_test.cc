// Gradients against the fp64 reference on random calls, and the reference against differences of the forward pass.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "tests/attention/gradients.h"

namespace qkv::tests {
namespace {

// Σ out·d_out + Σ lse·d_lse in fp64.
double loss_of(const BackwardCase& c) {
  const Reference<double> r = c.call.reference();
  double loss = 0;
  std::size_t i = 0;
  c.d_out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
    loss += r.out[i++] * double{c.d_out.at(b, h, q, d)};
  });
  for (std::size_t row = 0; row < c.d_lse.size(); ++row)
    if (r.lse[row] != -double{kInfinity}) loss += r.lse[row] * double{c.d_lse[row]};
  return loss;
}

// (loss(x + h) − loss(x − h)) / 2h, off by h²/6 times the third derivative.
double slope_at(const BackwardCase& c, float& x) {
  const float at = x;
  x = at + 0x1p-9f;
  const double above = x;
  const double loss_above = loss_of(c);
  x = at - 0x1p-9f;
  const double below = x;
  const double loss_below = loss_of(c);
  x = at;
  return (loss_above - loss_below) / (above - below);
}

void expect_reference_is_the_slope(BackwardCase& c) {
  const Reference<double> r = c.call.reference();
  const ReferenceGradients<double> g = c.reference(r);
  const auto expect = [&](const char* name, Tensor<float>& t, const std::vector<double>& gradient) {
    std::size_t i = 0;
    t.each([&](std::int64_t b, std::int64_t h, std::int64_t n, std::int64_t d) {
      EXPECT_NEAR(gradient[i], slope_at(c, t.at(b, h, n, d)), 2e-5 * (1 + std::fabs(gradient[i])))
          << name << " at " << text_of({b, h, n, d});
      ++i;
    });
  };
  expect("d_query", c.call.query, g.d_query);
  expect("d_key", c.call.key, g.d_key);
  expect("d_value", c.call.value, g.d_value);
  if (c.call.bias.data() != nullptr) expect("d_bias", c.call.bias, g.d_scores);  // full shape only
  for (std::size_t h = 0; h < c.call.sinks.size(); ++h)
    EXPECT_NEAR(g.d_sinks[h], slope_at(c, c.call.sinks[h]), 2e-5) << "d_sinks at " << h;
}

TEST(BackwardReference, IsTheSlopeOfTheForwardPass) {
  struct Options {
    const char* name;
    std::function<void(BackwardCase&)> set;
  };
  const Options all[] = {
      {"plain", [](BackwardCase&) {}},
      {"causal", [](BackwardCase& c) { c.call.plain.causal = Causal::bottom_right; }},
      {"top left", [](BackwardCase& c) { c.call.plain.causal = Causal::top_left; }},
      {"window, scale",
       [](BackwardCase& c) {
         c.call.plain.window = {2, 1};
         c.call.plain.scale = -0.7f;
       }},
      {"softcap, sinks",
       [](BackwardCase& c) {
         c.call.plain.softcap = 1.5f;
         c.call.sinks = {0.3f, -1, 2, -0.5f};
       }},
      {"bias, alibi, lse",
       [](BackwardCase& c) {
         Random random(9);
         c.call.bias = Tensor<float>({2, 4, 5, 6}, {});
         c.call.bias.fill([&] { return random.normal(); });
         c.call.slopes = {0.1f, 0.2f, 0.3f, 0.4f};
         c.call.plain.softcap = 3;
         for (std::size_t i = 0; i < c.forward.lse.size(); ++i) c.d_lse.push_back(random.normal());
       }},
      {"mask, key_lengths",
       [](BackwardCase& c) {
         Random random(10);
         c.call.mask = Tensor<bool>({2, 1, 5, 6}, {});
         c.call.mask.fill([&] { return random.chance(0.5); });
         c.call.key_lengths = {4, 6};
         c.call.sinks = {0.3f, -1, 2, -0.5f};
       }},
  };
  for (const Options& options : all) {
    SCOPED_TRACE(options.name);
    BackwardCase c(Case({2, 2, 2, 5, 6, 3, 4}, 3), 4);
    options.set(c);
    expect_reference_is_the_slope(c);
  }
}

void run_one(std::uint64_t seed, bool large) {
  const BackwardCase c = BackwardCase::random(seed, large);
  SCOPED_TRACE("QKV_SEED=" + std::string(large ? "large:" : "") + std::to_string(seed) +
               " repeats this: " + c.call.describe());
  expect_gradients_match(c, c.run());
}

void run_many(bool large, std::uint64_t first, int count) {
  if (const char* asked = std::getenv("QKV_SEED")) {
    const std::string seed = asked;
    if ((seed.rfind("large:", 0) == 0) != large) GTEST_SKIP() << "QKV_SEED asks for another case";
    return run_one(std::stoull(large ? seed.substr(6) : seed), large);
  }
  for (int i = 0; i < scaled(count) && !testing::Test::HasFailure(); ++i)
    run_one(first + static_cast<std::uint64_t>(i), large);
}

TEST(Backward, RandomCallsStayWithinTheirBounds) { run_many(false, 1, 1500); }

TEST(Backward, LargerCallsStayWithinTheirBounds) { run_many(true, 1, 8); }

TEST(BackwardSlow, ManyMoreRandomCalls) { run_many(false, 1'000'000, 10'000); }

// What docs/numerics.md says was measured.
TEST(BackwardSlow, TableOfErrors) {
  struct Line {
    Sizes sizes;
    const char* name;
    std::function<void(Case&)> set;
    DType type = DType::f32;
  };
  const Line lines[] = {
      {{1, 1, 1, 512, 512, 64, 64}, "", [](Case&) {}},
      {{1, 1, 1, 512, 512, 64, 64},
       "causal",
       [](Case& c) { c.plain.causal = Causal::bottom_right; }},
      {{1, 1, 4, 512, 512, 64, 64}, "4 heads to a key head", [](Case&) {}},
      {{1, 1, 1, 1500, 1500, 128, 128}, "", [](Case&) {}},
      {{1, 1, 1, 512, 512, 64, 64}, "scale 1", [](Case& c) { c.plain.scale = 1; }},
      {{1, 1, 1, 512, 512, 64, 64}, "softcap 5", [](Case& c) { c.plain.softcap = 5; }},
      {{1, 1, 1, 512, 512, 64, 64}, "bfloat16", [](Case&) {}, DType::bf16},
      {{1, 1, 4, 512, 512, 64, 64}, "bfloat16, 4 heads to a key head", [](Case&) {}, DType::bf16},
      {{1, 1, 1, 1500, 1500, 128, 128}, "bfloat16", [](Case&) {}, DType::bf16},
  };
  for (const Line& line : lines) {
    Case call(line.sizes, 7);
    line.set(call);
    BackwardCase c(std::move(call), 8);
    c.store_as(line.type);
    GradientErrors e;
    expect_gradients_match(c, c.run(), &e);
    std::printf("| %d | %d | %s |", static_cast<int>(c.call.sizes.dim),
                static_cast<int>(c.call.sizes.keys), line.name);
    for (int i = 0; i < 3; ++i) std::printf(" %.1e (%.1f%%) |", e.error[i], 100 * e.used[i]);
    std::printf("\n");
  }
}

}  // namespace
}  // namespace qkv::tests
