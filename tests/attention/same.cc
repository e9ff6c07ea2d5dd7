// Whether two calls left the same bits.
#include <algorithm>
#include <cstring>
#include <string>

#include "tests/attention/cases.h"

namespace qkv::tests {

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return same_bits(x, y); });
}

std::string row_difference(const RowAt& a, const RowAt& b) {
  const std::size_t i = a.call->row(a.b, a.h, a.q);
  const std::size_t j = b.call->row(b.b, b.h, b.q);
  for (std::int64_t d = 0; d < a.call->sizes.dim_v; ++d)
    if (!same_bits(a.call->out_at(*a.result, a.b, a.h, a.q, d),
                   b.call->out_at(*b.result, b.b, b.h, b.q, d)))
      return "out[" + std::to_string(d) + "]";
  if (!same_bits(a.result->lse[i], b.result->lse[j])) return "lse";
  const Trace& s = a.result->trace;
  const Trace& t = b.result->trace;
  if (s.lse.empty() || t.lse.empty()) return "";
  if (!same_bits(s.lse[i], t.lse[j])) return "trace.lse";
  if (!same_bits(s.max[i], t.max[j])) return "trace.max";
  if (!same_bits(s.entropy[i], t.entropy[j])) return "trace.entropy";
  if (!same_bits(s.remainder[i], t.remainder[j])) return "trace.remainder";
  const auto top = static_cast<std::size_t>(s.top);
  for (std::size_t n = 0; n < top; ++n) {
    if (s.top_keys[i * top + n] != t.top_keys[j * top + n])
      return "trace.top_keys[" + std::to_string(n) + "]";
    if (!same_bits(s.top_weights[i * top + n], t.top_weights[j * top + n]))
      return "trace.top_weights[" + std::to_string(n) + "]";
  }
  return "";
}

std::string difference(const Result& a, const Result& b) {
  std::string found;
  a.out.each([&](std::int64_t i, std::int64_t h, std::int64_t t, std::int64_t d) {
    if (found.empty() && !same_bits(a.out.at(i, h, t, d), b.out.at(i, h, t, d)))
      found = "out at " + text_of({i, h, t, d});
  });
  const auto compare = [&](const char* name, bool same) {
    if (found.empty() && !same) found = name;
  };
  compare("lse", same_bits(a.lse, b.lse));
  compare("trace.lse", same_bits(a.trace.lse, b.trace.lse));
  compare("trace.max", same_bits(a.trace.max, b.trace.max));
  compare("trace.entropy", same_bits(a.trace.entropy, b.trace.entropy));
  compare("trace.top_keys", a.trace.top_keys == b.trace.top_keys);
  compare("trace.top_weights", same_bits(a.trace.top_weights, b.trace.top_weights));
  compare("trace.remainder", same_bits(a.trace.remainder, b.trace.remainder));
  compare("trace.received", same_bits(a.trace.received, b.trace.received));
  compare("trace.visible", a.trace.visible == b.trace.visible);
  compare("trace.block_mass", same_bits(a.trace.block_mass, b.trace.block_mass));
  compare("trace.block_max", same_bits(a.trace.block_max, b.trace.block_max));
  return found;
}

namespace {

// Received mass, visible counts and blocks of sequence b, and of the call of its own.
std::string sums_difference(const Case& c, const Trace& whole, std::int64_t b, const Case& alone,
                            const Trace& one) {
  const std::int64_t block = std::max(whole.block, 1);
  const auto blocks = [&](std::int64_t tokens) { return (tokens + block - 1) / block; };
  for (std::int64_t h = 0; h < c.sizes.heads(); ++h) {
    for (std::int64_t k = 0; k < c.key_length(b) && !whole.visible.empty(); ++k) {
      const std::size_t i = c.column(b, h, k);
      const std::size_t j = alone.column(0, h, k);
      if (whole.visible[i] != one.visible[j]) return "trace.visible of key " + std::to_string(k);
      if (!same_bits(whole.received[i], one.received[j]))
        return "trace.received of key " + std::to_string(k);
    }
    for (std::int64_t q = 0; q < blocks(c.sizes.queries) && whole.block > 0; ++q)
      for (std::int64_t k = 0; k < blocks(c.sizes.keys); ++k) {
        const auto i = static_cast<std::size_t>(
            ((b * c.sizes.heads() + h) * blocks(c.sizes.queries) + q) * blocks(c.sizes.keys) + k);
        const bool exists = q < blocks(alone.sizes.queries) && k < blocks(alone.sizes.keys);
        const auto j = static_cast<std::size_t>(
            (h * blocks(alone.sizes.queries) + q) * blocks(alone.sizes.keys) + k);
        if (!same_bits(whole.block_mass[i], exists ? one.block_mass[j] : 0.0f) ||
            !same_bits(whole.block_max[i], exists ? one.block_max[j] : 0.0f))
          return "trace.block_* at " + std::to_string(q) + ", " + std::to_string(k);
      }
  }
  return "";
}

}  // namespace

std::string difference_from_alone(const Case& c, const Result& r) {
  for (std::int64_t b = 0; b < c.sizes.batch; ++b) {
    const Case alone = c.alone(b);
    const Result one = alone.run(!r.trace.lse.empty());
    const std::string where =
        " of sequence " + std::to_string(b) + ", which is " + alone.describe();
    for (std::int64_t h = 0; h < c.sizes.heads(); ++h)
      for (std::int64_t q = 0; q < c.query_length(b); ++q) {
        const std::string found = row_difference({&c, &r, b, h, q}, {&alone, &one, 0, h, q});
        if (!found.empty())
          return found + " of row " + std::to_string(h) + ", " + std::to_string(q) + where;
      }
    if (r.trace.lse.empty()) continue;
    const std::string found = sums_difference(c, r.trace, b, alone, one.trace);
    if (!found.empty()) return found + where;
  }
  return "";
}

}  // namespace qkv::tests
