// What docs/numerics.md promises about gradients beside their size: bits, hidden pairs, types.
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "tests/attention/gradients.h"

namespace qkv::tests {
namespace {

// One message is enough.
void expect_bits(float got, float expected, const std::string& what, const Shape4& at) {
  if (testing::Test::HasFailure()) return;
  EXPECT_TRUE(same_bits(got, expected))
      << what << " at " << text_of(at) << ": " << got << " and " << expected;
}

TEST(BackwardBitwise, AnyNumberOfThreads) {
  for (int seed = 1; seed <= scaled(60) && !HasFailure(); ++seed) {
    const BackwardCase c = BackwardCase::random(static_cast<std::uint64_t>(seed), seed % 10 == 0);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.call.describe());
    const Gradients one = c.run(1);
    for (const int threads : {2, 3, 7})
      EXPECT_EQ(difference(one, c.run(threads)), "") << threads << " threads";
  }
}

// Few heads and many keys: threads take turns at d_query, again and again.
TEST(BackwardBitwise, ThreadsThatShareAHead) {
  for (const Causal causal : {Causal::no, Causal::bottom_right, Causal::top_left})
    for (const Window window : {Window{-1, -1}, Window{150, 10}}) {
      Case call({1, 1, 2, 700, 1300, 16, 8}, 3);
      call.plain.causal = causal;
      call.plain.window = window;
      BackwardCase c(std::move(call), 4);
      if (window.left < 0) c.store_as(DType::bf16);
      const Gradients one = c.run(1);
      for (int round = 0; round < scaled(5); ++round)
        for (const int threads : {2, 3, 7})
          ASSERT_EQ(difference(one, c.run(threads)), "") << threads << " threads";
    }
}

TEST(BackwardBitwise, ContiguousOrStrided) {
  for (int seed = 1; seed <= scaled(400) && !HasFailure(); ++seed) {
    const BackwardCase c = BackwardCase::random(static_cast<std::uint64_t>(seed));
    EXPECT_EQ(difference(c.run(), c.dense().run()), "")
        << "seed " << seed << ": " << c.call.describe();
  }
}

// The same numbers as part of a larger batch, and among more heads.
TEST(BackwardBitwise, WhateverElseIsInTheBatch) {
  for (int seed = 1; seed <= scaled(300) && !HasFailure(); ++seed) {
    const BackwardCase c = BackwardCase::random(static_cast<std::uint64_t>(seed));
    const Sizes& s = c.call.sizes;
    if (s.batch * s.heads_kv == 0) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.call.describe());
    const Gradients whole = c.run();
    Random random(static_cast<std::uint64_t>(seed));
    const std::int64_t b = random.below(static_cast<int>(s.batch));
    const std::int64_t g = random.below(static_cast<int>(s.heads_kv));
    BackwardCase part(c.call.part({b, b + 1}, {g, g + 1}, {0, s.queries}, {0, s.keys}), 0);
    part.d_out.each([&](std::int64_t, std::int64_t h, std::int64_t q, std::int64_t d) {
      part.d_out.at(0, h, q, d) = c.d_out.at(b, g * s.group + h, q, d);
    });
    part.d_out.store_as(c.d_out.dtype());
    if (!c.d_lse.empty())
      for (std::int64_t h = 0; h < s.group; ++h)
        for (std::int64_t q = 0; q < s.queries; ++q)
          part.d_lse.push_back(c.d_lse[row_index(s, b, g * s.group + h, q)]);
    const Gradients got = part.run();
    const auto compare = [&](const char* name, const Tensor<float>& some, const Tensor<float>& all,
                             std::int64_t first_head) {
      some.each([&](std::int64_t, std::int64_t h, std::int64_t t, std::int64_t d) {
        expect_bits(some.at(0, h, t, d), all.at(b, first_head + h, t, d), name, {b, h, t, d});
      });
    };
    compare("d_query", got.d_query, whole.d_query, g * s.group);
    compare("d_key", got.d_key, whole.d_key, g);
    compare("d_value", got.d_value, whole.d_value, g);
  }
}

// Order, window and key_lengths skip pairs; a mask that hides the same ones looks at them.
TEST(BackwardBitwise, HiddenByAnOptionOrByAMask) {
  for (int seed = 1; seed <= scaled(300) && !HasFailure(); ++seed) {
    BackwardCase c = BackwardCase::random(static_cast<std::uint64_t>(seed), seed % 30 == 0);
    c.call.slopes.clear();  // they need the positions
    c.forward = c.call.run(false);
    const Gradients expected = c.run();
    Case& call = c.call;
    const Sizes& s = call.sizes;
    Tensor<bool> mask({s.batch, s.heads(), s.queries, s.keys}, {});
    mask.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) {
      mask.at(b, h, q, k) = call.sees(b, h, q, k);
    });
    call.mask = std::move(mask);
    call.plain.causal = Causal::no;
    call.plain.window = {};
    call.key_lengths.clear();
    EXPECT_EQ(difference(expected, c.run()), "") << "seed " << seed << ": " << call.describe();
  }
}

// What nobody asks for changes nothing of the rest.
TEST(BackwardBitwise, EachGradientAlone) {
  Case call({2, 2, 2, 70, 150, 24, 40}, 3);
  call.plain.causal = Causal::bottom_right;
  call.sinks = {0.5f, -1, 0, 2};
  BackwardCase c(std::move(call), 4);
  for (int round = 0; round < 8; ++round) {
    if (round == 4) c.store_as(DType::bf16);
    const Gradients all = c.run();
    const int which = round % 4;
    Gradients some = c.run();
    const AttentionGradients to = {
        which == 0 ? some.d_query.mutable_view() : MutableTensorView(),
        which == 1 ? some.d_key.mutable_view() : MutableTensorView(),
        which == 2 ? some.d_value.mutable_view() : MutableTensorView(),
        {},
        which == 3 ? std::span<float>(some.d_sinks) : std::span<float>()};
    for (auto* t : {&some.d_query, &some.d_key, &some.d_value})
      if (t == (which == 0   ? &some.d_query
                : which == 1 ? &some.d_key
                : which == 2 ? &some.d_value
                             : nullptr))
        t->fill([] { return 777.0f; });
    attention_backward(c.call.query.view(), c.call.key.view(), c.call.value.view(),
                       c.call.options(), {c.forward.out.view(), c.forward.lse}, c.d_out.view(), to);
    EXPECT_EQ(difference(all, some), "") << which;
  }
}

TEST(BackwardBitwise, PackedSequencesAreTheSeparateOnes) {
  const std::vector<std::int32_t> starts_q = {0, 5, 5, 40, 140}, starts_k = {0, 7, 20, 20, 300};
  const std::int64_t heads_kv = 2;
  Case whole({1, heads_kv, 2, 140, 300, 24, 16}, 9);
  whole.plain.causal = Causal::bottom_right;
  whole.plain.softcap = 20;
  whole.sinks = {0.1f, 0.2f, 0.3f, 0.4f};
  whole.slopes = {0.1f, 0.2f, 0.3f, 0.4f};
  BackwardCase c(std::move(whole), 10);
  for (const DType type : {DType::f32, DType::bf16}) {
    c.store_as(type);
    const Case& call = c.call;
    AttentionOptions options = c.call.options();
    options.cu_seqlens_q = starts_q;
    options.cu_seqlens_k = starts_k;
    attention(call.query.view(), call.key.view(), call.value.view(), options,
              {c.forward.out.mutable_view(), c.forward.lse, nullptr});
    c.forward.out.read_back();
    for (const int threads : {1, 3}) {
      options.threads = threads;
      Gradients packed = c.run();
      for (auto* t : {&packed.d_query, &packed.d_key, &packed.d_value})
        t->fill([] { return 777.0f; });
      attention_backward(call.query.view(), call.key.view(), call.value.view(), options,
                         {c.forward.out.view(), c.forward.lse}, c.d_out.view(),
                         {packed.d_query.mutable_view(),
                          packed.d_key.mutable_view(),
                          packed.d_value.mutable_view(),
                          {},
                          packed.d_sinks});
      for (std::size_t n = 0; n + 1 < starts_q.size(); ++n) {
        const Range queries = {starts_q[n], starts_q[n + 1]};
        const Range keys = {starts_k[n], starts_k[n + 1]};
        BackwardCase one(call.part({0, 1}, {0, heads_kv}, queries, keys), 0);
        one.d_out.each([&](std::int64_t, std::int64_t h, std::int64_t q, std::int64_t d) {
          one.d_out.at(0, h, q, d) = c.d_out.at(0, h, queries.begin + q, d);
        });
        const Gradients expected = one.run();
        const auto compare = [&](const char* name, const Tensor<float>& some,
                                 const Tensor<float>& all, std::int64_t first) {
          some.each([&](std::int64_t, std::int64_t h, std::int64_t t, std::int64_t d) {
            expect_bits(some.at(0, h, t, d), all.at(0, h, first + t, d),
                        std::string(name) + " of sequence " + std::to_string(n), {0, h, t, d});
          });
        };
        compare("d_query", expected.d_query, packed.d_query, queries.begin);
        compare("d_key", expected.d_key, packed.d_key, keys.begin);
        compare("d_value", expected.d_value, packed.d_value, keys.begin);
      }
    }
  }
}

// NaN and Inf in keys, values, queries and gradients that a mask, order or length hides from others: not a bit of the others
// changes, and a key that nobody sees has gradient 0.
TEST(BackwardHidden, NothingComesThrough) {
  for (int seed = 1; seed <= scaled(60) && !HasFailure(); ++seed) {
    Random random(static_cast<std::uint64_t>(seed));
    Case call({2, 2, 2, 91, 150, 20, 12}, static_cast<std::uint64_t>(seed));
    if (random.chance(0.5)) call.plain.causal = Causal::bottom_right;
    if (random.chance(0.3)) call.plain.window = {40, 3};
    if (random.chance(0.3)) call.plain.softcap = 8;
    if (random.chance(0.3)) call.key_lengths = {130, 0};
    if (random.chance(0.3)) call.sinks = {1, 0, -1, 2};
    call.mask = Tensor<bool>({1, 1, 91, 150}, {});
    call.mask.fill([&] { return random.chance(0.5); });
    for (std::int64_t q = 0; q < 91; ++q) call.mask.at(0, 0, q, 11) = q == 77;  // one query sees it
    for (std::int64_t q = 0; q < 91; ++q) call.mask.at(0, 0, q, 12) = false;
    for (std::int64_t k = 0; k < 150; ++k) call.mask.at(0, 0, 33, k) = false;  // it sees nothing
    for (std::int64_t k = 0; k < 150; ++k) call.mask.at(0, 0, 44, k) = k == 5;
    BackwardCase clean(std::move(call), static_cast<std::uint64_t>(seed) + 1);
    if (seed % 2 == 0) clean.store_as(DType::bf16);
    const Gradients expected = clean.run();
    BackwardCase c = clean.dense();
    const auto spoil = [&](Tensor<float>& t, std::int64_t row) {
      t.each([&](std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t d) {
        if (r == row) t.at(b, h, r, d) = d % 3 == 0 ? kNaN : d % 3 == 1 ? kInfinity : -kInfinity;
      });
    };
    spoil(c.call.key, 12);  // nobody sees it
    spoil(c.call.value, 12);
    spoil(c.call.key, 11);  // query 77 does
    spoil(c.call.value, 11);
    spoil(c.call.query, 33);  // sees nothing
    spoil(c.d_out, 33);
    spoil(c.call.query, 44);  // sees key 5
    spoil(c.d_out, 44);
    c.forward = c.call.run(false);
    const Gradients got = c.run(random.between(1, 3));
    const Sizes& s = c.call.sizes;
    // what may be NaN: queries 77 and 44, and every key that they see
    const auto may = [&](std::int64_t b, std::int64_t g, std::int64_t k) {
      for (std::int64_t h = g * s.group; h < (g + 1) * s.group; ++h)
        for (const std::int64_t q : {77, 44})
          if (c.call.sees(b, h, q, k)) return true;
      return false;
    };
    got.d_query.each([&](std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) {
      if (q != 77 && q != 44)
        expect_bits(got.d_query.at(b, h, q, d), expected.d_query.at(b, h, q, d), "d_query",
                    {b, h, q, d});
      if (q == 33) expect_bits(got.d_query.at(b, h, q, d), 0, "d_query", {b, h, q, d});
    });
    const auto check_keys = [&](const Tensor<float>& some, const Tensor<float>& all) {
      some.each([&](std::int64_t b, std::int64_t g, std::int64_t k, std::int64_t d) {
        if (!may(b, g, k))
          expect_bits(some.at(b, g, k, d), all.at(b, g, k, d), "key", {b, g, k, d});
        if (k == 12) expect_bits(some.at(b, g, k, d), 0, "key", {b, g, k, d});
      });
    };
    check_keys(got.d_key, expected.d_key);
    check_keys(got.d_value, expected.d_value);
  }
}

// 16-bit numbers widen exactly: float gradients have the bits that the same numbers as floats give (but for the dot instruction
// of bfloat16), and 16-bit gradients are those, rounded once.
TEST(BackwardTypes, SixteenBitsAreTheirFloatsAndAreRoundedOnce) {
  for (const DType type : {DType::f16, DType::bf16}) {
    const auto narrow = [&](float x) {
      return type == DType::f16 ? kernels::float_to_half(x) : kernels::float_to_bfloat16(x);
    };
    const auto widen = [&](std::uint16_t x) {
      return type == DType::f16 ? kernels::half_to_float(x) : kernels::bfloat16_to_float(x);
    };
    Case call({2, 2, 2, 70, 140, 20, 12}, 5);
    call.plain.causal = Causal::bottom_right;
    std::vector<std::vector<std::uint16_t>> stored;
    const auto store = [&](Tensor<float>& t) {
      stored.emplace_back();
      t.each([&](std::int64_t b, std::int64_t h, std::int64_t n, std::int64_t d) {
        stored.back().push_back(narrow(t.at(b, h, n, d)));
        t.at(b, h, n, d) = widen(stored.back().back());
      });
    };
    for (Tensor<float>* t : {&call.query, &call.key, &call.value}) store(*t);
    BackwardCase c(std::move(call), 6);
    store(c.forward.out);
    store(c.d_out);
    Gradients expected = c.run();
    const auto view = [&](std::size_t i, const Tensor<float>& like) {
      return TensorView(stored[i].data(), type, like.shape(), dense_strides(like.shape()));
    };
    const TensorView query = view(0, c.call.query), key = view(1, c.call.key),
                     value = view(2, c.call.value);
    const AttentionForward forward = {view(3, c.forward.out), c.forward.lse};
    Gradients floats = c.run();
    for (auto* t : {&floats.d_query, &floats.d_key, &floats.d_value}) t->fill([] { return 7.0f; });
    attention_backward(query, key, value, c.call.options(), forward, view(4, c.d_out),
                       {floats.d_query.mutable_view(),
                        floats.d_key.mutable_view(),
                        floats.d_value.mutable_view(),
                        {},
                        {}});
    if (type == DType::bf16 && kernels::kernels().pairs != nullptr)
      expected = std::move(floats);
    else
      EXPECT_EQ(difference(expected, floats), "") << name_of(type);

    std::vector<std::uint16_t> d[3];
    const Tensor<float>* const all[3] = {&expected.d_query, &expected.d_key, &expected.d_value};
    MutableTensorView to[3];
    for (std::size_t i = 0; i < 3; ++i) {
      d[i].resize(static_cast<std::size_t>(elements(all[i]->shape())));
      to[i] = {d[i].data(), type, all[i]->shape(), dense_strides(all[i]->shape())};
    }
    attention_backward(query, key, value, c.call.options(), forward, view(4, c.d_out),
                       {to[0], to[1], to[2], {}, {}});
    for (std::size_t i = 0; i < 3; ++i) {
      std::size_t n = 0;
      all[i]->each([&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t k) {
        expect_bits(widen(d[i][n++]), widen(narrow(all[i]->at(b, h, t, k))),
                    std::string(name_of(type)) + " gradient " + std::to_string(i), {b, h, t, k});
      });
    }
  }
}

}  // namespace
}  // namespace qkv::tests
