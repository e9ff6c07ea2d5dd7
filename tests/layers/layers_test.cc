// Layers against the formulas written out, and the promise that a row's bits depend on the row alone.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "layers/activation.h"
#include "layers/embedding.h"
#include "layers/feed_forward.h"
#include "layers/linear.h"
#include "layers/multi_head_attention.h"
#include "layers/norm.h"
#include "tests/kernels/random.h"

namespace qkv::layers {
namespace {

using tests::Random;

Buffer values(Random& random, std::int64_t count, float size = 1) {
  Buffer all(static_cast<std::size_t>(count));
  for (float& v : all) v = random.uniform(-size, size);
  return all;
}

// With 8 bits of mantissa, as a checkpoint in fp16 has.
Buffer half_values(Random& random, std::int64_t count) {
  Buffer all = values(random, count);
  for (float& v : all) v = std::round(v * 256) / 256;
  return all;
}

bool same_bits(const float* a, const float* b, std::int64_t count) {
  return std::memcmp(a, b, sizeof(float) * static_cast<std::size_t>(count)) == 0;
}

TEST(Linear, IsTheFormulaForPartsOfAnySize) {
  Random random(1);
  for (const bool halves : {false, true})
    for (const std::int64_t in : {1, 17, 64})
      for (const std::int64_t rows : {1, 3, 30}) {
        const std::int64_t outs[] = {5, 1, 40, 33};
        std::vector<Buffer> weights, biases;
        std::vector<LinearPart> parts;
        for (const std::int64_t out : outs) {
          weights.push_back(halves ? half_values(random, out * in) : values(random, out * in));
          biases.push_back(values(random, out));
          parts.push_back({weights.back().data(), out == 1 ? nullptr : biases.back().data(), out});
        }
        const Linear layer(in, parts);
        ASSERT_EQ(layer.out(), 79);
        const Buffer x = values(random, rows * in);
        Buffer y(static_cast<std::size_t>(rows * 79));
        layer.forward(x.data(), in, rows, y.data(), 79, 1);
        for (std::int64_t r = 0; r < rows; ++r) {
          std::int64_t place = 0;
          for (const LinearPart& part : parts)
            for (std::int64_t o = 0; o < part.out; ++o, ++place) {
              double sum = part.bias != nullptr ? part.bias[o] : 0;
              for (std::int64_t i = 0; i < in; ++i)
                sum += static_cast<double>(x[r * in + i]) * part.weight[o * in + i];
              ASSERT_NEAR(y[r * 79 + place], sum, 1e-5);
            }
        }
      }
}

TEST(Linear, BitsDependOnTheRowAlone) {
  Random random(2);
  constexpr std::int64_t kIn = 200, kOut = 500,
                         kRows = 400;  // 40 million multiply-adds: threads are used
  for (const bool halves : {false, true}) {
    const Buffer weight = halves ? half_values(random, kIn * kOut) : values(random, kIn * kOut);
    const Linear layer(kIn, {weight.data(), nullptr, kOut});
    const Buffer x = values(random, kIn * kRows);
    Buffer all(kOut * kRows), some(kOut * kRows);
    layer.forward(x.data(), kIn, kRows, all.data(), kOut, 1);
    for (const std::int64_t rows : {1, 2, 4, 23, 24, 100, 350})
      for (const int threads : {1, 2, 3}) {
        layer.forward(x.data() + 7 * kIn, kIn, rows, some.data(), kOut, threads);
        ASSERT_TRUE(same_bits(some.data(), all.data() + 7 * kOut, rows * kOut))
            << rows << " rows, " << threads;
      }
  }
}

TEST(Embedding, ScalesAndAddsSinesThenCosines) {
  const Buffer positions = sinusoidal_positions(4, 5);
  EXPECT_EQ(positions[0], 0);  // sines of position 0, three of them
  EXPECT_EQ(positions[2], 0);
  EXPECT_EQ(positions[3], 1);  // cosines
  EXPECT_FLOAT_EQ(positions[3 * 5 + 1],
                  static_cast<float>(std::sin(3 / std::pow(10000.0, 2.0 / 5))));
  EXPECT_FLOAT_EQ(positions[3 * 5 + 4],
                  static_cast<float>(std::cos(3 / std::pow(10000.0, 2.0 / 5))));
  const Embedding embedding({1, 2, 3, 4, 5, 6}, sinusoidal_positions(2, 3), 3, 10);
  float out[3];
  embedding.forward(1, 0, out);
  EXPECT_EQ(out[0], 40);
  EXPECT_EQ(out[2], 61);
}

TEST(Activation, NamesAndValues) {
  EXPECT_FALSE(activation_of("softplus"));
  const auto at = [](const char* name, float x) {
    activate(*activation_of(name), &x, 1);
    return x;
  };
  EXPECT_EQ(at("relu", -2), 0);
  EXPECT_EQ(at("relu", 2), 2);
  EXPECT_NEAR(at("gelu", 1), 0.8413447, 1e-6);
  EXPECT_NEAR(at("gelu_new", 1), 0.8411920, 1e-6);
  EXPECT_NEAR(at("swish", 1), 0.7310586, 1e-6);
  EXPECT_NEAR(at("silu", -3), -0.1422776, 1e-6);
  EXPECT_NEAR(at("tanh", 0.5f), 0.4621172, 1e-6);
}

// What an attention layer needs, with widths of its own for keys and values.
struct Case {
  std::int64_t width, memory_width, out;
  AttentionShape shape;
  Buffer q, k, v, o, bq, bk, bv, bo;

  Case(Random& random, std::int64_t d, std::int64_t memory, const AttentionShape& s,
       std::int64_t d_out)
      : width(d), memory_width(memory), out(d_out), shape(s) {
    q = values(random, s.width_k() * d, 0.3f), k = values(random, s.width_k() * memory, 0.3f);
    v = values(random, s.width_v() * memory, 0.3f), o = values(random, d_out * s.width_v(), 0.3f);
    bq = values(random, s.width_k()), bk = values(random, s.width_k());
    bv = values(random, s.width_v()), bo = values(random, d_out);
  }
  LinearPart query() const { return {q.data(), bq.data(), shape.width_k()}; }
  LinearPart key() const { return {k.data(), bk.data(), shape.width_k()}; }
  LinearPart value() const { return {v.data(), bv.data(), shape.width_v()}; }
  LinearPart last() const { return {o.data(), bo.data(), out}; }

  static double dot(const Buffer& w, const Buffer& b, const float* x, std::int64_t row,
                    std::int64_t in) {
    double sum = b[row];
    for (std::int64_t i = 0; i < in; ++i) sum += static_cast<double>(w[row * in + i]) * x[i];
    return sum;
  }

  // One output row by the formula: x asks the rows [0, keys) of memory.
  std::vector<double> row(const float* x, const float* memory, std::int64_t keys) const {
    std::vector<double> context;
    for (int h = 0; h < shape.heads; ++h) {
      std::vector<double> weights;
      double total = 0;
      for (std::int64_t t = 0; t < keys; ++t) {
        double score = 0;
        for (std::int64_t d = 0; d < shape.dim_k; ++d)
          score += dot(q, bq, x, h * shape.dim_k + d, width) *
                   dot(k, bk, memory + t * memory_width, h * shape.dim_k + d, memory_width);
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(shape.dim_k))));
        total += weights.back();
      }
      for (std::int64_t d = 0; d < shape.dim_v; ++d) {
        double sum = 0;
        for (std::int64_t t = 0; t < keys; ++t)
          sum += weights[static_cast<std::size_t>(t)] / total *
                 dot(v, bv, memory + t * memory_width, h * shape.dim_v + d, memory_width);
        context.push_back(sum);
      }
    }
    std::vector<double> result;
    for (std::int64_t i = 0; i < out; ++i) {
      double sum = bo[i];
      for (std::size_t j = 0; j < context.size(); ++j)
        sum += o[i * shape.width_v() + static_cast<std::int64_t>(j)] * context[j];
      result.push_back(sum);
    }
    return result;
  }
};

TEST(SelfAttention, IsTheFormulaAlsoWhereValuesAreWider) {
  Random random(3);
  for (const AttentionShape shape :
       {AttentionShape{1, 64, 512, 0}, AttentionShape{2, 8, 8, 0}, AttentionShape{3, 5, 11, 0}}) {
    const std::int64_t width = shape.dim_k == 64 ? 512 : 24;  // W_K [512, 64], W_V [512, 512]
    const Case c(random, width, width, shape, width);
    const SelfAttention layer(shape, width, c.query(), c.key(), c.value(), c.last());
    const Buffer x = values(random, 2 * 5 * width);
    const std::int32_t lengths[] = {5, 3};
    Buffer y(x.size());
    AttentionScratch scratch;
    layer.forward(x.data(), {2, 5, lengths}, Causal::no, y.data(), scratch, 1);
    for (std::int64_t s = 0; s < 2; ++s)
      for (std::int64_t t = 0; t < lengths[s]; ++t) {
        const auto expected =
            c.row(x.data() + (s * 5 + t) * width, x.data() + s * 5 * width, lengths[s]);
        for (std::int64_t d = 0; d < width; ++d)
          ASSERT_NEAR(y[(s * 5 + t) * width + d], expected[static_cast<std::size_t>(d)], 2e-4);
      }
  }
}

TEST(SelfAttention, StepsGiveTheBitsOfTheWholeAndCopiesGoOnAlike) {
  Random random(4);
  const AttentionShape shape{4, 8, 16, 0};
  const Case c(random, 32, 32, shape, 32);
  const SelfAttention layer(shape, 32, c.query(), c.key(), c.value(), c.last());
  constexpr std::int64_t kTokens = 70;
  const Buffer x = values(random, kTokens * 32);
  Buffer whole(x.size());
  AttentionScratch scratch;
  layer.forward(x.data(), {1, kTokens, {}}, Causal::bottom_right, whole.data(), scratch, 1);
  KeyValueCache cache(shape);
  std::int64_t rows = 1;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    Buffer token, y(static_cast<std::size_t>(rows * 32));
    for (std::int64_t r = 0; r < rows; ++r)
      token.insert(token.end(), x.begin() + t * 32, x.begin() + (t + 1) * 32);
    layer.step(token.data(), rows, cache, y.data(), scratch, 1);
    for (std::int64_t r = 0; r < rows; ++r)
      ASSERT_TRUE(same_bits(y.data() + r * 32, whole.data() + t * 32, 32));
    if (t == 20)
      for (; rows < 3; ++rows) cache.copy_row(0, rows);
  }
}

TEST(CrossAttention, IsTheFormulaAndItsProbeTheWeights) {
  Random random(5);
  const AttentionShape shape{2, 6, 9, 0};
  const Case c(random, 20, 14, shape, 20);
  const CrossAttention layer(shape, 20, 14, c.query(), c.key(), c.value(), c.last());
  const Buffer x = values(random, 2 * 3 * 20), memory = values(random, 2 * 7 * 14);
  const std::int32_t lengths[] = {4, 7};
  const Sentences sentences{2, 7, lengths};
  Buffer remembered(static_cast<std::size_t>(2 * 7 * layer.remembered_width())), y(x.size());
  layer.remember(memory.data(), 2 * 7, remembered.data(), 1);
  AttentionScratch scratch;
  std::vector<Buffer> weights;
  for (const int head : {0, 1, -1}) {
    Buffer& probed = weights.emplace_back(static_cast<std::size_t>(2 * 3 * 7));
    layer.forward(x.data(), 3, remembered.data(), sentences, y.data(), scratch, 1, {},
                  {head, probed.data()});
  }
  for (std::int64_t s = 0; s < 2; ++s)
    for (std::int64_t q = 0; q < 3; ++q) {
      const std::int64_t row = s * 3 + q;
      const auto expected = c.row(x.data() + row * 20, memory.data() + s * 7 * 14, lengths[s]);
      for (std::int64_t d = 0; d < 20; ++d)
        ASSERT_NEAR(y[row * 20 + d], expected[static_cast<std::size_t>(d)], 1e-4);
      double total = 0;
      for (std::int64_t t = 0; t < 7; ++t) {
        const auto at = static_cast<std::size_t>(row * 7 + t);
        if (t >= lengths[s]) {
          ASSERT_EQ(weights[0][at], 0);
        }
        ASSERT_NEAR(weights[2][at], (weights[0][at] + weights[1][at]) / 2, 1e-6);
        total += weights[0][at];
      }
      ASSERT_NEAR(total, 1, 1e-5);
    }
}

TEST(Tape, HoldsWhatTheLayerUsed) {
  Random random(6);
  const AttentionShape shape{2, 4, 4, 0};
  const Case c(random, 8, 8, shape, 8);
  const SelfAttention layer(shape, 8, c.query(), c.key(), c.value(), c.last());
  const Buffer x = values(random, 3 * 8);
  Buffer y(x.size());
  AttentionScratch scratch;
  AttentionTape tape;
  layer.forward(x.data(), {1, 3, {}}, Causal::bottom_right, y.data(), scratch, 1,
                {&tape, "decoder.0.self"});
  ASSERT_EQ(tape.size(), 1u);
  const AttentionRecord& r = tape[0];
  EXPECT_EQ(r.where, "decoder.0.self");
  EXPECT_TRUE(r.causal);
  EXPECT_FLOAT_EQ(r.scale, 0.5f);
  ASSERT_EQ(r.q.size(), 2u * 3 * 4);
  ASSERT_EQ(r.lse.size(), 2u * 3);
  AttentionOptions options;
  options.scale = r.scale;
  options.causal = Causal::bottom_right;
  std::vector<float> p(2 * 3 * 3);
  weights({r.q.data(), {1, 2, 3, 4}}, {r.k.data(), {1, 2, 3, 4}}, options, r.lse, {0, 3}, {0, 3},
          {p.data(), {1, 2, 3, 3}});
  for (std::size_t row = 0; row < 6; ++row)
    EXPECT_NEAR(p[row * 3] + p[row * 3 + 1] + p[row * 3 + 2], 1, 1e-5);
  EXPECT_EQ(p[1], 0);  // the first token does not see the second
  EXPECT_NEAR(r.v[0], Case::dot(c.v, c.bv, x.data(), 0, 8), 1e-5);
  const auto dim_v = static_cast<std::size_t>(r.dim_v);
  ASSERT_EQ(r.out.size(), 2 * 3 * dim_v);
  for (std::size_t row = 0; row < 6; ++row)
    for (std::size_t d = 0; d < dim_v; ++d) {
      double sum = 0;
      for (std::size_t key = 0; key < 3; ++key)
        sum += p[row * 3 + key] * r.v[(row / 3 * 3 + key) * dim_v + d];
      EXPECT_NEAR(r.out[row * dim_v + d], sum, 1e-5);
    }
}

}  // namespace
}  // namespace qkv::layers
