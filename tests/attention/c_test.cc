// The C door: the same bits as C++, and a status and a message where C++ throws. c_compile.c is its test in C.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qkv/c.h"
#include "qkv/isa.h"
#include "tests/attention/cases.h"

extern "C" const char* qkv_c_compile(void);

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

// One correct call; a test spoils one thing of it.
struct Call {
  std::vector<float> numbers = std::vector<float>(64, 0.5f);
  std::vector<float> written = std::vector<float>(64, 777);
  std::vector<float> lse = std::vector<float>(4, 777);
  std::vector<float> traced = std::vector<float>(4, 777);
  qkv_tensor query = qkv_dense(numbers.data(), QKV_F32, 1, 2, 2, 4);
  qkv_tensor key = qkv_dense(numbers.data(), QKV_F32, 1, 1, 3, 4);
  qkv_tensor value = key;
  qkv_options options = QKV_OPTIONS_DEFAULT;
  qkv_trace trace = QKV_TRACE_DEFAULT;
  qkv_output output = QKV_OUTPUT_DEFAULT;
  const qkv_tensor *q = &query, *k = &key, *v = &value;
  const qkv_options* o = &options;
  const qkv_output* to = &output;

  Call() {
    trace.rows = 4;
    trace.entropy = traced.data();
    output.out = qkv_dense(written.data(), QKV_F32, 1, 2, 2, 4);
    output.lse = lse.data();
    output.lse_size = 4;
    output.trace = &trace;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  int run() const { return qkv_attention(q, k, v, o, to); }
  bool untouched() const {
    for (const auto* values : {&written, &lse, &traced})
      for (const float x : *values)
        if (x != 777) return false;
    return true;
  }
};

TEST(CApi, WrongArgumentsGiveAStatusAndAMessage) {
  struct Wrong {
    std::function<void(Call&)> spoil;
    std::string says;
  };
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
      {[](Call& c) { c.options.has_scale = 1, c.options.scale = kNaN; }, "scale is not finite"},
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
  for (const Wrong& wrong : all) {
    Call call;
    wrong.spoil(call);
    SCOPED_TRACE(wrong.says);
    EXPECT_EQ(call.run(), QKV_INVALID_ARGUMENT);
    const std::string text = qkv_last_error();
    EXPECT_EQ(text.rfind("qkv_attention: ", 0), 0u) << text;
    EXPECT_NE(text.find(wrong.says), std::string::npos) << text;
    EXPECT_TRUE(call.untouched());
  }
  Call call;
  EXPECT_EQ(call.run(), QKV_OK) << qkv_last_error();
  EXPECT_NE(call.traced[0], 777);
  EXPECT_EQ(call.trace.columns, 6);
  call.o = nullptr;
  EXPECT_EQ(call.run(), QKV_OK) << "no options are the defaults";
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
