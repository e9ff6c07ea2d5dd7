// Where arguments lie in memory: overlapping, misaligned, or further than memory goes. Refused by name before anything is
// written, or it works as documented.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/attention/calls.h"
#include "tests/attention/cases.h"

namespace qkv::tests {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// The same address, one byte further.
template <class T>
T* one_byte_on(T* data) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(data) + 1);
}

TEST(Contract7, WhatIsWrittenLiesApart) {
  expect_refused(
      "attention", &Call::run_attention,
      {
          {"out on query",
           [](Call& c) { c.query.data = c.written.data(); },
           {"out (bytes", "overlaps query (bytes", "memory of its own"}},
          {"out on the last float of key",
           [](Call& c) { c.key.data = c.written.data() + 239; },
           {"out", "overlaps key"}},
          {"out ends in value",
           [](Call& c) { c.value.data = c.written.data() + 200; },
           {"out", "overlaps value"}},
          {"out on bias",
           [](Call& c) {
             c.options.bias = TensorView(c.written.data() + 5, Shape4{1, 1, 1, 1});
           },
           {"out", "overlaps bias"}},
          {"out on mask",
           [](Call& c) {
             c.options.mask =
                 TensorView(reinterpret_cast<const bool*>(c.written.data()), Shape4{1, 1, 5, 7});
           },
           {"out", "overlaps mask"}},
          {"out on sinks",
           [](Call& c) { c.options.sinks = std::span(c.written).first(4); },
           {"out", "overlaps sinks"}},
          {"lse on slopes",
           [](Call& c) { c.options.alibi_slopes = std::span(c.lse).last(4); },
           {"lse", "overlaps alibi_slopes"}},
          {"lse on key_lengths",
           [](Call& c) {
             c.options.key_lengths = {reinterpret_cast<const std::int32_t*>(c.numbers.data()), 2};
             c.numbers[0] = c.numbers[1] = 0;
             c.output.lse = std::span(c.numbers).first(40);
             c.query.data = c.key.data = c.value.data = c.numbers.data() + 1000;
           },
           {"lse", "overlaps key_lengths"}},
          {"lse on out",
           [](Call& c) { c.output.lse = std::span(c.written).subspan(100, 40); },
           {"out", "overlaps lse"}},
          {"lse on query",
           [](Call& c) { c.output.lse = std::span(c.numbers).subspan(10, 40); },
           {"lse", "overlaps query"}},
          {"out on k_scale",
           [](Call& c) {
             use_int8(c);
             c.options.k_scale = TensorView(c.written.data(), Shape4{1, 1, 1, 1});
           },
           {"out", "overlaps k_scale"}},
          {"an interleaved query one float too long",
           [](Call& c) {  // [2, 4, 5, 14]: 8 of query, 6 of out, but out begins one float early
             c.query = TensorView(c.written.data(), {2, 4, 5, 8}, {280, 70, 14, 1});
             c.output.out = MutableTensorView(c.written.data() + 7, {2, 4, 5, 6}, {280, 70, 14, 1});
           },
           {"out", "overlaps query"}},
      });
  expect_refused(
      "weights", &Call::run_weights,
      {
          {"out on query",
           [](Call& c) { c.query.data = c.written.data() + 100; },
           {"out", "overlaps query"}},
          {"out on key", [](Call& c) { c.key.data = c.written.data(); }, {"out", "overlaps key"}},
          {"out on lse",
           [](Call& c) {
             c.tile = MutableTensorView(c.lse.data(), {2, 4, 3, 1});
             c.keys = {2, 3};
           },
           {"out", "overlaps lse"}},
          {"out on slopes",
           [](Call& c) { c.options.alibi_slopes = std::span(c.written).first(4); },
           {"out", "overlaps alibi_slopes"}},
      });
  expect_refused("attention_backward", &Call::run_backward,
                 {
                     {"d_query on query",
                      [](Call& c) { c.query.data = c.written.data(); },
                      {"d_query (bytes", "overlaps query (bytes", "memory of its own"}},
                     {"d_key on the last float of key",
                      [](Call& c) { c.key.data = c.written.data() + 1223; },
                      {"d_key", "overlaps key"}},
                     {"d_value on value",
                      [](Call& c) { c.value.data = c.written.data() + 2000; },
                      {"d_value", "overlaps value"}},
                     {"d_query on out",
                      [](Call& c) { c.forward_out.data = c.written.data() + 319; },
                      {"d_query", "overlaps forward.out"}},
                     {"d_query on d_out",
                      [](Call& c) { c.d_out.data = c.written.data(); },
                      {"d_query", "overlaps d_out"}},
                     {"d_query on lse",
                      [](Call& c) {
                        c.lse_offset = reinterpret_cast<std::uintptr_t>(c.written.data()) -
                                       reinterpret_cast<std::uintptr_t>(c.lse.data());
                      },
                      {"d_query", "overlaps forward.lse"}},
                     {"d_query on d_lse",
                      [](Call& c) { c.d_lse = std::span(c.written).first(40); },
                      {"d_query", "overlaps d_lse"}},
                     {"d_query on d_key",
                      [](Call& c) { c.gradients.d_key.data = c.written.data() + 319; },
                      {"d_query", "overlaps d_key"}},
                     {"d_value on mask",
                      [](Call& c) {
                        c.options.mask =
                            TensorView(reinterpret_cast<const bool*>(c.written.data() + 2000),
                                       Shape4{1, 1, 5, 7});
                      },
                      {"d_value", "overlaps mask"}},
                     {"d_bias on bias",
                      [](Call& c) {
                        c.add_bias_and_sinks();
                        c.options.bias.data = c.gradients.d_bias.data;
                      },
                      {"d_bias", "overlaps bias"}},
                     {"d_sinks on sinks",
                      [](Call& c) {
                        c.add_bias_and_sinks();
                        c.options.sinks = c.d_sinks;
                      },
                      {"d_sinks", "overlaps sinks"}},
                     {"d_sinks on d_query",
                      [](Call& c) {
                        c.add_bias_and_sinks();
                        c.gradients.d_sinks = std::span(c.written).subspan(316, 4);
                      },
                      {"d_query", "overlaps d_sinks"}},
                 });
  expect_refused("merge", &Call::run_merge,
                 {
                     {"out on a part",
                      [](Call& c) { c.parts[1].out.data = c.written.data() + 6; },
                      {"out", "overlaps parts[1].out"}},
                     {"out on a part's lse",
                      [](Call& c) { c.parts[1].lse = std::span(c.written).first(40); },
                      {"out", "overlaps parts[1].lse"}},
                     {"lse on a part",
                      [](Call& c) {
                        c.merged_lse.resize(512, 777);  // no array of another's may lie behind it
                        c.merged_lse_size = 40;
                        c.parts[0].out.data = c.merged_lse.data();
                      },
                      {"lse", "overlaps parts[0].out"}},
                     {"lse on a part's lse, shifted",
                      [](Call& c) {
                        c.merged_lse.resize(41, 777);
                        c.parts[0].lse = std::span<const float>(c.merged_lse).last(40);
                        c.merged_lse_size = 40;
                      },
                      {"lse", "overlaps parts[0].lse"}},
                     {"lse on out",
                      [](Call& c) {
                        c.merged_lse.resize(512, 777);
                        c.merged_lse_size = 40;
                        c.merged.data = c.merged_lse.data();
                      },
                      {"out", "overlaps lse"}},
                     {"out on a part in another order",
                      [](Call& c) {
                        c.parts[0].out = c.merged;
                        std::swap(c.parts[0].out.strides[0], c.parts[0].out.strides[1]);
                      },
                      {"out", "overlaps parts[0].out"}},
                 });
}

// query, key, value and out in one buffer [tokens, 4, heads, dim], as a projection leaves them.
TEST(Contract7, InterleavedTensorsAreTaken) {
  const Sizes sizes{1, 3, 1, 17, 17, 8, 8};
  const Case c(sizes, 21);
  const Result expected = c.run(false);
  std::vector<float> buffer(17 * 4 * 3 * 8, kNaN);
  const Shape4 strides = {0, 8, 4 * 3 * 8, 1};
  const auto at = [&](std::int64_t which, std::int64_t h, std::int64_t t,
                      std::int64_t d) -> float& {
    return buffer[static_cast<std::size_t>(t * 96 + which * 24 + h * 8 + d)];
  };
  c.query.each([&](std::int64_t, std::int64_t h, std::int64_t t, std::int64_t d) {
    at(0, h, t, d) = c.query.at(0, h, t, d);
    at(1, h, t, d) = c.key.at(0, h, t, d);
    at(2, h, t, d) = c.value.at(0, h, t, d);
  });
  attention(TensorView(&at(0, 0, 0, 0), c.query.shape(), strides),
            TensorView(&at(1, 0, 0, 0), c.query.shape(), strides),
            TensorView(&at(2, 0, 0, 0), c.query.shape(), strides), {},
            {MutableTensorView(&at(3, 0, 0, 0), c.query.shape(), strides), {}, nullptr});
  expected.out.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
    EXPECT_TRUE(same_bits(at(3, h, t, d), expected.out.at(b, h, t, d)));
    EXPECT_TRUE(same_bits(at(0, h, t, d), c.query.at(b, h, t, d)));
  });
}

TEST(Contract7, ATraceThatInputsLieInIsNotCleared) {
  Call c;
  c.trace.max.assign(8, 0.5f);
  c.options.sinks = std::span(c.trace.max).first(4);
  EXPECT_THROW(c.run_attention(), std::invalid_argument);
  EXPECT_EQ(c.trace.max.size(), 8u);
}

TEST(Contract7, MergeWorksInPlace) {
  const Case c({2, 1, 2, 5, 12, 8, 8}, 6);
  Result left = c.part({0, 2}, {0, 1}, {0, 5}, {0, 7}).run(false);
  const Result right = c.part({0, 2}, {0, 1}, {0, 5}, {7, 12}).run(false);
  const Tensor<float> apart(left.out.shape(), {});
  std::vector<float> lse(left.lse.size());
  const std::vector<AttentionPart> parts = {{left.out.mutable_view(), left.lse},
                                            {right.out.mutable_view(), right.lse}};
  merge(parts, {apart.mutable_view(), lse, nullptr});
  merge(parts, {left.out.mutable_view(), left.lse, nullptr});
  EXPECT_TRUE(same_bits(left.lse, lse));
  apart.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
    EXPECT_TRUE(same_bits(left.out.at(b, h, t, d), apart.at(b, h, t, d)));
  });
}

TEST(Contract7, MergeOfNoColumnsMergesTheSums) {
  const std::vector<float> one(6, 1);
  std::vector<float> lse(6);
  MutableTensorView none;
  none.shape = {1, 2, 3, 0};
  const std::vector<AttentionPart> parts(2, {none, one});
  merge(parts, {none, lse, nullptr});
  for (const float x : lse) EXPECT_FLOAT_EQ(x, 1 + std::log(2.0f));
}

TEST(Contract7, OutHasAPlaceForEachEntry) {
  const std::vector<Wrong> all = {
      {"rows overlap by half",
       [](Call& c) { c.output.out.strides[2] = 3; },
       {"out", "strides [120, 30, 3, 1]", "entries overlap"}},
      {"heads and tokens cross",
       [](Call& c) {
         c.output.out.strides = {1000, 12, 24, 1};
       },
       {"out", "[1000, 12, 24, 1]", "entries overlap"}},
      {"one backwards onto the other",
       [](Call& c) {
         c.output.out.data = c.written.data() + 2000;
         c.output.out.strides = {-30, 30, 6, 1};
       },
       {"out", "[-30, 30, 6, 1]", "entries overlap"}},
  };
  expect_refused("attention", &Call::run_attention, all);
  expect_refused(
      "weights", &Call::run_weights,
      {{"rows overlap", [](Call& c) { c.tile.strides[2] = 6; }, {"out", "entries overlap"}}});
  expect_refused(
      "merge", &Call::run_merge,
      {{"rows overlap", [](Call& c) { c.merged.strides[1] = 5; }, {"out", "entries overlap"}}});
  expect_refused("attention_backward", &Call::run_backward,
                 {{"rows of d_query overlap",
                   [](Call& c) { c.gradients.d_query.strides[2] = 7; },
                   {"d_query", "entries overlap"}},
                  {"d_value backwards onto itself",
                   [](Call& c) {
                     c.gradients.d_value.data = c.written.data() + 3000;
                     c.gradients.d_value.strides = {-42, 42, 6, 1};
                   },
                   {"d_value", "[-42, 42, 6, 1]", "entries overlap"}}});
}

TEST(Contract7, MisalignedPointers) {
  const std::vector<Wrong> all = {
      {"query",
       [](Call& c) { c.query.data = one_byte_on(c.numbers.data()); },
       {"query", "address", "multiple of 4"}},
      {"key",
       [](Call& c) { c.key.data = one_byte_on(c.numbers.data()); },
       {"key", "address", "multiple of 4"}},
      {"bias",
       [](Call& c) {
         c.options.bias = TensorView(one_byte_on(c.numbers.data()), DType::f32, {1, 1, 1, 1}, {});
       },
       {"bias", "address", "multiple of 4"}},
      {"sinks",
       [](Call& c) {
         c.options.sinks = {one_byte_on(c.numbers.data()), 4};
       },
       {"sinks", "address", "multiple of 4"}},
      {"alibi_slopes",
       [](Call& c) {
         c.options.alibi_slopes = {one_byte_on(c.numbers.data()), 4};
       },
       {"alibi_slopes", "address", "multiple of 4"}},
      {"key_lengths",
       [](Call& c) {
         c.options.key_lengths = {one_byte_on(c.lengths.data()), 2};
       },
       {"key_lengths", "address", "multiple of 4"}},
      {"cu_seqlens_q",
       [](Call& c) {
         c.query.shape[0] = 1;
         c.options.cu_seqlens_q = {one_byte_on(c.lengths.data()), 2};
       },
       {"cu_seqlens_q", "address", "multiple of 4"}},
  };
  const std::vector<Wrong> of_a_cache = {
      {"block_table",
       [](Call& c) {
         c.options.block_table = {one_byte_on(c.lengths.data()), 2};
         c.options.key_lengths = c.lengths;
       },
       {"block_table", "address", "multiple of 4"}},
      {"k_scale",
       [](Call& c) {
         use_int8(c);
         c.options.k_scale =
             TensorView(one_byte_on(c.numbers.data()), DType::f32, {1, 1, 1, 1}, {});
       },
       {"k_scale", "address", "multiple of 4"}},
  };
  expect_refused("attention", &Call::run_attention, all);
  expect_refused("weights", &Call::run_weights, all);
  expect_refused("attention_backward", &Call::run_backward, all);
  expect_refused("attention", &Call::run_attention, of_a_cache);
  expect_refused("weights", &Call::run_weights, of_a_cache);
  expect_refused("attention", &Call::run_attention,
                 {{"value of halves",
                   [](Call& c) {
                     c.query.dtype = c.key.dtype = c.value.dtype = DType::f16;
                     c.value.data = one_byte_on(c.numbers.data());
                   },
                   {"value", "address", "multiple of 2"}},
                  {"out",
                   [](Call& c) { c.output.out.data = one_byte_on(c.written.data()); },
                   {"out", "address", "multiple of 4"}},
                  {"lse",
                   [](Call& c) {
                     c.output.lse = {one_byte_on(c.lse.data()), 40};
                   },
                   {"lse", "address", "multiple of 4"}}});
  expect_refused("merge", &Call::run_merge,
                 {{"a part",
                   [](Call& c) { c.parts[1].out.data = one_byte_on(c.numbers.data()); },
                   {"parts[1].out", "address", "multiple of 4"}},
                  {"a part's lse",
                   [](Call& c) {
                     c.parts[0].lse = {one_byte_on(c.lse.data()), 40};
                   },
                   {"parts[0].lse", "address", "multiple of 4"}},
                  {"out",
                   [](Call& c) { c.merged.data = one_byte_on(c.written.data()); },
                   {"out", "address", "multiple of 4"}}});
  expect_refused("weights", &Call::run_weights,
                 {{"lse", [](Call& c) { c.lse_offset = 1; }, {"lse", "address", "multiple of 4"}},
                  {"out",
                   [](Call& c) { c.tile.data = one_byte_on(c.written.data()); },
                   {"out", "address", "multiple of 4"}}});
  expect_refused(
      "attention_backward", &Call::run_backward,
      {{"lse", [](Call& c) { c.lse_offset = 1; }, {"forward.lse", "address", "multiple of 4"}},
       {"d_lse",
        [](Call& c) {
          c.d_lse = {one_byte_on(c.numbers.data()), 40};
        },
        {"d_lse", "address", "multiple of 4"}},
       {"out",
        [](Call& c) { c.forward_out.data = one_byte_on(c.numbers.data()); },
        {"forward.out", "address", "multiple of 4"}},
       {"d_out",
        [](Call& c) { c.d_out.data = one_byte_on(c.numbers.data()); },
        {"d_out", "address", "multiple of 4"}},
       {"d_key",
        [](Call& c) { c.gradients.d_key.data = one_byte_on(c.written.data()); },
        {"d_key", "address", "multiple of 4"}},
       {"d_sinks",
        [](Call& c) {
          c.add_bias_and_sinks();
          c.gradients.d_sinks = {one_byte_on(c.written.data()), 4};
        },
        {"d_sinks", "address", "multiple of 4"}}});
}

TEST(Contract7, SizesAndStridesBeyondMemory) {
  const std::vector<Wrong> all = {
      {"query far apart",
       [](Call& c) { c.query.strides[2] = kMost / 4; },
       {"query", "[160, 40, 2305843009213693951, 1]", "reaches outside of memory"}},
      {"key far apart", [](Call& c) { c.key.strides[0] = kMost; }, {"key", "outside of memory"}},
      {"key before address 0",
       [](Call& c) { c.key.strides[2] = -(std::int64_t{1} << 52); },
       {"key", "outside of memory"}},
      {"query of 2^62 elements",
       [](Call& c) {
         c.query.shape = {std::int64_t{1} << 30, std::int64_t{1} << 30, 1, 8};
         c.query.strides = {std::int64_t{1} << 33, 8, 8, 1};
       },
       {"query"}},
      {"bias far apart",
       [](Call& c) {
         c.options.bias = TensorView(c.numbers.data(), {2, 1, 1, 1}, {kMost, 0, 0, 0});
       },
       {"bias", "outside of memory"}},
      {"mask far apart",
       [](Call& c) {
         c.options.mask = TensorView(c.bools, {1, 1, 1, 7}, {0, 0, 0, -kMost});
       },
       {"mask", "outside of memory"}},
      {"mask without data",
       [](Call& c) {
         c.options.mask = TensorView(static_cast<const bool*>(nullptr), Shape4{1, 1, 5, 7});
       },
       {"mask", "[1, 1, 5, 7]", "null"}},
      {"bias without data",
       [](Call& c) {
         c.options.bias = TensorView(static_cast<const float*>(nullptr), Shape4{1, 1, 1, 1});
       },
       {"bias", "[1, 1, 1, 1]", "null"}},
      {"a batch beyond counting",
       [](Call& c) {
         c.query.shape = {std::int64_t{1} << 40, 4, 0, 8};
         c.key.shape = {std::int64_t{1} << 40, 2, 0, 8};
         c.value.shape = {std::int64_t{1} << 40, 2, 0, 6};
         c.output.out.shape = {std::int64_t{1} << 40, 4, 0, 6};
       },
       {"batch 1099511627776", "at most 16777216"}},
      {"no order",
       [](Call& c) { c.options.causal = static_cast<Causal>(7); },
       {"causal is 7", "expected"}},
  };
  const std::vector<Wrong> of_a_cache = {{"k_scale far apart",
                                          [](Call& c) {
                                            use_int8(c);
                                            c.options.k_scale.strides[1] = kMost / 2;
                                          },
                                          {"k_scale", "outside of memory"}}};
  for (const auto* wrong : {&all, &of_a_cache}) {
    expect_refused("attention", &Call::run_attention, *wrong);
    expect_refused("weights", &Call::run_weights, *wrong);
  }
  expect_refused("attention_backward", &Call::run_backward, all);
  expect_refused("attention_backward", &Call::run_backward,
                 {{"d_out far apart",
                   [](Call& c) { c.d_out.strides[0] = kMost / 2; },
                   {"d_out", "outside of memory"}},
                  {"d_key far apart",
                   [](Call& c) { c.gradients.d_key.strides[2] = kMost / 3; },
                   {"d_key", "outside of memory"}}});
  expect_refused("attention", &Call::run_attention,
                 {{"out far apart",
                   [](Call& c) { c.output.out.strides[0] = kMost / 2; },
                   {"out", "outside of memory"}},
                  {"value far apart",
                   [](Call& c) { c.value.strides[1] = kMost / 3; },
                   {"value", "outside of memory"}},
                  {"received beyond counting",
                   [](Call& c) {  // no query, so that no key is looked at
                     const std::int64_t many = std::int64_t{1} << 22;
                     c.query.shape = {many, many, 0, 1};
                     c.query.strides = {};
                     c.key = TensorView(c.numbers.data(), {many, 1, many, 1}, {});
                     c.value = c.key;
                     c.output.out = MutableTensorView(c.written.data(), {many, many, 0, 1}, {});
                     c.output.lse = {};
                     c.options.trace.received = true;
                   },
                   {"trace.received", "too many keys"}}});
  expect_refused("merge", &Call::run_merge,
                 {{"out far apart",
                   [](Call& c) { c.merged.strides[2] = kMost / 2; },
                   {"out", "outside of memory"}},
                  {"a part far apart",
                   [](Call& c) { c.parts[0].out.strides[2] = kMost / 2; },
                   {"parts[0].out", "outside of memory"}},
                  {"too wide",
                   [](Call& c) {
                     c.merged.shape = {0, 1, 1, kMost};
                     for (AttentionPart& part : c.parts) part = {c.merged, {}};
                     c.merged_lse_size = 0;
                   },
                   {"out", "last dimension of at most 1024"}}});
}

TEST(Contract7, WeightsLookAtNoValueScale) {
  Call c;
  c.options.v_scale = TensorView(c.numbers.data(), {2, 2, 7, 1}, {kMost / 3, kMost, kMost, 1});
  EXPECT_NO_THROW(c.run_weights());
}

TEST(Contract7, MoreTopKeysThanKeys) {
  Case c({1, 1, 2, 3, 4, 8, 8}, 9);
  c.plain.trace.top = 9;
  const Trace trace = c.run().trace;
  ASSERT_EQ(trace.top_keys.size(), 2u * 3 * 9);
  for (std::size_t i = 0; i < trace.top_keys.size(); ++i) {
    EXPECT_EQ(trace.top_keys[i] < 0, i % 9 >= 4) << i;
    EXPECT_EQ(trace.top_weights[i] == 0, i % 9 >= 4) << i;
  }
}

// Strides that lead nowhere are never followed, whatever they are.
TEST(Contract7, StridesOfSingleEntriesMayBeAnything) {
  const Case c({1, 1, 1, 1, 4, 8, 8}, 10);
  const Result expected = c.run(false);
  const Tensor<float> out(expected.out.shape(), {});
  TensorView query = c.query.view();
  TensorView key = c.key.view();
  MutableTensorView to = out.mutable_view();
  for (const std::size_t i : {0, 1, 2}) query.strides[i] = to.strides[i] = i == 1 ? -kMost : kMost;
  key.strides[0] = key.strides[1] = kMost;
  AttentionOptions options;
  const float zero = 0;
  options.bias = TensorView(&zero, {1, 1, 1, 1}, {kMost, kMost, -kMost, kMost});
  attention(query, key, c.value.view(), options, {to, {}, nullptr});
  expected.out.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
    EXPECT_TRUE(same_bits(out.at(b, h, t, d), expected.out.at(b, h, t, d)));
  });
}

}  // namespace
}  // namespace qkv::tests
