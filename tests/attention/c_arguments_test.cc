// Wrong arguments through the C door: a status, a message that names them, and nothing written.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "qkv/c.h"
#include "tests/attention/tensors.h"

namespace qkv::tests {
namespace {

// One correct call of each function; a test spoils one thing of it.
struct Call {
  std::vector<float> numbers = std::vector<float>(64, 0.5f);
  std::vector<float> written = std::vector<float>(64, 777);
  std::vector<float> lse = std::vector<float>(4, 777);
  std::vector<float> traced = std::vector<float>(4, 777);
  std::vector<float> gradient = std::vector<float>(16, 777);
  qkv_tensor query = qkv_dense(numbers.data(), QKV_F32, 1, 2, 2, 4);
  qkv_tensor key = qkv_dense(numbers.data(), QKV_F32, 1, 1, 3, 4);
  qkv_tensor value = key;
  qkv_options options = QKV_OPTIONS_DEFAULT;
  qkv_trace trace = QKV_TRACE_DEFAULT;
  qkv_output output = QKV_OUTPUT_DEFAULT;
  const qkv_tensor *q = &query, *k = &key, *v = &value;
  const qkv_options* o = &options;
  const qkv_output* to = &output;

  qkv_part part = QKV_PART_DEFAULT;  // of a merge; the forward pass of a backward one
  qkv_tensor d_out = qkv_dense(numbers.data(), QKV_F32, 1, 2, 2, 4);
  qkv_gradients gradients = QKV_GRADIENTS_DEFAULT;
  qkv_tensor tile = qkv_dense(written.data(), QKV_F32, 1, 2, 2, 3);  // of weights

  Call() {
    trace.rows = 4;
    trace.entropy = traced.data();
    output.out = qkv_dense(written.data(), QKV_F32, 1, 2, 2, 4);
    output.lse = lse.data();
    output.lse_size = 4;
    output.trace = &trace;
    part.out = d_out;
    part.lse = numbers.data();
    part.lse_size = 4;
    gradients.d_query = qkv_dense(gradient.data(), QKV_F32, 1, 2, 2, 4);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  int run() const { return qkv_attention(q, k, v, o, to); }
  int run_weights() const {
    return qkv_weights(q, k, o, part.lse, part.lse_size, 0, 2, 0, 3, &tile);
  }
  int run_backward() const {
    return qkv_attention_backward(q, k, v, o, &part, &d_out, nullptr, 0, &gradients);
  }
  int run_merge() const { return qkv_merge(&part, 1, to); }
  bool untouched() const {
    for (const auto* values : {&written, &lse, &traced, &gradient})
      for (const float x : *values)
        if (x != 777) return false;
    return true;
  }
};

struct Wrong {
  std::function<void(Call&)> spoil;
  std::string says;
};

void expect_refused(const std::string& function, int (Call::*run)() const,
                    const std::vector<Wrong>& all) {
  for (const Wrong& wrong : all) {
    Call call;
    wrong.spoil(call);
    SCOPED_TRACE(function + ": " + wrong.says);
    EXPECT_EQ((call.*run)(), QKV_INVALID_ARGUMENT);
    const std::string text = qkv_last_error();
    EXPECT_EQ(text.rfind(function + ": ", 0), 0u) << text;
    EXPECT_NE(text.find(wrong.says), std::string::npos) << text;
    EXPECT_TRUE(call.untouched());
  }
}

TEST(CApi, WrongArgumentsGiveAStatusAndAMessage) {
  const std::vector<Wrong> all = {
      {[](Call& c) { c.q = nullptr; }, "query is a null pointer"},
      {[](Call& c) { c.k = nullptr; }, "key is a null pointer"},
      {[](Call& c) { c.v = nullptr; }, "value is a null pointer"},
      {[](Call& c) { c.to = nullptr; }, "output is a null pointer"},
      {[](Call& c) { c.query.data = nullptr; }, "query of shape [1, 2, 2, 4] has no data"},
      {[](Call& c) { c.output.out = QKV_NO_TENSOR; }, "out has shape [0, 0, 0, 0]; expected [1,"},
      {[](Call& c) { c.query.dtype = 5; }, "query.dtype is 5; expected one of QKV_F32"},
      {[](Call& c) { c.options.mask.dtype = -1; }, "mask.dtype is -1"},
      {[](Call& c) { c.key.reserved = 3; }, "key.reserved is 3; expected 0"},
      {[](Call& c) { c.options.struct_size = 0; }, "options.struct_size is 0; expected"},
      {[](Call& c) { c.output.struct_size = 4; }, "output.struct_size is 4; expected"},
      {[](Call& c) { c.trace.struct_size = ~std::size_t{0}; }, "trace.struct_size is 18446744"},
      {[](Call& c) { c.options.scale = 0.5f; }, "scale is 0.500000 but has_scale is 0"},
      {[](Call& c) { c.options.has_scale = 2; }, "has_scale is 2; expected 0 or 1"},
      {[](Call& c) { c.options.has_scale = 1, c.options.scale = kNaN; },
       "scale is nan; expected a finite number"},
      {[](Call& c) { c.options.causal = 3; }, "causal is 3; expected QKV_NOT_CAUSAL"},
      {[](Call& c) { c.options.threads = -2; }, "threads is -2"},
      {[](Call& c) { c.options.reserved = 1; }, "options.reserved is 1"},
      {[](Call& c) { c.options.sinks_size = 2; }, "sinks_size is 2; expected 0, for sinks is null"},
      {[](Call& c) { c.output.lse_size = -4; }, "lse_size is -4; expected 0 or more"},
      {[](Call& c) { c.output.lse_size = 3; }, "lse has 3 entries"},
      {[](Call& c) { c.trace.top = 1025; }, "trace.top is 1025; expected 0 to 1024"},
      {[](Call& c) { c.trace.block = -1; }, "trace.block is -1"},
      {[](Call& c) { c.trace.rows = 3; }, "trace.rows is 3; expected 4 for trace.entropy"},
      {[](Call& c) { c.trace.received = c.traced.data(); },
       "trace.columns is 0; expected 6 for trace.received"},
  };
  expect_refused("qkv_attention", &Call::run, all);
  Call call;
  EXPECT_EQ(call.run(), QKV_OK) << qkv_last_error();
  EXPECT_NE(call.traced[0], 777);
  EXPECT_EQ(call.trace.columns, 6);
  call.o = nullptr;
  EXPECT_EQ(call.run(), QKV_OK) << "no options are the defaults";
}

// What any function that computes scores refuses.
TEST(CApi, WrongScoreArgumentsOfEveryFunction) {
  static const std::int32_t falling[] = {0, 3, 2};
  static const std::int32_t outside[] = {9};
  static const std::int32_t two_keys[] = {2};
  const std::int64_t huge = std::int64_t{1} << 40;
  const std::vector<Wrong> all = {
      {[](Call& c) { c.q = nullptr; }, "query is a null pointer"},
      {[](Call& c) { c.key.dtype = QKV_BOOL; }, "key has elements of type bool; expected float32"},
      {[](Call& c) { c.key.shape[3] = 3; },
       "key has head dimension 3 and query 4; expected the same"},
      {[](Call& c) { c.query.strides[3] = -1; },
       "query has stride -1 in its last dimension; expected 1"},
      {[](Call& c) {
         c.query.data = c.numbers.data() + 60;
         c.query.strides[2] = -(1LL << 58);
       },
       "reaches outside of memory"},
      {[](Call& c) { c.key.data = reinterpret_cast<char*>(c.numbers.data()) + 2; },
       "expected a multiple of 4"},
      {[&](Call& c) { c.query.shape[0] = c.query.shape[1] = huge; }, "query has too many elements"},
      {[](Call& c) { c.query.shape[2] = -2; }, "negative size in its shape [1, 2, -2, 4]"},
      {[](Call& c) { c.options.has_scale = 1, c.options.scale = kNaN; },
       "scale is nan; expected a finite number"},
      {[](Call& c) { c.options.cu_seqlens_k = falling, c.options.cu_seqlens_k_size = 3; },
       "cu_seqlens_k[2] is 2 after 3; expected numbers that do not fall"},
  };
  expect_refused("qkv_attention", &Call::run, all);
  expect_refused("qkv_weights", &Call::run_weights, all);
  expect_refused("qkv_attention_backward", &Call::run_backward, all);
  const std::vector<Wrong> pages = {
      {[&](Call& c) {
         c.options.block_table = outside, c.options.block_table_size = 1;
         c.options.key_lengths = two_keys, c.options.key_lengths_size = 1;
       },
       "block_table[0][0] is 9; expected a page from 0 to 0"},
      {[&](Call& c) { c.options.block_table = outside; },
       "block_table needs key_lengths, but there are none; expected both"},
  };
  expect_refused("qkv_attention", &Call::run, pages);
  expect_refused("qkv_weights", &Call::run_weights, pages);
}

TEST(CApi, WhatIsWrittenLiesApart) {
  expect_refused(
      "qkv_attention", &Call::run,
      {{[](Call& c) { c.query.data = c.written.data(); }, "overlaps query"},
       {[](Call& c) { c.output.lse = c.numbers.data(); }, "overlaps query"},
       {[](Call& c) { c.trace.entropy = c.numbers.data(); }, "trace.entropy"},
       {[](Call& c) { c.trace.entropy = c.written.data(); }, "overlaps trace.entropy"},
       {[](Call& c) { c.trace.lse = c.traced.data() + 1; }, "trace.lse"},
       {[](Call& c) {
          c.trace.entropy = reinterpret_cast<float*>(reinterpret_cast<char*>(c.traced.data()) + 1);
        },
        "trace.entropy lies at address"},
       {[](Call& c) { c.output.out.strides[2] = 0; }, "out has stride 0 in dimension 2"}});
  expect_refused("qkv_weights", &Call::run_weights,
                 {{[](Call& c) { c.key.data = c.written.data(); }, "overlaps key"},
                  {[](Call& c) { c.part.lse = c.written.data(); }, "overlaps lse"},
                  {[](Call& c) { c.tile.shape[3] = 4; }, "out has shape [1, 2, 2, 4]"}});
  expect_refused("qkv_attention_backward", &Call::run_backward,
                 {{[](Call& c) { c.query.data = c.gradient.data(); }, "overlaps query"},
                  {[](Call& c) { c.part.out.data = c.gradient.data(); }, "overlaps forward.out"},
                  {[](Call& c) { c.gradients.d_key = c.gradients.d_query; }, "d_key has shape"},
                  {[](Call& c) { c.gradients.d_query.strides[1] = 4; }, "entries overlap"}});
  expect_refused(
      "qkv_merge", &Call::run_merge,
      {{[](Call& c) { c.part.out.data = c.written.data() + 4; }, "overlaps parts[0].out"},
       {[](Call& c) { c.part.lse = c.written.data(); }, "overlaps parts[0].lse"},
       {[](Call& c) { c.part.out.shape[2] = 3; }, "parts[0].out has shape [1, 2, 3, 4]"},
       {[](Call& c) { c.part.out.dtype = QKV_I8; }, "parts[0].out has elements of type int8"},
       {[](Call& c) { c.part.lse_size = 3; }, "parts[0].lse has 3 entries"},
       {[](Call& c) { c.output.out.shape[0] = -1; }, "negative"}});
  Call fine;
  EXPECT_EQ(fine.run_weights(), QKV_OK) << qkv_last_error();
  EXPECT_EQ(fine.run_backward(), QKV_OK) << qkv_last_error();
  EXPECT_EQ(fine.run_merge(), QKV_OK) << qkv_last_error();
}

TEST(CApi, TheOtherFunctionsTakeNoNullEither) {
  Call c;
  const qkv_part part = QKV_PART_DEFAULT;
  const qkv_gradients gradients = QKV_GRADIENTS_DEFAULT;
  EXPECT_EQ(qkv_trace_sizes(nullptr, c.k, c.o, &c.trace), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_trace_sizes(c.q, nullptr, c.o, &c.trace), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_trace_sizes(c.q, c.k, c.o, nullptr), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_weights(nullptr, c.k, c.o, c.lse.data(), 4, 0, 2, 0, 3, c.q), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_weights(c.q, nullptr, c.o, c.lse.data(), 4, 0, 2, 0, 3, c.q), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_weights(c.q, c.k, c.o, nullptr, 4, 0, 2, 0, 3, c.q), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_weights(c.q, c.k, c.o, nullptr, 0, 0, 2, 0, 3, c.q), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_weights(c.q, c.k, c.o, c.lse.data(), 4, 0, 2, 0, 3, nullptr), QKV_INVALID_ARGUMENT);
  for (int missing = 0; missing < 6; ++missing) {
    const auto unless = [&](int i, const auto* given) { return i == missing ? nullptr : given; };
    EXPECT_EQ(
        qkv_attention_backward(unless(0, c.q), unless(1, c.k), unless(2, c.v), c.o,
                               unless(3, &part), unless(4, c.q), nullptr, 0, unless(5, &gradients)),
        QKV_INVALID_ARGUMENT)
        << missing;
  }
  EXPECT_EQ(qkv_options_init(nullptr, sizeof(qkv_options)), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_options_init(&c.options, 7), QKV_INVALID_ARGUMENT);
  EXPECT_TRUE(c.untouched());
}

// What a program compiled against a later header hands in.
TEST(CApi, LongerStructsAreTakenAsLongAsTheNewFieldsAreUnset) {
  struct Longer {
    qkv_options known;
    std::int64_t fields[4];
  };
  Call c;
  Longer longer;
  std::memset(&longer, 0xff, sizeof longer);
  ASSERT_EQ(qkv_options_init(&longer.known, sizeof longer), QKV_OK);
  EXPECT_EQ(longer.known.struct_size, sizeof longer);
  EXPECT_EQ(longer.known.window_left, -1);
  EXPECT_EQ(longer.fields[3], 0);
  c.o = &longer.known;
  EXPECT_EQ(c.run(), QKV_OK) << qkv_last_error();
  longer.fields[2] = 1;
  EXPECT_EQ(c.run(), QKV_INVALID_ARGUMENT);
  EXPECT_NE(std::string(qkv_last_error()).find("does not know"), std::string::npos);
}

}  // namespace
}  // namespace qkv::tests
