// Line 5 of docs/numerics.md for few queries: decode gives the bits of prefill, for every option, type and way in which keys
// are stored, and for any number of threads. A call with a trace goes through panels, the same call without one through
// decode.cc.
#include "attention/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "tests/attention/cases.h"

namespace qkv::tests {
namespace {

// A tensor's numbers in another type, dense. int8 is number·40, rounded.
std::vector<std::byte> stored(const Tensor<float>& t, DType dtype) {
  std::vector<std::byte> bytes;
  t.each([&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t d) {
    const float x = t.at(b, h, i, d);
    const auto append = [&](const auto& number) {
      const auto* from = reinterpret_cast<const std::byte*>(&number);
      bytes.insert(bytes.end(), from, from + sizeof number);
    };
    if (dtype == DType::f32) append(x);
    if (dtype == DType::f16) append(kernels::float_to_half(x));
    if (dtype == DType::bf16) append(kernels::float_to_bfloat16(x));
    if (dtype == DType::i8) append(static_cast<std::int8_t>(x * 40));
  });
  return bytes;
}

TensorView view_of(const std::vector<std::byte>& bytes, DType dtype, const Shape4& shape) {
  static const std::byte nothing{};
  return {bytes.empty() ? &nothing : bytes.data(), dtype, shape, dense_strides(shape)};
}

// One call in one type; NaN in the numbers of c stays where the type has it.
class Typed {
 public:
  Typed(const Case& c, DType dtype)
      : call(c),
        key_type(dtype),
        query_type(dtype == DType::i8 ? DType::f32 : dtype),
        query(stored(c.query, query_type)),
        key(stored(c.key, dtype)),
        value(stored(c.value, dtype)),
        options(c.options()),
        key_shape(c.key.shape()),
        value_shape(c.value.shape()) {
    if (dtype != DType::i8) return;
    Random random(9);
    for (std::vector<float>* scale : {&k_scale, &v_scale}) {
      scale->resize(static_cast<std::size_t>(c.sizes.batch * c.sizes.heads_kv * c.sizes.keys) + 1);
      for (float& s : *scale) s = random.uniform(0.01f, 0.05f);
    }
    const Shape4 shape = {key_shape[0], key_shape[1], key_shape[2], 1};
    options.k_scale = TensorView(k_scale.data(), shape);
    options.v_scale = TensorView(v_scale.data(), shape);
  }

  Result run(bool traced, int threads) {
    Result r;
    const Sizes& s = call.sizes;
    r.out = Tensor<float>({s.batch, s.heads(), s.queries, s.dim_v}, {});
    r.lse.assign(static_cast<std::size_t>(s.batch * s.heads() * s.queries), 777);
    options.threads = threads;
    options.trace = {};
    Trace trace;
    attention(view_of(query, query_type, call.query.shape()), view_of(key, key_type, key_shape),
              view_of(value, key_type, value_shape), options,
              {r.out.mutable_view(), r.lse, traced ? &trace : nullptr});
    return r;
  }

  // Untraced, with bfloat16 in pairs.
  Result run_dots(const kernels::Bf16DotKernels* dots, int threads) {
    Result r;
    const Sizes& s = call.sizes;
    r.out = Tensor<float>({s.batch, s.heads(), s.queries, s.dim_v}, {});
    r.lse.assign(static_cast<std::size_t>(s.batch * s.heads() * s.queries), 777);
    const AttentionOutput output{r.out.mutable_view(), r.lse, nullptr};
    const Problem p = attention_problem(view_of(query, query_type, call.query.shape()),
                                        view_of(key, key_type, key_shape),
                                        view_of(value, key_type, value_shape), options, output);
    decode(p, out_rows(p, output.out), r.lse.data(), threads, dots);
    return r;
  }

  // Keys and values as pages of `page` tokens, in an order of their own.
  void use_pages(std::int64_t page) {
    key = stored(call.key, key_type);
    value = stored(call.value, key_type);
    const Sizes& s = call.sizes;
    const std::int64_t per_entry = (s.keys + page - 1) / page;
    const std::int64_t pages = s.batch * per_entry + 1;
    table.resize(static_cast<std::size_t>(s.batch * per_entry));
    for (std::size_t i = 0; i < table.size(); ++i)  // 7 is prime to most counts, else 1
      table[i] = static_cast<std::int32_t>((static_cast<std::int64_t>(i) * 7 + 3) % pages);
    if (std::gcd(std::int64_t{7}, pages) != 1) std::iota(table.rbegin(), table.rend(), 0);
    const auto cut = [&](const std::vector<std::byte>& from, std::size_t row) {
      std::vector<std::byte> pool(static_cast<std::size_t>(pages * s.heads_kv * page) * row,
                                  std::byte{0xff});  // NaN between the tokens
      for (std::int64_t b = 0; b < s.batch; ++b)
        for (std::int64_t h = 0; h < s.heads_kv; ++h)
          for (std::int64_t k = 0; k < s.keys; ++k) {
            const std::int64_t at =
                (table[static_cast<std::size_t>(b * per_entry + k / page)] * s.heads_kv + h) *
                    page +
                k % page;
            std::memcpy(
                pool.data() + static_cast<std::size_t>(at) * row,
                from.data() + static_cast<std::size_t>((b * s.heads_kv + h) * s.keys + k) * row,
                row);
          }
      return pool;
    };
    const auto size = static_cast<std::size_t>(size_of(key_type));
    key = cut(key, static_cast<std::size_t>(s.dim) * size);
    value = cut(value, static_cast<std::size_t>(s.dim_v) * size);
    key_shape = {pages, s.heads_kv, page, s.dim};
    value_shape = {pages, s.heads_kv, page, s.dim_v};
    if (key_type == DType::i8)
      for (std::vector<float>* scale : {&k_scale, &v_scale}) {
        std::vector<std::byte> bytes(scale->size() * sizeof(float));
        std::memcpy(bytes.data(), scale->data(), bytes.size());
        bytes = cut(bytes, sizeof(float));
        scale->resize(bytes.size() / sizeof(float));
        std::memcpy(scale->data(), bytes.data(), bytes.size());
        (scale == &k_scale ? options.k_scale : options.v_scale) =
            TensorView(scale->data(), {pages, s.heads_kv, page, 1});
      }
    options.block_table = table;
    if (call.key_lengths.empty()) {
      lengths.assign(static_cast<std::size_t>(s.batch), static_cast<std::int32_t>(s.keys));
      options.key_lengths = lengths;
    }
  }

 private:
  const Case& call;
  DType key_type, query_type;
  std::vector<std::byte> query, key, value;
  AttentionOptions options;
  Shape4 key_shape, value_shape;
  std::vector<float> k_scale, v_scale;
  std::vector<std::int32_t> table, lengths;
};

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::i8};

// Every option alone and all together, by name.
std::vector<std::pair<std::string, std::function<void(Case&, Random&)>>> options() {
  const auto heads = [](Case& c, Random& random, std::vector<float>& to, float low, float high) {
    for (std::int64_t h = 0; h < c.sizes.heads(); ++h) to.push_back(random.uniform(low, high));
  };
  const auto scores = [](const Case& c) {
    return Shape4{c.sizes.batch, c.sizes.heads(), c.sizes.queries, c.sizes.keys};
  };
  using Change = std::function<void(Case&, Random&)>;
  const Change causal = [](Case& c, Random&) { c.plain.causal = Causal::bottom_right; };
  const Change window = [](Case& c, Random&) { c.plain.window = {700, 3}; };
  const Change softcap = [](Case& c, Random&) { c.plain.softcap = 3; };
  const Change mask = [=](Case& c, Random& random) {
    c.mask = Tensor<bool>(scores(c), {});
    c.mask.fill([&] { return random.chance(0.6); });
  };
  const Change bias = [=](Case& c, Random& random) {
    c.bias = Tensor<float>(scores(c), {});
    c.bias.fill([&] { return random.chance(0.2) ? -kInfinity : random.normal(); });
  };
  const Change alibi = [=](Case& c, Random& random) { heads(c, random, c.slopes, 0, 0.2f); };
  const Change sinks = [=](Case& c, Random& random) { heads(c, random, c.sinks, -2, 9); };
  // the last entry has every key: pools of pages know no other number of them
  const Change lengths = [](Case& c, Random& random) {
    const auto keys = static_cast<int>(c.sizes.keys);
    for (std::int64_t b = 1; b < c.sizes.batch; ++b)
      c.key_lengths.push_back(random.chance(0.3) ? 0 : random.between(0, keys));
    c.key_lengths.push_back(keys);
  };
  return {
      {"none", [](Case&, Random&) {}},
      {"causal", causal},
      {"top-left", [](Case& c, Random&) { c.plain.causal = Causal::top_left; }},
      {"window", window},
      {"softcap", softcap},
      {"mask", mask},
      {"bias", bias},
      {"alibi", alibi},
      {"sinks", sinks},
      {"key_lengths", lengths},
      {"scale", [](Case& c, Random&) { c.plain.scale = -0.3f; }},
      {"all", [=](Case& c, Random& random) {
         for (const Change& change : {causal, window, softcap, mask, bias, alibi, sinks, lengths})
           change(c, random);
       }}};
}

// Whether case number i of a loop is run: all of them, or a share as scaled() says.
bool is_run(std::uint64_t i) {
  const int of_hundred = scaled(100);
  return of_hundred >= 100 || i % static_cast<std::uint64_t>(100 / of_hundred) == 0;
}

void expect_bits_of_prefill(const Case& c, DType dtype, std::int64_t page) {
  Typed call(c, dtype);
  const Result expected = call.run(true, 1);
  if (page > 0) call.use_pages(page);
  for (const int threads : {1, 3})
    ASSERT_EQ(difference(expected, call.run(false, threads)), "")
        << name_of(dtype) << ", " << threads << " threads, pages of " << page << ": "
        << c.describe();
}

TEST(Contract5Bitwise, DecodeGivesTheBitsOfPrefillForEveryOptionAndType) {
  constexpr Sizes kSizes[] = {{2, 2, 4, 1, 2300, 64, 64}, {2, 1, 3, 3, 1400, 40, 24},
                              {3, 2, 1, 1, 130, 128, 7},  {1, 1, 9, 8, 200, 17, 33},
                              {2, 2, 2, 2, 5, 3, 100},    {2, 1, 2, 2, 0, 8, 8}};
  std::uint64_t seed = 1;
  for (const Sizes& sizes : kSizes)
    for (const auto& [name, change] : options())
      for (const DType dtype : kTypes) {
        SCOPED_TRACE(name);
        if (!is_run(++seed)) continue;
        Random random(seed);
        Case c(sizes, seed);
        change(c, random);
        ASSERT_TRUE(is_decode(c.problem()));
        expect_bits_of_prefill(c, dtype, 0);
        if (HasFailure()) return;
      }
}

TEST(Contract5Bitwise, DecodeFromPages) {
  constexpr Sizes kSizes[] = {{2, 2, 4, 1, 1300, 64, 64}, {2, 1, 3, 3, 400, 40, 24}};
  std::uint64_t seed = 100;
  for (const Sizes& sizes : kSizes)
    for (const auto& [name, change] : options())
      for (const std::int64_t page : {1, 7, 16, 64, 1000}) {
        SCOPED_TRACE(name);
        if (!is_run(++seed)) continue;
        Random random(seed);
        Case c(sizes, seed);
        change(c, random);
        expect_bits_of_prefill(c, kTypes[seed % 4], page);
        if (HasFailure()) return;
      }
}

// NaN and Inf in keys and values that a row does not see change none of its bits; where it sees them, both ways give NaN.
TEST(Contract5Bitwise, DecodeWithNanAndInf) {
  std::uint64_t seed = 200;
  for (const auto& [name, change] : options())
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
      for (const std::int64_t page : {0, 5, 16}) {
        SCOPED_TRACE(name);
        if (!is_run(++seed)) continue;
        Random random(seed);
        Case c({2, 2, 3, 2, 1100, 20, 36}, seed);
        change(c, random);
        for (int i = 0; i < 30; ++i) {
          const std::int64_t k = random.below(1100);
          c.key.at(i % 2, i % 2, k, random.below(20)) = i % 3 == 0 ? kInfinity : kNaN;
          c.value.at(i % 2, (i + 1) % 2, random.below(1100), random.below(36)) =
              i % 3 == 0 ? -kInfinity : kNaN;
        }
        expect_bits_of_prefill(c, dtype, page);
        if (HasFailure()) return;
      }
}

// Pairs of bfloat16 through the CPU's dot product and through its specification: the same bits, with every option, for any
// number of threads and pages; and near what widened numbers give.
TEST(Decode, PairsOfBfloat16) {
  const kernels::Bf16DotKernels* const cpu = kernels::bf16_dot_kernels_of("avx512_bf16");
  if (cpu == nullptr) GTEST_SKIP() << "this CPU has no bfloat16 dot product";
  constexpr Sizes kSizes[] = {{2, 2, 4, 1, 1100, 64, 64}, {2, 1, 3, 3, 300, 33, 21}};
  std::uint64_t seed = 300;
  for (const Sizes& sizes : kSizes)
    for (const auto& [name, change] : options())
      for (const bool with_nan : {false, true}) {
        SCOPED_TRACE(name);
        Random random(++seed);
        Case c(sizes, seed);
        change(c, random);
        for (int i = 0; i < 9 && with_nan; ++i)
          c.value.at(1, 0, random.below(static_cast<int>(sizes.keys)), i) = kNaN;
        Typed call(c, DType::bf16);
        const Result widened = call.run(false, 1);
        const Result expected = call.run_dots(kernels::bf16_dot_kernels_of("scalar"), 1);
        for (const std::int64_t page : {0, 7, 16}) {
          if (page > 0) call.use_pages(page);
          for (const int threads : {1, 3})
            ASSERT_EQ(difference(expected, call.run_dots(cpu, threads)), "") << "page " << page;
        }
        // weights are rounded to 8 bits, so that out is off by 2^−9 of Σ weight·|value| ≤ 5, and by roundings of the scores
        expected.out.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
          const float x = expected.out.at(b, h, q, d), y = widened.out.at(b, h, q, d);
          ASSERT_TRUE(std::isnan(x) == std::isnan(y) && !(std::fabs(x - y) > 0.02f))
              << x << " " << y;
        });
      }
}

// Packed sequences of different lengths, one of them empty: each row as if its sequence were alone.
TEST(Contract5Bitwise, DecodeOfPackedSequences) {
  const std::vector<std::int32_t> starts_q = {0, 1, 4, 4, 6},
                                  starts_k = {0, 1200, 1230, 1240, 1240};
  const Case c({1, 2, 3, 6, 1240, 33, 20}, 7);
  for (const Causal causal : {Causal::no, Causal::bottom_right}) {
    AttentionOptions o;
    o.causal = causal;
    o.cu_seqlens_q = starts_q;
    o.cu_seqlens_k = starts_k;
    Result whole;
    whole.out = Tensor<float>({1, 6, 6, 20}, {});
    whole.lse.assign(36, 777);
    for (const int threads : {1, 2, 5}) {
      o.threads = threads;
      attention(c.query.view(), c.key.view(), c.value.view(), o,
                {whole.out.mutable_view(), whole.lse, nullptr});
      for (std::size_t i = 0; i + 1 < starts_q.size(); ++i) {
        Case part =
            c.part({0, 1}, {0, 2}, {starts_q[i], starts_q[i + 1]}, {starts_k[i], starts_k[i + 1]});
        part.plain.causal = causal;
        const Result alone = part.run(true);
        for (std::int64_t h = 0; h < 6; ++h)
          for (std::int64_t q = 0; q < part.sizes.queries; ++q) {
            const std::int64_t row = starts_q[i] + q;
            ASSERT_TRUE(same_bits(alone.lse[row_index(part.sizes, 0, h, q)],
                                  whole.lse[static_cast<std::size_t>(h * 6 + row)]));
            for (std::int64_t d = 0; d < 20; ++d)
              ASSERT_TRUE(same_bits(alone.out.at(0, h, q, d), whole.out.at(0, h, row, d)));
          }
      }
    }
  }
}

}  // namespace
}  // namespace qkv::tests
