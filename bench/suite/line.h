// What is measured: one line of the table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace qkv::bench {

// call: so little to compute that what matters is what a call costs before it begins, and that threads do no harm.
enum class Kind { prefill, decode, backward, trace, call };
// What query, key, value and output are stored as; i8: keys and values only, with a scale per row, the rest fp32.
enum class Type { f32, bf16, f16, i8 };

std::string_view name_of(Kind kind);
std::string_view name_of(Type type);  // "fp32", "bf16", "fp16", "int8"

// Of one element of a key or value.
constexpr std::int64_t size_of(Type type) {
  return type == Type::f32 ? 4 : type == Type::i8 ? 1 : 2;
}

// (batch, query heads, key/value heads, queries, keys, key width), the value's width where it differs, and the order.
struct Line {
  std::int64_t batch, heads, heads_kv, queries, keys, dim;
  bool causal = false;
  Type type = Type::f32;
  Kind kind = Kind::prefill;
  std::int64_t dim_v = dim;

  // "1,8,8,2048,2048,192:128 causal bf16 backward": what the table shows and parse_line reads. What goes without saying is
  // left out: fp32, and the kind that the number of queries suggests.
  std::string name() const;
  // The same with nothing left out: what --shapes looks in.
  std::string full_name() const;
  // Useful ones only: 2·Sq·Sk·(d + d_v) per head, half of it for causal; 2.5 times as many for backward, whose five products
  // (scores again, d_value, d_weights, d_query, d_key) stand beside two.
  double flops() const;
  // What a pass over keys and values reads, without the scales of int8.
  double key_value_bytes() const;

  bool operator==(const Line&) const = default;
};

// One query is a step of decoding, more are prefill.
constexpr Kind usual_kind(std::int64_t queries) {
  return queries == 1 ? Kind::decode : Kind::prefill;
}

// A line from its name. Throws std::invalid_argument.
Line parse_line(const std::string& name);

}  // namespace qkv::bench
