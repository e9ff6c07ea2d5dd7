// The C door: the same bits as C++. c_compile.c and c_own_pool.c are its tests in C, c_arguments_test.cc has wrong arguments.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qkv/c.h"
#include "qkv/isa.h"
#include "qkv/threads.h"
#include "tests/attention/cases.h"
#include "tests/attention/gradients.h"

extern "C" const char* qkv_c_compile(void);
extern "C" const char* qkv_c_own_pool(void);

namespace qkv::tests {
namespace {

qkv_tensor c_tensor(const TensorView& t) {
  qkv_tensor c = QKV_NO_TENSOR;
  c.data = const_cast<void*>(t.data);
  c.dtype = static_cast<std::int32_t>(t.dtype);
  std::copy(t.shape.begin(), t.shape.end(), c.shape);
  std::copy(t.strides.begin(), t.strides.end(), c.strides);
  return c;
}

qkv_options c_options(const AttentionOptions& o) {
  qkv_options c = QKV_OPTIONS_DEFAULT;
  c.has_scale = o.scale.has_value() ? 1 : 0;
  c.scale = o.scale.value_or(0.0f);
  c.causal = static_cast<std::int32_t>(o.causal);
  c.window_left = o.window.left;
  c.window_right = o.window.right;
  c.softcap = o.softcap;
  c.threads = o.threads;
  c.mask = c_tensor(o.mask);
  c.bias = c_tensor(o.bias);
  c.k_scale = c_tensor(o.k_scale);
  c.v_scale = c_tensor(o.v_scale);
  const auto set = [](auto& data, std::int64_t& size, const auto& from) {
    data = from.data();
    size = static_cast<std::int64_t>(from.size());
  };
  set(c.sinks, c.sinks_size, o.sinks);
  set(c.alibi_slopes, c.alibi_slopes_size, o.alibi_slopes);
  set(c.key_lengths, c.key_lengths_size, o.key_lengths);
  set(c.cu_seqlens_q, c.cu_seqlens_q_size, o.cu_seqlens_q);
  set(c.cu_seqlens_k, c.cu_seqlens_k_size, o.cu_seqlens_k);
  set(c.block_table, c.block_table_size, o.block_table);
  return c;
}

// Room for every array of a trace.
struct TraceRoom {
  std::vector<float> lse, max, entropy, remainder, top_weights, received, block_mass, block_max;
  std::vector<std::int32_t> top_keys, visible;
  qkv_trace c = QKV_TRACE_DEFAULT;

  void allocate() {
    const auto take = [](auto& room, auto*& pointer, std::int64_t size) {
      room.assign(static_cast<std::size_t>(size), 77);
      pointer = room.data();
    };
    take(lse, c.lse, c.rows);
    take(max, c.max, c.rows);
    take(entropy, c.entropy, c.rows);
    take(remainder, c.remainder, c.rows);
    take(top_keys, c.top_keys, c.tops);
    take(top_weights, c.top_weights, c.tops);
    take(received, c.received, c.columns);
    take(visible, c.visible, c.columns);
    take(block_mass, c.block_mass, c.blocks);
    take(block_max, c.block_max, c.blocks);
  }
  Trace as_cpp() const {
    Trace t;
    t.batch = c.batch, t.heads = c.heads, t.queries = c.queries, t.keys = c.keys;
    t.top = c.top, t.block = c.block;
    t.lse = lse, t.max = max, t.entropy = entropy, t.remainder = remainder;
    t.top_keys = top_keys, t.top_weights = top_weights, t.received = received;
    t.visible = visible, t.block_mass = block_mass, t.block_max = block_max;
    return t;
  }
};

struct Views {
  TensorView query, key, value;
  AttentionOptions options;
};

// The call through C, with everything a trace can hold.
Result run_c(const Views& v, Tensor<float> out, std::int64_t rows) {
  Result r{std::move(out), std::vector<float>(static_cast<std::size_t>(rows), 777), {}};
  const qkv_tensor q = c_tensor(v.query);
  const qkv_tensor k = c_tensor(v.key);
  const qkv_tensor value = c_tensor(v.value);
  const qkv_options o = c_options(v.options);
  TraceRoom room;
  room.c.top = v.options.trace.top;
  room.c.block = v.options.trace.block;
  EXPECT_EQ(qkv_trace_sizes(&q, &k, &o, &room.c), QKV_OK) << qkv_last_error();
  room.allocate();
  qkv_output output = QKV_OUTPUT_DEFAULT;
  output.out = c_tensor(r.out.mutable_view());
  output.lse = r.lse.data();
  output.lse_size = rows;
  output.trace = &room.c;
  EXPECT_EQ(qkv_attention(&q, &k, &value, &o, &output), QKV_OK) << qkv_last_error();
  r.trace = room.as_cpp();
  return r;
}

Result run_cpp(const Views& v, Tensor<float> out, std::int64_t rows) {
  Result r{std::move(out), std::vector<float>(static_cast<std::size_t>(rows), 777), {}};
  attention(v.query, v.key, v.value, v.options, {r.out.mutable_view(), r.lse, &r.trace});
  return r;
}

TEST(CApi, CompilesAsC) {
  const char* wrong = qkv_c_compile();
  EXPECT_EQ(wrong, nullptr) << wrong;
}

TEST(CApi, TakesAPoolOfTheProgramsOwn) {
  const char* wrong = qkv_c_own_pool();
  EXPECT_EQ(wrong, nullptr) << wrong;
  EXPECT_EQ(qkv_default_threads(), default_threads());
}

TEST(CApiDeathTest, TellsHowManyThreadsThereAre) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // the environment is read once
  const auto ask_with = [](const char* value) {
    setenv("QKV_NUM_THREADS", value, 1);
    const int threads = qkv_default_threads();
    std::fputs(threads == 0 ? qkv_last_error() : "", stderr);
    _exit(threads);
  };
  EXPECT_EXIT(ask_with("3"), testing::ExitedWithCode(3), "");
  EXPECT_EXIT(ask_with("some"), testing::ExitedWithCode(0),
              "QKV_NUM_THREADS: expected a positive integer, got \"some\"");
}

TEST(CApi, RandomCallsHaveTheSameBits) {
  for (int i = 0; i < scaled(150); ++i) {
    const std::uint64_t seed = 7000 + static_cast<std::uint64_t>(i);
    SCOPED_TRACE("seed " + std::to_string(seed));
    Case c = random_case(seed);
    c.plain.trace.received = true;  // in C, an array that is given
    const Result expected = c.run();
    Views v{c.query.view(), c.key.view(), c.value.view(), c.options()};
    v.options.trace = c.plain.trace;
    const Result got = run_c(v, Tensor<float>(expected.out.shape(), c.out_layout),
                             static_cast<std::int64_t>(expected.lse.size()));
    EXPECT_EQ(difference(expected, got), "") << c.describe();
    EXPECT_FALSE(got.out.written_outside());

    const Sizes& s = c.sizes;
    const Tensor<float> tile({s.batch, s.heads(), s.queries, s.keys}, {});
    const Tensor<float> c_tile(tile.shape(), {});
    weights(v.query, v.key, v.options, expected.lse, {0, s.queries}, {0, s.keys},
            tile.mutable_view());
    const qkv_tensor q = c_tensor(v.query);
    const qkv_tensor k = c_tensor(v.key);
    const qkv_tensor to = c_tensor(c_tile.mutable_view());
    const qkv_options o = c_options(v.options);
    ASSERT_EQ(
        qkv_weights(&q, &k, &o, expected.lse.data(), static_cast<std::int64_t>(expected.lse.size()),
                    0, s.queries, 0, s.keys, &to),
        QKV_OK)
        << qkv_last_error();
    tile.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
      EXPECT_TRUE(same_bits(tile.at(b, h, t, d), c_tile.at(b, h, t, d)));
    });
  }
}

TEST(CApi, PackedSequencesHaveTheSameBits) {
  const Case c({1, 2, 2, 23, 31, 16, 9}, 3);
  const std::vector<std::int32_t> starts_q = {0, 5, 5, 23};
  const std::vector<std::int32_t> starts_k = {0, 9, 14, 31};
  Views v{c.query.view(), c.key.view(), c.value.view(), {}};
  v.options.cu_seqlens_q = starts_q;
  v.options.cu_seqlens_k = starts_k;
  v.options.causal = Causal::bottom_right;
  v.options.trace = {3, true, 8};
  const Shape4 shape = {1, 4, 23, 9};
  const Result expected = run_cpp(v, Tensor<float>(shape, {}), 4 * 23);
  const Result got = run_c(v, Tensor<float>(shape, {}), 4 * 23);
  EXPECT_EQ(difference(expected, got), "");
  EXPECT_EQ(got.trace.batch, 3);
  EXPECT_EQ(got.trace.queries, 18);
}

TEST(CApi, PagedInt8KeysHaveTheSameBits) {
  constexpr std::int64_t kPages = 6;
  constexpr std::int64_t kPage = 4;
  constexpr std::int64_t kDim = 8;
  const Case c({2, 1, 2, 3, 1, kDim, kDim}, 4);
  std::vector<std::int8_t> keys(kPages * kPage * kDim);
  std::vector<std::int8_t> values(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = static_cast<std::int8_t>(static_cast<int>(i * 37 % 255) - 127);
    values[i] = static_cast<std::int8_t>(static_cast<int>(i * 91 % 255) - 127);
  }
  const std::vector<float> scale = {0.02f};
  const std::vector<std::int32_t> table = {5, 0, 3, 1, 2, -1};
  const std::vector<std::int32_t> lengths = {11, 7};
  const Shape4 pool = {kPages, 1, kPage, kDim};
  Views v{c.query.view(),
          TensorView(keys.data(), DType::i8, pool, dense_strides(pool)),
          TensorView(values.data(), DType::i8, pool, dense_strides(pool)),
          {}};
  v.options.k_scale = v.options.v_scale = TensorView(scale.data(), Shape4{1, 1, 1, 1});
  v.options.block_table = table;
  v.options.key_lengths = lengths;
  v.options.trace = {2, true, 2};
  const Shape4 shape = {2, 2, 3, kDim};
  const Result expected = run_cpp(v, Tensor<float>(shape, {}), 12);
  const Result got = run_c(v, Tensor<float>(shape, {}), 12);
  EXPECT_EQ(difference(expected, got), "");
  EXPECT_EQ(got.trace.keys, 11);
}

TEST(CApi, HalfOutputs) {
  const Case c({1, 1, 2, 5, 7, 8, 8}, 5);
  const Result expected = c.run(false);
  std::vector<std::uint16_t> out(2 * 5 * 8);
  const qkv_tensor q = c_tensor(c.query.view());
  const qkv_tensor k = c_tensor(c.key.view());
  const qkv_tensor v = c_tensor(c.value.view());
  qkv_output output = QKV_OUTPUT_DEFAULT;
  output.out = qkv_dense(out.data(), QKV_BF16, 1, 2, 5, 8);
  ASSERT_EQ(qkv_attention(&q, &k, &v, nullptr, &output), QKV_OK) << qkv_last_error();
  std::size_t i = 0;
  expected.out.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
    const std::uint32_t bits = std::uint32_t{out[i++]} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    EXPECT_NEAR(x, expected.out.at(b, h, t, d), 0.004 * std::abs(x) + 1e-30);
  });
}

TEST(CApi, Merge) {
  const Case c({1, 1, 2, 5, 12, 8, 8}, 6);
  const Result whole = c.run(false);
  const Result left = c.part({0, 1}, {0, 1}, {0, 5}, {0, 7}).run(false);
  const Result right = c.part({0, 1}, {0, 1}, {0, 5}, {7, 12}).run(false);
  const Tensor<float> merged(whole.out.shape(), {});
  const Tensor<float> c_merged(whole.out.shape(), {});
  std::vector<float> lse(10);
  std::vector<float> c_lse(10);
  const std::vector<AttentionPart> parts = {{left.out.mutable_view(), left.lse},
                                            {right.out.mutable_view(), right.lse}};
  merge(parts, {merged.mutable_view(), lse, nullptr});
  std::array<qkv_part, 2> c_parts = {{QKV_PART_DEFAULT, QKV_PART_DEFAULT}};
  for (std::size_t i = 0; i < 2; ++i) {
    c_parts[i].out = c_tensor(parts[i].out);
    c_parts[i].lse = parts[i].lse.data();
    c_parts[i].lse_size = 10;
  }
  qkv_output output = QKV_OUTPUT_DEFAULT;
  output.out = c_tensor(c_merged.mutable_view());
  output.lse = c_lse.data();
  output.lse_size = 10;
  ASSERT_EQ(qkv_merge(c_parts.data(), 2, &output), QKV_OK) << qkv_last_error();
  EXPECT_TRUE(same_bits(lse, c_lse));
  merged.each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t d) {
    EXPECT_TRUE(same_bits(merged.at(b, h, t, d), c_merged.at(b, h, t, d)));
  });
  c_parts[1].struct_size = 8;
  EXPECT_EQ(qkv_merge(c_parts.data(), 2, &output), QKV_INVALID_ARGUMENT);
  EXPECT_NE(std::string(qkv_last_error()).find("parts[1].struct_size is 8"), std::string::npos);
  EXPECT_EQ(qkv_merge(nullptr, 2, &output), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_merge(nullptr, 0, &output), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_merge(c_parts.data(), -1, &output), QKV_INVALID_ARGUMENT);
  EXPECT_EQ(qkv_merge(c_parts.data(), 1, nullptr), QKV_INVALID_ARGUMENT);
}

TEST(CApi, GradientsHaveTheSameBits) {
  for (int seed = 1; seed <= scaled(60); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const BackwardCase c = BackwardCase::random(static_cast<std::uint64_t>(seed));
    const Gradients expected = c.run();
    Gradients got = c.run();  // its memory
    const auto blank = [](Tensor<float>& t) { t.fill([] { return 777.0f; }); };
    qkv_gradients to = QKV_GRADIENTS_DEFAULT;
    blank(got.d_query), to.d_query = c_tensor(got.d_query.mutable_view());
    blank(got.d_key), to.d_key = c_tensor(got.d_key.mutable_view());
    blank(got.d_value), to.d_value = c_tensor(got.d_value.mutable_view());
    if (c.call.bias.data() != nullptr)
      blank(got.d_bias), to.d_bias = c_tensor(got.d_bias.mutable_view());
    if (!c.call.sinks.empty()) {
      to.d_sinks = got.d_sinks.data();
      to.d_sinks_size = std::ssize(got.d_sinks);
    }
    const qkv_tensor q = c_tensor(c.call.query.view());
    const qkv_tensor k = c_tensor(c.call.key.view());
    const qkv_tensor v = c_tensor(c.call.value.view());
    const qkv_tensor d_out = c_tensor(c.d_out.view());
    const qkv_options o = c_options(c.call.options());
    qkv_part forward = QKV_PART_DEFAULT;
    forward.out = c_tensor(c.forward.out.view());
    forward.lse = c.forward.lse.data();
    forward.lse_size = std::ssize(c.forward.lse);
    ASSERT_EQ(qkv_attention_backward(&q, &k, &v, &o, &forward, &d_out,
                                     c.d_lse.empty() ? nullptr : c.d_lse.data(),
                                     std::ssize(c.d_lse), &to),
              QKV_OK)
        << qkv_last_error();
    EXPECT_EQ(difference(expected, got), "") << c.call.describe();
  }
}

TEST(CApi, InitialisersEqualTheMacros) {
  const qkv_options options = QKV_OPTIONS_DEFAULT;
  const qkv_trace trace = QKV_TRACE_DEFAULT;
  const qkv_output output = QKV_OUTPUT_DEFAULT;
  const qkv_part part = QKV_PART_DEFAULT;
  const qkv_gradients gradients = QKV_GRADIENTS_DEFAULT;
  const auto expect_same = [](const auto& wanted, auto init) {
    auto got = wanted;
    std::memset(&got, 0xff, sizeof got);
    EXPECT_EQ(init(&got, sizeof got), QKV_OK);
    EXPECT_EQ(std::memcmp(&got, &wanted, sizeof got), 0);
  };
  expect_same(options, qkv_options_init);
  expect_same(trace, qkv_trace_init);
  expect_same(output, qkv_output_init);
  expect_same(part, qkv_part_init);
  expect_same(gradients, qkv_gradients_init);
}

TEST(CApi, EachThreadHasItsOwnError) {
  qkv_attention(nullptr, nullptr, nullptr, nullptr, nullptr);
  const std::string mine = qkv_last_error();
  EXPECT_NE(mine, "");
  std::thread([] {
    EXPECT_STREQ(qkv_last_error(), "");
    qkv_options_init(nullptr, 0);
    EXPECT_NE(std::string(qkv_last_error()).find("options"), std::string::npos);
  }).join();
  EXPECT_EQ(mine, qkv_last_error());
}

TEST(CApi, NamesAndVersions) {
  EXPECT_EQ(qkv_isa(), isa());
  EXPECT_EQ(qkv_version(), version());
  EXPECT_EQ(qkv_c_abi_version(), QKV_C_ABI_VERSION);
  const auto names = supported_isas();
  for (std::size_t i = 0; i < names.size(); ++i)
    EXPECT_EQ(qkv_supported_isa(static_cast<int>(i)), names[i]);
  EXPECT_EQ(qkv_supported_isa(static_cast<int>(names.size())), nullptr);
  EXPECT_EQ(qkv_supported_isa(-1), nullptr);
}

}  // namespace
}  // namespace qkv::tests
