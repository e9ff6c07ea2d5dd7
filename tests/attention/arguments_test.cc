// Line 7 of docs/numerics.md: a wrong argument throws std::invalid_argument that names the function, what it expected and what
// it got, before anything is written; no argument crashes the process.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "qkv/attention.h"
#include "tests/attention/calls.h"
#include "tests/attention/cases.h"

namespace qkv::tests {
namespace {

constexpr std::int64_t kHuge = std::int64_t{1} << 40;

// What attention(), weights() and attention_backward() check alike.
const std::vector<Wrong> kScoreArguments = {
    {"query of bools",
     [](Call& c) { c.query.dtype = DType::boolean; },
     {"query", "bool", "expected float32"}},
    {"key of bools",
     [](Call& c) { c.key.dtype = DType::boolean; },
     {"key", "bool", "expected float32"}},
    {"query without data",
     [](Call& c) { c.query.data = nullptr; },
     {"query", "[2, 4, 5, 8]", "null"}},
    {"key without data", [](Call& c) { c.key.data = nullptr; }, {"key", "[2, 2, 7, 8]", "null"}},
    {"negative size",
     [](Call& c) { c.query.shape[2] = -1; },
     {"query", "negative", "[2, 4, -1, 8]", "expected 0 or more"}},
    {"more elements than numbers",
     [](Call& c) {
       c.query.shape = {kHuge, kHuge, 1, 8};
     },
     {"query", "too many elements", "1099511627776", "expected a product"}},
    {"query not contiguous",
     [](Call& c) { c.query.strides[3] = 2; },
     {"query", "stride 2", "expected 1"}},
    {"key not contiguous",
     [](Call& c) { c.key.strides[3] = -1; },
     {"key", "stride -1", "expected 1"}},
    {"head dimension 0",
     [](Call& c) { c.query.shape[3] = 0; },
     {"query", "head dimension 0", "1 to 1024"}},
    {"head dimension 1025",
     [](Call& c) { c.query.shape[3] = c.key.shape[3] = 1025; },
     {"query", "1025", "1 to 1024"}},
    {"batches differ", [](Call& c) { c.key.shape[0] = 3; }, {"key has batch 3", "query 2"}},
    {"head dimensions differ",
     [](Call& c) { c.key.shape[3] = 7; },
     {"key has head dimension 7", "query 8"}},
    {"heads not a multiple", [](Call& c) { c.key.shape[1] = 3; }, {"4 heads", "key 3", "multiple"}},
    {"no key heads", [](Call& c) { c.key.shape[1] = 0; }, {"4 heads", "key 0", "multiple"}},
    {"too many tokens", [](Call& c) { c.key.shape[2] = kHuge; }, {"at most", "1099511627776 keys"}},
    {"scale infinite",
     [](Call& c) { c.options.scale = kInfinity; },
     {"scale is inf", "expected a finite"}},
    {"scale not a number",
     [](Call& c) { c.options.scale = kNaN; },
     {"scale is nan", "expected a finite"}},
    {"softcap negative", [](Call& c) { c.options.softcap = -1; }, {"softcap", "-1", "expected 0"}},
    {"softcap infinite",
     [](Call& c) { c.options.softcap = kInfinity; },
     {"softcap", "inf", "expected 0"}},
    {"softcap not a number",
     [](Call& c) { c.options.softcap = kNaN; },
     {"softcap", "nan", "expected 0"}},
    {"left window",
     [](Call& c) { c.options.window.left = -2; },
     {"window", "(-2, -1)", "expected"}},
    {"right window",
     [](Call& c) { c.options.window.right = -9; },
     {"window", "(-1, -9)", "expected"}},
    {"mask of floats",
     [](Call& c) {
       c.options.mask = TensorView(c.numbers.data(), Shape4{1, 1, 5, 7});
     },
     {"mask", "float32", "expected bool"}},
    {"mask of another shape",
     [](Call& c) {
       c.options.mask = TensorView(c.bools, Shape4{1, 1, 5, 6});
     },
     {"mask", "[1, 1, 5, 6]", "[2, 4, 5, 7]"}},
    {"mask per key head",
     [](Call& c) {
       c.options.mask = TensorView(c.bools, Shape4{1, 2, 1, 1});
     },
     {"mask", "[1, 2, 1, 1]", "[2, 4, 5, 7]"}},
    {"bias of bools",
     [](Call& c) {
       c.options.bias = TensorView(c.bools, Shape4{1, 1, 5, 7});
     },
     {"bias", "bool", "expected float32"}},
    {"bias of another shape",
     [](Call& c) {
       c.options.bias = TensorView(c.numbers.data(), Shape4{1, 1, 7, 5});
     },
     {"bias", "[1, 1, 7, 5]", "[2, 4, 5, 7]"}},
    {"sinks", [](Call& c) { c.options.sinks = c.few; }, {"sinks", "3 entries", "4 query heads"}},
    {"alibi_slopes",
     [](Call& c) { c.options.alibi_slopes = c.few; },
     {"alibi_slopes", "3 entries", "4 query heads"}},
    {"key_lengths",
     [](Call& c) { c.lengths.push_back(1), c.options.key_lengths = c.lengths; },
     {"key_lengths", "3 entries", "2 batch entries"}},
    {"key_lengths negative",
     [](Call& c) { c.lengths[1] = -1, c.options.key_lengths = c.lengths; },
     {"key_lengths[1]", "-1", "0 to 7"}},
    {"key_lengths past the end",
     [](Call& c) { c.lengths[0] = 8, c.options.key_lengths = c.lengths; },
     {"key_lengths[0]", "8", "0 to 7"}},
    {"threads", [](Call& c) { c.options.threads = -1; }, {"threads", "-1", "expected 0"}},
};

TEST(Contract7, WrongArgumentsOfAttention) {
  expect_refused("attention", &Call::run_attention, kScoreArguments);
  expect_refused(
      "attention", &Call::run_attention,
      {
          {"value of bools",
           [](Call& c) { c.value.dtype = DType::boolean; },
           {"value", "bool", "expected float32"}},
          {"value without data", [](Call& c) { c.value.data = nullptr; }, {"value", "null"}},
          {"value not contiguous",
           [](Call& c) { c.value.strides[3] = 3; },
           {"value", "stride 3", "expected 1"}},
          {"batch of value",
           [](Call& c) { c.value.shape[0] = 1; },
           {"value", "[1, 2, 7, 6]", "key [2, 2, 7, 8]"}},
          {"heads of value",
           [](Call& c) { c.value.shape[1] = 4; },
           {"value", "[2, 4, 7, 6]", "key [2, 2, 7, 8]"}},
          {"tokens of value",
           [](Call& c) { c.value.shape[2] = 6; },
           {"value", "[2, 2, 6, 6]", "key [2, 2, 7, 8]"}},
          {"width of value",
           [](Call& c) { c.value.shape[3] = 1025; },
           {"value", "1025", "1 to 1024"}},
          {"no width of value",
           [](Call& c) { c.value.shape[3] = 0; },
           {"value", "head dimension 0", "1 to 1024"}},
          {"no out", [](Call& c) { c.output.out = {}; }, {"out", "[0, 0, 0, 0]", "[2, 4, 5, 6]"}},
          {"shape of out",
           [](Call& c) { c.output.out.shape[3] = 8; },
           {"out", "[2, 4, 5, 8]", "[2, 4, 5, 6]"}},
          {"out without data", [](Call& c) { c.output.out.data = nullptr; }, {"out", "null"}},
          {"out of bools",
           [](Call& c) { c.output.out.dtype = DType::boolean; },
           {"out", "bool", "expected float32"}},
          {"out not contiguous",
           [](Call& c) { c.output.out.strides[3] = 2; },
           {"out", "stride 2", "expected 1"}},
          {"out repeated",
           [](Call& c) { c.output.out.strides[2] = 0; },
           {"out", "stride 0", "dimension 2"}},
          {"lse",
           [](Call& c) { c.output.lse = std::span(c.lse).first(39); },
           {"lse", "39", "= 40"}},
          {"trace.top negative",
           [](Call& c) { c.options.trace.top = -1; },
           {"trace.top", "-1", "0 to 1024"}},
          {"trace.top too large",
           [](Call& c) { c.options.trace.top = 1025; },
           {"trace.top", "1025", "0 to 1024"}},
          {"trace.block",
           [](Call& c) { c.options.trace.block = -5; },
           {"trace.block", "-5", "expected 0"}},
      });
}

TEST(Contract7, WrongArgumentsOfWeights) {
  expect_refused("weights", &Call::run_weights, kScoreArguments);
  expect_refused("weights", &Call::run_weights,
                 {
                     {"queries begin",
                      [](Call& c) {
                        c.queries = {-1, 3};
                      },
                      {"queries", "[-1, 3)", "[0, 5)"}},
                     {"queries end",
                      [](Call& c) {
                        c.queries = {3, 6};
                      },
                      {"queries", "[3, 6)", "[0, 5)"}},
                     {"queries backwards",
                      [](Call& c) {
                        c.queries = {3, 2};
                      },
                      {"queries", "[3, 2)", "[0, 5)"}},
                     {"keys end",
                      [](Call& c) {
                        c.keys = {0, 8};
                      },
                      {"keys", "[0, 8)", "[0, 7)"}},
                     {"keys backwards",
                      [](Call& c) {
                        c.keys = {1, 0};
                      },
                      {"keys", "[1, 0)", "[0, 7)"}},
                     {"lse", [](Call& c) { c.lse.pop_back(); }, {"lse", "39", "= 40"}},
                     {"shape of out",
                      [](Call& c) { c.tile.shape[2] = 5; },
                      {"out", "[2, 4, 5, 7]", "[2, 4, 3, 7]"}},
                     {"out without data", [](Call& c) { c.tile.data = nullptr; }, {"out", "null"}},
                     {"out repeated",
                      [](Call& c) { c.tile.strides[0] = 0; },
                      {"out", "stride 0", "dimension 0"}},
                 });
}

TEST(Contract7, WrongArgumentsOfBackward) {
  expect_refused("attention_backward", &Call::run_backward, kScoreArguments);
  const auto asked_all = [](const std::function<void(Call&)>& spoil) {
    return [spoil](Call& c) {
      c.add_bias_and_sinks();
      spoil(c);
    };
  };
  expect_refused(
      "attention_backward", &Call::run_backward,
      {
          {"int8 key",
           [](Call& c) { c.key.dtype = DType::i8; },
           {"key", "int8", "expected float32, float16 or bfloat16"}},
          {"int8 value", [](Call& c) { c.value.dtype = DType::i8; }, {"value", "int8", "float32"}},
          {"pages",
           [](Call& c) { c.options.block_table = c.options.key_lengths = c.lengths; },
           {"block_table", "expected keys and values that lie in no pages"}},
          {"value of bools",
           [](Call& c) { c.value.dtype = DType::boolean; },
           {"value", "bool", "expected float32"}},
          {"tokens of value",
           [](Call& c) { c.value.shape[2] = 6; },
           {"value", "[2, 2, 6, 6]", "key [2, 2, 7, 8]"}},
          {"out",
           [](Call& c) { c.forward_out.shape[3] = 5; },
           {"forward.out", "[2, 4, 5, 5]", "[2, 4, 5, 6]"}},
          {"no out", [](Call& c) { c.forward_out.data = nullptr; }, {"forward.out", "null"}},
          {"out of bools",
           [](Call& c) { c.forward_out.dtype = DType::boolean; },
           {"forward.out", "bool", "expected float32"}},
          {"d_out",
           [](Call& c) { c.d_out.shape[2] = 4; },
           {"d_out", "[2, 4, 4, 6]", "[2, 4, 5, 6]"}},
          {"no d_out", [](Call& c) { c.d_out.data = nullptr; }, {"d_out", "null"}},
          {"d_out not contiguous",
           [](Call& c) { c.d_out.strides[3] = -1; },
           {"d_out", "stride -1", "expected 1"}},
          {"lse", [](Call& c) { c.lse.pop_back(); }, {"forward.lse", "39 entries", "40"}},
          {"no lse", [](Call& c) { c.lse.clear(); }, {"forward.lse", "0 entries", "40"}},
          {"d_lse",
           [](Call& c) { c.d_lse = std::span(c.numbers).first(3); },
           {"d_lse", "3 entries", "40"}},
          {"d_query shape",
           [](Call& c) { c.gradients.d_query.shape[3] = 7; },
           {"d_query", "[2, 4, 5, 7]", "[2, 4, 5, 8]"}},
          {"d_key shape",
           [](Call& c) { c.gradients.d_key.shape[2] = 6; },
           {"d_key", "[2, 2, 6, 8]", "[2, 2, 7, 8]"}},
          {"d_value shape",
           [](Call& c) { c.gradients.d_value.shape[1] = 4; },
           {"d_value", "[2, 4, 7, 6]", "[2, 2, 7, 6]"}},
          {"d_value without data",
           [](Call& c) { c.gradients.d_value.data = nullptr; },
           {"d_value", "null"}},
          {"d_key type", [](Call& c) { c.gradients.d_key.dtype = DType::i8; }, {"d_key", "int8"}},
          {"d_query not contiguous",
           [](Call& c) { c.gradients.d_query.strides[3] = 2; },
           {"d_query", "stride 2", "expected 1"}},
          {"d_query repeated",
           [](Call& c) { c.gradients.d_query.strides[1] = 0; },
           {"d_query", "stride 0", "dimension 1"}},
          {"d_bias shape",
           asked_all([](Call& c) { c.gradients.d_bias.shape[0] = 2; }),
           {"d_bias", "[2, 4, 5, 7]", "[1, 4, 5, 7]"}},
          {"d_bias type",
           asked_all([](Call& c) { c.gradients.d_bias.dtype = DType::f16; }),
           {"d_bias", "float16", "float32"}},
          {"d_bias without bias",
           asked_all([](Call& c) { c.options.bias = {}; }),
           {"d_bias", "no bias", "expected both"}},
          {"d_sinks size",
           asked_all([](Call& c) { c.gradients.d_sinks = std::span(c.d_sinks).first(3); }),
           {"d_sinks", "3 entries", "4"}},
          {"d_sinks without sinks",
           asked_all([](Call& c) { c.options.sinks = {}; }),
           {"d_sinks", "no sinks", "expected both"}},
      });
}

TEST(Contract7, WrongArgumentsOfMerge) {
  expect_refused(
      "merge", &Call::run_merge,
      {
          {"no parts", [](Call& c) { c.parts.clear(); }, {"no parts", "at least one"}},
          {"a part of another shape",
           [](Call& c) { c.parts[1].out.shape[3] = 5; },
           {"parts[1].out", "[2, 4, 5, 5]", "[2, 4, 5, 6]"}},
          {"a part without data",
           [](Call& c) { c.parts[0].out.data = nullptr; },
           {"parts[0].out", "null"}},
          {"lse of a part",
           [](Call& c) { c.parts[1].lse = {}; },
           {"parts[1].lse", "0 entries", "40"}},
          {"lse", [](Call& c) { c.merged_lse.pop_back(); }, {"lse", "39", "40"}},
          {"out without data", [](Call& c) { c.merged.data = nullptr; }, {"out", "null"}},
          {"out of bools",
           [](Call& c) { c.merged.dtype = DType::boolean; },
           {"out", "bool", "expected float32"}},
          {"negative size", [](Call& c) { c.merged.shape[0] = -2; }, {"out", "negative"}},
          {"out repeated",
           [](Call& c) { c.merged.strides[1] = 0; },
           {"out", "stride 0", "dimension 1"}},
      });
}

TEST(Contract7, TheUnspoiledCallsAreAccepted) {
  Call call;
  EXPECT_NO_THROW(call.run_attention());
  EXPECT_NO_THROW(call.run_weights());
  EXPECT_NO_THROW(call.run_merge());
  EXPECT_NO_THROW(call.run_backward());
  call.add_bias_and_sinks();
  EXPECT_NO_THROW(call.run_backward());
}

// Odd but valid: as wide, as many, as large as the types allow.
TEST(Contract7, ExtremeArgumentsWork) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  Case c({2, 2, 3, 30, 40, 8, 8}, 1);
  c.plain.trace = {1024, true, std::numeric_limits<int>::max()};
  const Result expected = c.run();
  c.plain.window = {kMost, kMost};
  EXPECT_EQ(difference(expected, c.run()), "") << "a window wider than any sequence is open";
  c.plain.window = {};
  EXPECT_EQ(difference(expected, c.run(true, std::numeric_limits<int>::max())), "")
      << "threads: at most that many";
  c.plain.causal = Causal::bottom_right;
  const Result causal = c.run();
  c.plain.window = {kMost, kMost - 1};
  EXPECT_EQ(difference(causal, c.run()), "");
}

TEST(Contract7, EmptyCallsWriteNothing) {
  for (const Sizes& sizes :
       {Sizes{0, 2, 2, 3, 4, 5, 6}, Sizes{2, 0, 2, 3, 4, 5, 6}, Sizes{2, 2, 2, 0, 4, 5, 6}}) {
    Case c(sizes, 1);
    c.plain.trace = {3, true, 16};
    const Result r = c.run();
    EXPECT_TRUE(r.lse.empty());
    EXPECT_TRUE(r.trace.lse.empty());
    const Tensor<float> tile({sizes.batch, sizes.heads(), sizes.queries, sizes.keys}, {});
    EXPECT_NO_THROW(weights(c.query.view(), c.key.view(), c.options(), r.lse, {0, sizes.queries},
                            {0, sizes.keys}, tile.mutable_view()));
    const AttentionPart part{r.out.mutable_view(), r.lse};
    EXPECT_NO_THROW(merge({&part, 1}, {r.out.mutable_view(), {}, nullptr}));
  }
}

// Where there is no query, no key or no head, what there is has gradient 0.
TEST(Contract7, EmptyBackwardCalls) {
  for (const Sizes& sizes : {Sizes{0, 2, 2, 3, 4, 5, 6}, Sizes{2, 0, 2, 3, 4, 5, 6},
                             Sizes{2, 2, 2, 0, 4, 5, 6}, Sizes{2, 2, 2, 3, 0, 5, 6}}) {
    const Case c(sizes, 1);
    const Result r = c.run(false);
    std::vector<Tensor<float>> gradients;
    for (const auto* like : {&c.query, &c.key, &c.value}) {
      gradients.emplace_back(like->shape(), Layout{});
      gradients.back().fill([] { return 777.0f; });
    }
    EXPECT_NO_THROW(attention_backward(c.query.view(), c.key.view(), c.value.view(), c.options(),
                                       {r.out.mutable_view(), r.lse}, r.out.mutable_view(),
                                       {gradients[0].mutable_view(),
                                        gradients[1].mutable_view(),
                                        gradients[2].mutable_view(),
                                        {},
                                        {}}));
    for (Tensor<float>& d : gradients)
      d.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t x) {
        EXPECT_EQ(d.at(b, h, t, x), 0);
      });
  }
}

}  // namespace
}  // namespace qkv::tests
