// What is measured: one line of the table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::bench {

enum class Kind { prefill, decode, trace };

// (batch, query heads, key/value heads, queries, keys, key width), the value's width where it differs, and the order.
struct Line {
  std::int64_t batch, heads, heads_kv, queries, keys, dim;
  bool causal = false;
  Kind kind = Kind::prefill;
  std::int64_t dim_v = dim;

  // "1,8,8,2048,2048,192:128 causal": what the table shows and --shapes looks in.
  std::string name() const;
  // Useful ones only: 2·Sq·Sk·(d + d_v) per head, half of it for causal.
  double flops() const;
  // What a pass over keys and values reads.
  double key_value_bytes() const;
};

// The lines of the targets: fp32 prefill, and with `all` decode and trace too, as information.
std::vector<Line> lines(bool all, bool quick);

// Those whose name contains one of the comma-and-semicolon list "1,8,8;causal"; everything if it is empty.
std::vector<Line> matching(const std::vector<Line>& lines, std::string_view filter);

// A line from its name. Throws std::invalid_argument.
Line parse_line(const std::string& name);

}  // namespace qkv::bench
