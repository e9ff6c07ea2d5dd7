#include "attention/problem.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "attention/check.h"
#include "attention/overlap.h"

namespace qkv {
namespace {

constexpr int kMaxTop = 1024;

// mask and bias: every dimension as in the scores, or 1.
template <class T>
ScoreTerm<T> score_term(const char* function, const char* name, const TensorView& t, DType dtype,
                        const Shape4& scores) {
  ScoreTerm<T> term;
  if (t.data == nullptr && t.shape == Shape4{}) return term;
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
  check_memory(function, name, t);
  if (elements(t.shape) == 0) return term;
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
  check_aligned(function, name, values.data(), sizeof(T));
  return values.data();
}

// How a query or its keys are cut into batch entries.
struct Entries {
  std::int64_t batch, longest, total;
};

Entries entries_of(const char* function, const char* name, const char* starts_name,
                   const TensorView& t, std::span<const std::int32_t> starts) {
  if (starts.data() == nullptr) return {t.shape[0], t.shape[2], 0};
  if (t.shape[0] != 1)
    fail(function, std::string(name) + " has shape " + text_of(t.shape) +
                       "; expected batch 1 with " + starts_name + " (packed sequences)");
  check_aligned(function, starts_name, starts.data(), sizeof(starts[0]));
  check_starts(function, starts_name, starts, t.shape[2]);
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < starts.size(); ++i)
    longest = std::max<std::int64_t>(longest, starts[i] - starts[i - 1]);
  return {static_cast<std::int64_t>(starts.size()) - 1, longest, t.shape[2]};
}

// Sets pages and the number of keys; key_lengths must have been taken over.
void use_pages(const char* function, const TensorView& key, const AttentionOptions& options,
               Problem& p) {
  if (options.cu_seqlens_k.data() != nullptr)
    fail(function, "block_table and cu_seqlens_k both say where keys lie; expected one of them");
  const auto entries = static_cast<std::int64_t>(options.block_table.size());
  if (p.batch == 0 ? entries != 0 : entries % p.batch != 0)
    fail(function, "block_table has " + std::to_string(entries) +
                       " entries; expected as many for each of the " + std::to_string(p.batch) +
                       " batch entries");
  if (p.key_lengths == nullptr)
    fail(function, "block_table needs key_lengths, but there are none; expected both");
  check_aligned(function, "block_table", options.block_table.data(),
                sizeof(options.block_table[0]));
  p.key.table = options.block_table.data();
  p.key.table_width = p.batch == 0 ? 0 : entries / p.batch;
  p.key.page = key.shape[2];
  if (p.key.page < 1 || p.key.page > kMaxTokens)
    fail(function, "key has shape " + text_of(key.shape) + "; expected pages of 1 to " +
                       std::to_string(kMaxTokens) + " tokens");
  p.keys = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t length = p.key_lengths[b];
    if (length < 0 || length > p.key.table_width * p.key.page)
      fail(function, "key_lengths[" + std::to_string(b) + "] is " + std::to_string(length) +
                         "; expected 0 to " + std::to_string(p.key.table_width * p.key.page) +
                         ", what its pages hold");
    p.keys = std::max(p.keys, length);
    for (std::int64_t i = 0; i * p.key.page < length; ++i) {
      const std::int32_t page = p.key.table[b * p.key.table_width + i];
      if (page < 0 || page >= key.shape[0])
        fail(function, "block_table[" + std::to_string(b) + "][" + std::to_string(i) + "] is " +
                           std::to_string(page) + "; expected a page from 0 to " +
                           std::to_string(key.shape[0] - 1));
    }
  }
}

void check_key_lengths(const char* function, const Problem& p) {
  for (std::int64_t b = 0; p.key_lengths != nullptr && b < p.batch; ++b)
    if (p.key_lengths[b] < 0 || p.key_lengths[b] > p.keys)
      fail(function, "key_lengths[" + std::to_string(b) + "] is " +
                         std::to_string(p.key_lengths[b]) + "; expected 0 to " +
                         std::to_string(p.keys));
}

// k_scale or v_scale of a tensor `of`.
Rows scale_rows(const char* function, const char* name, const char* of_name, const TensorView& of,
                const TensorView& scale, const Rows& laid_out_as) {
  if (of.dtype != DType::i8) {
    if (scale || scale.shape != Shape4{})
      fail(function, std::string(name) + " is given but " + of_name + " is " +
                         std::string(name_of(of.dtype)) + "; expected int8 with a scale");
    return {};
  }
  if (!scale) fail(function, std::string(of_name) + " is int8; expected " + name + " with it");
  if (scale.dtype != DType::f32)
    fail(function, std::string(name) + " has elements of type " +
                       std::string(name_of(scale.dtype)) + "; expected float32");
  const Shape4 shape = {of.shape[0], of.shape[1], of.shape[2], 1};
  Rows rows = laid_out_as;  // packed or paged alike
  for (std::size_t i = 0; i < 4; ++i) {
    if (scale.shape[i] != shape[i] && scale.shape[i] != 1)
      fail(function, std::string(name) + " has shape " + text_of(scale.shape) +
                         "; expected one that repeats to " + text_of(shape) +
                         " (each size equal or 1)");
  }
  check_memory(function, name, scale);
  const Rows own = rows_of(scale);
  rows.data = own.data;
  rows.dtype = own.dtype;
  rows.batch_stride = own.batch_stride;
  rows.head_stride = own.head_stride;
  rows.token_stride = own.token_stride;
  return rows;
}

void check_input_type(const char* function, const char* name, DType dtype, DType query) {
  if (!is_float(dtype) && dtype != DType::i8)
    fail(function, std::string(name) + " has elements of type " + std::string(name_of(dtype)) +
                       "; expected float32, float16, bfloat16 or int8");
  if (dtype != query && dtype != DType::i8)
    fail(function, std::string(name) + " has elements of type " + std::string(name_of(dtype)) +
                       " and query " + std::string(name_of(query)) +
                       "; expected the same, or int8");
}

}  // namespace

bool Problem::hidden(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const {
  const Range seen = visible(b, q);
  if (k < seen.begin || k >= seen.end) return true;
  if (mask.data != nullptr && !mask.row(b, h, q)[k * mask.strides[3]]) return true;
  return bias.data != nullptr &&
         bias.row(b, h, q)[k * bias.strides[3]] == -std::numeric_limits<float>::infinity();
}

Problem score_problem(const char* function, const TensorView& query, const TensorView& key,
                      const AttentionOptions& options) {
  check_rows(function, "query", query);
  check_rows(function, "key", key);
  if (!is_float(query.dtype))
    fail(function, "query has elements of type " + std::string(name_of(query.dtype)) +
                       "; expected float32, float16 or bfloat16");
  check_input_type(function, "key", key.dtype, query.dtype);
  const Entries asked = entries_of(function, "query", "cu_seqlens_q", query, options.cu_seqlens_q);
  const bool paged = options.block_table.data() != nullptr;
  const Entries asked_of =
      paged ? Entries{asked.batch, 0, 0}
            : entries_of(function, "key", "cu_seqlens_k", key, options.cu_seqlens_k);
  Problem p;
  p.batch = asked.batch;
  p.heads = query.shape[1];
  p.heads_kv = key.shape[1];
  p.queries = asked.longest;
  p.keys = asked_of.longest;
  p.packed_queries = asked.total;
  p.packed_keys = asked_of.total;
  check_dim(function, "query", query.shape[3]);
  if (asked_of.batch != p.batch)
    fail(function, "key has batch " + std::to_string(asked_of.batch) + " and query " +
                       std::to_string(p.batch) + "; expected the same");
  if (key.shape[3] != query.shape[3])
    fail(function, "key has head dimension " + std::to_string(key.shape[3]) + " and query " +
                       std::to_string(query.shape[3]) + "; expected the same");
  if (p.heads_kv == 0 ? p.heads != 0 : p.heads % p.heads_kv != 0)
    fail(function, "query has " + std::to_string(p.heads) + " heads and key " +
                       std::to_string(p.heads_kv) + "; expected a multiple of the key's heads");
  if (p.batch > kMaxEntries || p.heads > kMaxEntries)
    fail(function, "query has batch " + std::to_string(p.batch) + " and " +
                       std::to_string(p.heads) + " heads; expected at most " +
                       std::to_string(kMaxEntries) + " of each");
  p.dim = static_cast<int>(query.shape[3]);
  p.query = rows_of(query);
  p.key = rows_of(key);
  if (options.cu_seqlens_q.data() != nullptr) p.query.starts = options.cu_seqlens_q.data();
  if (options.cu_seqlens_k.data() != nullptr) p.key.starts = options.cu_seqlens_k.data();
  p.key_lengths = per_entry(function, "key_lengths", options.key_lengths, p.batch, "batch entries");
  if (paged)
    use_pages(function, key, options, p);
  else if (p.key.starts != nullptr && p.key_lengths != nullptr)
    fail(function, "key_lengths and cu_seqlens_k both say how many keys there are; expected one");
  else
    check_key_lengths(function, p);
  if (p.queries > kMaxTokens || p.keys > kMaxTokens)
    fail(function, "expected at most " + std::to_string(kMaxTokens) + " tokens, got " +
                       std::to_string(p.queries) + " queries and " + std::to_string(p.keys) +
                       " keys");
  p.k_scale = scale_rows(function, "k_scale", "key", key, options.k_scale, p.key);

  p.scale = options.scale.value_or(1.0f / std::sqrt(static_cast<float>(p.dim)));
  if (!std::isfinite(p.scale))
    fail(function, "scale is " + std::to_string(p.scale) + "; expected a finite number");
  if (!std::isfinite(options.softcap) || options.softcap < 0)
    fail(function, "softcap is " + std::to_string(options.softcap) +
                       "; expected 0 (none) or a positive number");
  p.softcap = options.softcap;
  if (options.causal > Causal::top_left)
    fail(function, "causal is " + std::to_string(static_cast<int>(options.causal)) +
                       "; expected no (0), bottom_right (1) or top_left (2)");
  p.causal = options.causal;
  if (options.window.left < -1 || options.window.right < -1)
    fail(function, "window is (" + std::to_string(options.window.left) + ", " +
                       std::to_string(options.window.right) +
                       "); expected −1 (open) or a count of tokens on each side");
  // wider than any sequence is as good as open, and sums of positions stay small
  p.window = {std::min(options.window.left, kMaxTokens),
              std::min(options.window.right, kMaxTokens)};
  const bool packed = p.query.starts != nullptr || p.key.starts != nullptr;
  if (packed && (options.mask || options.bias))
    fail(function, std::string(options.mask ? "mask" : "bias") +
                       " has no meaning for packed sequences, whose lengths differ; expected none");
  const Shape4 scores = {p.batch, p.heads, p.queries, p.keys};
  p.mask = score_term<bool>(function, "mask", options.mask, DType::boolean, scores);
  p.bias = score_term<float>(function, "bias", options.bias, DType::f32, scores);
  p.sinks = per_entry(function, "sinks", options.sinks, p.heads, "query heads");
  p.alibi_slopes =
      per_entry(function, "alibi_slopes", options.alibi_slopes, p.heads, "query heads");
  if (options.threads < 0)
    fail(function, "threads is " + std::to_string(options.threads) +
                       "; expected 0 (all) or a positive number");
  return p;
}

Problem value_problem(const char* function, const TensorView& query, const TensorView& key,
                      const TensorView& value, const AttentionOptions& options) {
  Problem p = score_problem(function, query, key, options);
  check_rows(function, "value", value);
  check_input_type(function, "value", value.dtype, query.dtype);
  for (std::size_t i = 0; i < 3; ++i)
    if (value.shape[i] != key.shape[i])
      fail(function, "value has shape " + text_of(value.shape) + " and key " + text_of(key.shape) +
                         "; expected the same batch, heads and tokens");
  check_dim(function, "value", value.shape[3]);
  p.dim_v = static_cast<int>(value.shape[3]);
  const Rows rows = rows_of(value);
  p.value = p.key;  // packed or paged alike
  p.value.data = rows.data;
  p.value.dtype = rows.dtype;
  p.value.batch_stride = rows.batch_stride;
  p.value.head_stride = rows.head_stride;
  p.value.token_stride = rows.token_stride;
  p.v_scale = scale_rows(function, "v_scale", "value", value, options.v_scale, p.value);
  return p;
}

Shape4 query_shape(const Problem& p, std::int64_t dim) {
  return p.query.starts != nullptr ? Shape4{1, p.heads, p.packed_queries, dim}
                                   : Shape4{p.batch, p.heads, p.queries, dim};
}

MutableRows out_rows(const Problem& p, const MutableTensorView& out) {
  MutableRows rows = rows_of<std::byte>(out);
  rows.starts = p.query.starts;
  return rows;
}

void check_trace(const char* function, const TraceOptions& trace, const Problem& p) {
  if (trace.top < 0 || trace.top > kMaxTop)
    fail(function, "trace.top is " + std::to_string(trace.top) + "; expected 0 to " +
                       std::to_string(kMaxTop));
  if (trace.block < 0)
    fail(function,
         "trace.block is " + std::to_string(trace.block) + "; expected 0 (no map) or more");
  const std::string sizes = std::to_string(p.batch) + " batch entries, " + std::to_string(p.heads) +
                            " heads, " + std::to_string(p.queries) + " queries and " +
                            std::to_string(p.keys) + " keys";
  constexpr std::int64_t kBytes = 8;  // of the widest element
  if (elements({p.row_count(), kBytes, std::max(trace.top, 1), 1}) < 0)
    fail(function, "trace.top is " + std::to_string(trace.top) + ": too many for " + sizes);
  if (trace.received && elements({p.batch, p.heads, p.keys, kBytes}) < 0)
    fail(function, "trace.received: too many keys, " + sizes);
  const std::int64_t block = std::max(trace.block, 1);
  if (trace.block > 0 && elements({p.batch, p.heads, (p.queries + block - 1) / block,
                                   kBytes * ((p.keys + block - 1) / block)}) < 0)
    fail(function, "trace.block is " + std::to_string(block) + ": too many blocks for " + sizes);
}

Problem attention_problem(const TensorView& query, const TensorView& key, const TensorView& value,
                          const AttentionOptions& options, const AttentionOutput& output) {
  const char* function = "attention";
  Problem p = value_problem(function, query, key, value, options);
  check_output(function, "out", output.out, query_shape(p, p.dim_v));
  const std::int64_t rows = p.row_count();
  check_aligned(function, "lse", output.lse.data(), sizeof(float));
  if (output.lse.data() != nullptr && static_cast<std::int64_t>(output.lse.size()) != rows)
    fail(function, "lse has " + std::to_string(output.lse.size()) +
                       " entries; expected batch·heads_q·queries = " + std::to_string(rows));
  if (output.trace != nullptr) check_trace(function, options.trace, p);
  Places places;
  places.read("query", query);
  places.read("key", key);
  places.read("value", value);
  places.read(options);
  places.written("out", output.out);
  places.written("lse", output.lse);
  if (output.trace != nullptr) {  // its vectors are cleared before the work begins
    const auto own = [&](const char* name, auto& values) {
      places.written(name, std::span(values.data(), values.capacity()));
    };
    Trace& trace = *output.trace;
    own("trace.lse", trace.lse);
    own("trace.max", trace.max);
    own("trace.entropy", trace.entropy);
    own("trace.top_keys", trace.top_keys);
    own("trace.top_weights", trace.top_weights);
    own("trace.remainder", trace.remainder);
    own("trace.received", trace.received);
    own("trace.visible", trace.visible);
    own("trace.block_mass", trace.block_mass);
    own("trace.block_max", trace.block_max);
  }
  places.check(function);
  return p;
}

}  // namespace qkv
