#include "attention/problem.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

namespace qkv {
namespace {

constexpr std::int64_t kMaxDim = 1024;
constexpr std::int64_t kMaxTokens = std::numeric_limits<std::int32_t>::max() - 4096;
constexpr int kMaxTop = 1024;

// Product of sizes that are not negative; less than 0 where it does not fit.
std::int64_t elements(const Shape4& s) {
  std::int64_t product = 1;
  for (const std::int64_t size : s)
    if (__builtin_mul_overflow(product, size, &product)) return -1;
  return product;
}

void check_float_rows(const char* function, const char* name, const TensorView& t) {
  if (t.dtype != DType::f32)
    fail(function, std::string(name) + " has elements of type " + std::string(name_of(t.dtype)) +
                       "; expected float32");
  for (std::size_t i = 0; i < 4; ++i)
    if (t.shape[i] < 0)
      fail(function, std::string(name) + " has a negative size in its shape " + text_of(t.shape));
  if (elements(t.shape) < 0)
    fail(function, std::string(name) + " has too many elements: shape " + text_of(t.shape));
  if (t.data == nullptr && elements(t.shape) > 0)
    fail(function,
         std::string(name) + " of shape " + text_of(t.shape) + " has no data (null pointer)");
  if (t.shape[3] > 1 && t.strides[3] != 1)
    fail(function, std::string(name) + " has stride " + std::to_string(t.strides[3]) +
                       " in its last dimension; expected 1 (contiguous)");
}

void check_dim(const char* function, const char* name, std::int64_t dim) {
  if (dim < 1 || dim > kMaxDim)
    fail(function, std::string(name) + " has head dimension " + std::to_string(dim) +
                       "; expected 1 to " + std::to_string(kMaxDim));
}

// mask and bias: every dimension as in the scores, or 1.
template <class T>
ScoreTerm<T> score_term(const char* function, const char* name, const TensorView& t, DType dtype,
                        const Shape4& scores) {
  ScoreTerm<T> term;
  if (!t) return term;
  if (t.dtype != dtype)
    fail(function, std::string(name) + " has elements of type " + std::string(name_of(t.dtype)) +
                       "; expected " + std::string(name_of(dtype)));
  for (std::size_t i = 0; i < 4; ++i) {
    if (t.shape[i] != scores[i] && t.shape[i] != 1)
      fail(function, std::string(name) + " has shape " + text_of(t.shape) +
                         "; expected one that repeats to " + text_of(scores) +
                         " (each size equal or 1)");
    term.strides[i] = t.shape[i] == 1 ? 0 : t.strides[i];
  }
  term.data = static_cast<const T*>(t.data);
  return term;
}

template <class T>
const T* per_entry(const char* function, const char* name, std::span<const T> values,
                   std::int64_t count, const char* of_what) {
  if (values.data() == nullptr) return nullptr;
  if (static_cast<std::int64_t>(values.size()) != count)
    fail(function, std::string(name) + " has " + std::to_string(values.size()) +
                       " entries; expected one for each of the " + std::to_string(count) + " " +
                       of_what);
  return values.data();
}

}  // namespace

void fail(const char* function, const std::string& what) {
  throw std::invalid_argument(std::string("qkv::") + function + ": " + what);
}

std::string text_of(const Shape4& shape) {
  return "[" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " +
         std::to_string(shape[2]) + ", " + std::to_string(shape[3]) + "]";
}

void check_tensor(const char* function, const char* name, const TensorView& t,
                  const Shape4& shape) {
  if (t.shape != shape)
    fail(function,
         std::string(name) + " has shape " + text_of(t.shape) + "; expected " + text_of(shape));
  check_float_rows(function, name, t);
}

void check_output(const char* function, const TensorView& out, const Shape4& shape) {
  check_tensor(function, "out", out, shape);
  for (std::size_t i = 0; i < 3; ++i)
    if (elements(shape) > 0 && shape[i] > 1 && out.strides[i] == 0)
      fail(function, "out has stride 0 in dimension " + std::to_string(i) + " of shape " +
                         text_of(shape) + "; expected a place for each entry");
}

Range Problem::visible(std::int64_t b, std::int64_t q) const {
  const std::int64_t at = position(b, q);
  std::int64_t begin = 0;
  std::int64_t end = keys_of(b);
  if (causal != Causal::no) end = std::min(end, at + 1);
  if (window.left >= 0) begin = std::max(begin, at - window.left);
  if (window.right >= 0) end = std::min(end, at + window.right + 1);
  return begin < end ? Range{begin, end} : Range{0, 0};
}

bool Problem::hidden(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const {
  const Range seen = visible(b, q);
  if (k < seen.begin || k >= seen.end) return true;
  if (mask.data != nullptr && !mask.row(b, h, q)[k * mask.strides[3]]) return true;
  return bias.data != nullptr &&
         bias.row(b, h, q)[k * bias.strides[3]] == -std::numeric_limits<float>::infinity();
}

Problem score_problem(const char* function, const TensorView& query, const TensorView& key,
                      const AttentionOptions& options) {
  check_float_rows(function, "query", query);
  check_float_rows(function, "key", key);
  Problem p;
  p.batch = query.shape[0];
  p.heads = query.shape[1];
  p.heads_kv = key.shape[1];
  p.queries = query.shape[2];
  p.keys = key.shape[2];
  check_dim(function, "query", query.shape[3]);
  if (key.shape[0] != p.batch)
    fail(function, "key has batch " + std::to_string(key.shape[0]) + " and query " +
                       std::to_string(p.batch) + "; expected the same");
  if (key.shape[3] != query.shape[3])
    fail(function, "key has head dimension " + std::to_string(key.shape[3]) + " and query " +
                       std::to_string(query.shape[3]) + "; expected the same");
  if (p.heads_kv == 0 ? p.heads != 0 : p.heads % p.heads_kv != 0)
    fail(function, "query has " + std::to_string(p.heads) + " heads and key " +
                       std::to_string(p.heads_kv) + "; expected a multiple of the key's heads");
  if (p.queries > kMaxTokens || p.keys > kMaxTokens)
    fail(function, "expected at most " + std::to_string(kMaxTokens) + " tokens, got " +
                       std::to_string(p.queries) + " queries and " + std::to_string(p.keys) +
                       " keys");
  p.dim = static_cast<int>(query.shape[3]);
  p.query = rows_of<const float>(query);
  p.key = rows_of<const float>(key);

  p.scale = options.scale.value_or(1.0f / std::sqrt(static_cast<float>(p.dim)));
  if (!std::isfinite(p.scale)) fail(function, "scale is not finite: " + std::to_string(p.scale));
  if (!std::isfinite(options.softcap) || options.softcap < 0)
    fail(function, "softcap is " + std::to_string(options.softcap) +
                       "; expected 0 (none) or a positive number");
  p.softcap = options.softcap;
  p.causal = options.causal;
  if (options.window.left < -1 || options.window.right < -1)
    fail(function, "window is (" + std::to_string(options.window.left) + ", " +
                       std::to_string(options.window.right) +
                       "); expected −1 (open) or a count of tokens on each side");
  // wider than any sequence is as good as open, and sums of positions stay small
  p.window = {std::min(options.window.left, kMaxTokens),
              std::min(options.window.right, kMaxTokens)};
  const Shape4 scores = {p.batch, p.heads, p.queries, p.keys};
  p.mask = score_term<bool>(function, "mask", options.mask, DType::boolean, scores);
  p.bias = score_term<float>(function, "bias", options.bias, DType::f32, scores);
  p.sinks = per_entry(function, "sinks", options.sinks, p.heads, "query heads");
  p.alibi_slopes =
      per_entry(function, "alibi_slopes", options.alibi_slopes, p.heads, "query heads");
  p.key_lengths = per_entry(function, "key_lengths", options.key_lengths, p.batch, "batch entries");
  for (std::int64_t b = 0; p.key_lengths != nullptr && b < p.batch; ++b)
    if (p.key_lengths[b] < 0 || p.key_lengths[b] > p.keys)
      fail(function, "key_lengths[" + std::to_string(b) + "] is " +
                         std::to_string(p.key_lengths[b]) + "; expected 0 to " +
                         std::to_string(p.keys));
  if (options.threads < 0)
    fail(function, "threads is " + std::to_string(options.threads) +
                       "; expected 0 (all) or a positive number");
  return p;
}

Problem attention_problem(const TensorView& query, const TensorView& key, const TensorView& value,
                          const AttentionOptions& options, const AttentionOutput& output) {
  const char* function = "attention";
  Problem p = score_problem(function, query, key, options);
  check_float_rows(function, "value", value);
  for (std::size_t i = 0; i < 3; ++i)
    if (value.shape[i] != key.shape[i])
      fail(function, "value has shape " + text_of(value.shape) + " and key " + text_of(key.shape) +
                         "; expected the same batch, heads and tokens");
  check_dim(function, "value", value.shape[3]);
  p.dim_v = static_cast<int>(value.shape[3]);
  p.value = rows_of<const float>(value);
  check_output(function, output.out, {p.batch, p.heads, p.queries, p.dim_v});
  const std::int64_t rows = p.batch * p.heads * p.queries;
  if (output.lse.data() != nullptr && static_cast<std::int64_t>(output.lse.size()) != rows)
    fail(function, "lse has " + std::to_string(output.lse.size()) +
                       " entries; expected batch·heads_q·queries = " + std::to_string(rows));
  if (output.trace != nullptr) {
    if (options.trace.top < 0 || options.trace.top > kMaxTop)
      fail(function, "trace.top is " + std::to_string(options.trace.top) + "; expected 0 to " +
                         std::to_string(kMaxTop));
    if (options.trace.block < 0)
      fail(function, "trace.block is " + std::to_string(options.trace.block) +
                         "; expected 0 (no map) or more");
    const std::int64_t block = std::max(options.trace.block, 1);
    if (options.trace.block > 0 && elements({p.batch, p.heads, (p.queries + block - 1) / block,
                                             8 * ((p.keys + block - 1) / block)}) < 0)
      fail(function, "trace.block is " + std::to_string(block) + ": too many blocks for " +
                         std::to_string(p.queries) + " queries and " + std::to_string(p.keys) +
                         " keys");
  }
  return p;
}

}  // namespace qkv
