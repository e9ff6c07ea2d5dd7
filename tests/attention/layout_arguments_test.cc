// Types and their scales, packed sequences and pages: what is wrong is refused by name before anything is written.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "tests/attention/calls.h"

namespace qkv::tests {
namespace {

// query [1, 4, 10, 8] in two sequences, key [1, 2, 7, 8] too; out [1, 4, 10, 6].
struct Packed {
  std::vector<std::int32_t> q = {0, 4, 10}, k = {0, 3, 7};
};
void pack(Call& c, const Packed& packed) {
  c.query.shape = {1, 4, 10, 8};
  c.query.strides = dense_strides(c.query.shape);
  c.key.shape[0] = c.value.shape[0] = 1;
  c.output.out = MutableTensorView(c.written.data(), {1, 4, 10, 6});
  c.options.cu_seqlens_q = packed.q;
  c.options.cu_seqlens_k = packed.k;
}
std::function<void(Call&)> packed(Packed& lengths, const std::function<void(Call&)>& spoil) {
  return [&lengths, spoil](Call& c) {
    lengths = {};
    pack(c, lengths);
    spoil(c);
  };
}

// Pools of 3 pages of 4 tokens; two entries with 7 and 5 keys.
struct Paged {
  std::vector<std::int32_t> table = {2, 0, 1, 2}, lengths = {7, 5};
};
void page(Call& c, const Paged& paged) {
  c.key = TensorView(c.numbers.data(), Shape4{3, 2, 4, 8});
  c.value = TensorView(c.numbers.data(), Shape4{3, 2, 4, 6});
  c.options.block_table = paged.table;
  c.options.key_lengths = paged.lengths;
}
std::function<void(Call&)> paged(Paged& pages, const std::function<void(Call&)>& spoil) {
  return [&pages, spoil](Call& c) {
    pages = {};
    page(c, pages);
    spoil(c);
  };
}

TEST(Contract7, TypesAndTheirScales) {
  const std::vector<Wrong> all = {
      {"query of int8",
       [](Call& c) { c.query.dtype = DType::i8; },
       {"query", "int8", "expected float32, float16 or bfloat16"}},
      {"key of another float",
       [](Call& c) { c.key.dtype = DType::f16; },
       {"key", "float16 and query float32", "the same, or int8"}},
      {"a type there is none of",
       [](Call& c) { c.key.dtype = static_cast<DType>(9); },
       {"key", "unknown"}},
      {"int8 without a scale",
       [](Call& c) { c.key.dtype = DType::i8; },
       {"key is int8", "expected k_scale"}},
      {"a scale without int8",
       [](Call& c) {
         c.options.k_scale = TensorView(c.numbers.data(), Shape4{1, 1, 1, 1});
       },
       {"k_scale", "key is float32", "expected int8"}},
      {"scale of another type",
       [](Call& c) {
         use_int8(c);
         c.options.k_scale.dtype = DType::f16;
       },
       {"k_scale", "float16", "expected float32"}},
      {"scale of another shape",
       [](Call& c) {
         use_int8(c);
         c.options.k_scale.shape = {1, 2, 7, 8};
       },
       {"k_scale", "[1, 2, 7, 8]", "[2, 2, 7, 1]"}},
      {"a scale per query head",
       [](Call& c) {
         use_int8(c);
         c.options.k_scale.shape = {1, 4, 1, 1};
       },
       {"k_scale", "[1, 4, 1, 1]", "[2, 2, 7, 1]"}},
  };
  expect_refused("attention", &Call::run_attention, all);
  expect_refused("weights", &Call::run_weights, all);
  expect_refused("attention", &Call::run_attention,
                 {{"value without a scale",
                   [](Call& c) {
                     use_int8(c);
                     c.options.v_scale = {};
                   },
                   {"value is int8", "expected v_scale"}},
                  {"value of another float",
                   [](Call& c) { c.value.dtype = DType::bf16; },
                   {"value", "bfloat16 and query float32"}},
                  {"out of int8",
                   [](Call& c) { c.output.out.dtype = DType::i8; },
                   {"out", "int8", "expected float32"}}});
  expect_refused("weights", &Call::run_weights,
                 {{"out of halves",
                   [](Call& c) { c.tile.dtype = DType::f16; },
                   {"out", "float16", "expected float32"}}});
  expect_refused("merge", &Call::run_merge,
                 {{"a part of int8",
                   [](Call& c) { c.parts[0].out.dtype = DType::i8; },
                   {"parts[0].out", "int8", "expected float32"}}});
}

TEST(Contract7, PackedSequences) {
  Packed p;
  const std::vector<Wrong> all = {
      {"lengths fall",
       packed(p, [&](Call&) { p.q[1] = 11; }),
       {"cu_seqlens_q[2] is 10 after 11", "do not fall"}},
      {"keys fall",
       packed(p, [&](Call&) { p.k[1] = 8; }),
       {"cu_seqlens_k[2] is 7 after 8", "do not fall"}},
      {"not from 0", packed(p, [&](Call&) { p.q[0] = 1; }), {"cu_seqlens_q[0] is 1", "expected 0"}},
      {"negative", packed(p, [&](Call&) { p.k[0] = -1; }), {"cu_seqlens_k[0] is -1", "expected 0"}},
      {"too few tokens",
       packed(p, [&](Call&) { p.q[2] = 9; }),
       {"cu_seqlens_q ends with 9", "tokens, 10"}},
      {"beyond the tokens",
       packed(p, [&](Call&) { p.k[2] = 8; }),
       {"cu_seqlens_k ends with 8", "tokens, 7"}},
      {"no entry",
       packed(p, [&](Call& c) { c.options.cu_seqlens_q = std::span(p.q).first(0); }),
       {"cu_seqlens_q is empty"}},
      {"other numbers of sequences",
       packed(p,
              [&](Call& c) {
                p.k = {0, 7};
                c.options.cu_seqlens_k = p.k;
              }),
       {"key has batch 1 and query 2"}},
      {"a batch",
       packed(p, [](Call& c) { c.query.shape[0] = 2; }),
       {"query", "[2, 4, 10, 8]", "batch 1 with cu_seqlens_q"}},
      {"a mask",
       packed(p,
              [](Call& c) {
                c.options.mask = TensorView(c.bools, Shape4{1, 1, 1, 1});
              }),
       {"mask", "packed"}},
      {"a bias",
       packed(p,
              [](Call& c) {
                c.options.bias = TensorView(c.numbers.data(), Shape4{1, 1, 1, 1});
              }),
       {"bias", "packed"}},
      {"key_lengths too",
       packed(p, [](Call& c) { c.options.key_lengths = c.lengths; }),
       {"key_lengths and cu_seqlens_k"}},
  };
  expect_refused("attention", &Call::run_attention, all);
  expect_refused("weights", &Call::run_weights, all);
  expect_refused("attention_backward", &Call::run_backward, all);
  expect_refused("attention", &Call::run_attention,
                 {{"lse per sequence",
                   packed(p, [](Call& c) { c.output.lse = std::span(c.lse).first(30); }),
                   {"lse", "30", "= 40"}},
                  {"out of another total",
                   packed(p, [](Call& c) { c.output.out.shape[2] = 9; }),
                   {"out", "[1, 4, 9, 6]", "[1, 4, 10, 6]"}}});
  expect_refused("weights", &Call::run_weights,
                 {{"packed at all", packed(p, [](Call&) {}), {"packed sequences have no common"}}});
  Call fine;
  pack(fine, p = {});
  EXPECT_NO_THROW(fine.run_attention());
}

TEST(Contract7, PagedKeys) {
  Paged p;
  const std::vector<Wrong> all = {
      {"a page there is not",
       paged(p, [&](Call&) { p.table[3] = 3; }),
       {"block_table[1][1] is 3", "a page from 0 to 2"}},
      {"a negative page",
       paged(p, [&](Call&) { p.table[0] = -1; }),
       {"block_table[0][0] is -1", "a page from 0 to 2"}},
      {"more keys than pages",
       paged(p, [&](Call&) { p.lengths[1] = 9; }),
       {"key_lengths[1] is 9", "0 to 8", "pages hold"}},
      {"negative length",
       paged(p, [&](Call&) { p.lengths[0] = -2; }),
       {"key_lengths[0] is -2", "0 to 8"}},
      {"no lengths",
       paged(p, [](Call& c) { c.options.key_lengths = {}; }),
       {"block_table needs key_lengths"}},
      {"a ragged table",
       paged(p, [&](Call& c) { c.options.block_table = std::span(p.table).first(3); }),
       {"block_table has 3 entries", "2 batch entries"}},
      {"pages of no token",
       paged(p, [](Call& c) { c.key.shape[2] = 0; }),
       {"key", "[3, 2, 0, 8]", "pages of 1 to"}},
      {"pages beyond counting",
       paged(p,
             [](Call& c) {
               c.key.shape = {0, 2, std::int64_t{1} << 50, 8};
             }),
       {"key", "pages of 1 to"}},
      {"packed keys too",
       paged(p, [](Call& c) { c.options.cu_seqlens_k = c.lengths; }),
       {"block_table and cu_seqlens_k"}},
      {"a mask for other keys",
       paged(p,
             [](Call& c) {
               c.options.mask = TensorView(c.bools, Shape4{1, 1, 5, 8});
             }),
       {"mask", "[1, 1, 5, 8]", "[2, 4, 5, 7]"}},
  };
  expect_refused("attention", &Call::run_attention, all);
  expect_refused("weights", &Call::run_weights, all);
  Call fine;
  page(fine, p = {});
  p.table[3] = 2;
  EXPECT_NO_THROW(fine.run_attention());
  p.lengths[1] = 4;
  p.table[3] = 99;  // a page of no key is not looked at
  EXPECT_NO_THROW(fine.run_attention());
}

}  // namespace
}  // namespace qkv::tests
