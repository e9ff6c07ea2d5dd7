#include "attention/products.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qkv {
namespace {

constexpr float kLog2e = 1.4426950408889634f;

std::size_t chunk_floats(int dim) {
  return static_cast<std::size_t>(dim + dim % 2) * kernels::kMaxChunk;
}

// Rows as halves a fixed stride apart, an odd width filled up with a 0, gathered into scratch where they do not lie so.
struct HalfRows {
  const std::uint16_t* data;
  std::int64_t stride;
};

HalfRows half_rows(const Rows& rows, std::int64_t b, std::int64_t h, Range range, int dim,
                   bool even_width, float* scratch) {
  const bool one_run = rows.run_end(range.begin, range.end) == range.end;
  const int width = even_width ? dim + dim % 2 : dim;
  if (one_run && width == dim)
    return {rows.row_as<std::uint16_t>(b, h, range.begin), rows.stride_in<std::uint16_t>()};
  auto* to = reinterpret_cast<std::uint16_t*>(scratch);
  for (std::int64_t r = range.begin; r < range.end; ++r, to += width) {
    std::memcpy(to, rows.row(b, h, r), static_cast<std::size_t>(dim) * sizeof *to);
    if (width > dim) to[dim] = 0;
  }
  return {reinterpret_cast<const std::uint16_t*>(scratch), width};
}

// Scratch memory after so many floats, where there is any.
float* behind(float* scratch, std::size_t floats) {
  return scratch == nullptr ? nullptr : scratch + floats;
}

// The scales of int8 rows in `scratch`; null where there are none.
const float* load_scale(const Rows& scales, std::int64_t b, std::int64_t h, Range range,
                        float* scratch) {
  if (scales.data == nullptr) return nullptr;
  row_scales(scales, b, h, range, scratch);
  return scratch;
}

}  // namespace

bool scores_in_pairs(const kernels::Kernels& kernel, const Problem& p) {
  return kernel.pairs != nullptr && p.query.dtype == DType::bf16 && p.key.dtype == DType::bf16;
}

bool values_in_pairs(const kernels::Kernels& kernel, const Problem& p) {
  return kernel.pairs != nullptr && p.query.dtype == DType::bf16 && p.value.dtype == DType::bf16;
}

float factor_of(const Problem& p) { return p.softcap > 0 ? p.scale : p.scale * kLog2e; }

KeyChunk KeyChunk::part(Range keys) const {
  const std::int64_t skipped = (keys.begin - range.begin) * stride;
  return {keys, floats != nullptr ? floats + skipped : nullptr,
          halves != nullptr ? halves + skipped : nullptr, stride,
          scale != nullptr ? scale + (keys.begin - range.begin) : nullptr};
}

ValueChunk ValueChunk::part(Range keys) const {
  ValueChunk v = *this;
  v.range = keys;
  if (floats != nullptr) v.floats += (keys.begin - range.begin) * stride;
  if (scale != nullptr) v.scale += keys.begin - range.begin;
  if (pairs != nullptr) v.pairs += (keys.begin - range.begin) / 2 * dim;
  return v;
}

std::size_t key_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  if (scores_in_pairs(kernel, p) && p.dim % 2 == 0 && p.key.table == nullptr) return 0;
  if (is_in_place(p.key)) return 0;
  return chunk_floats(p.dim) + (p.k_scale.data != nullptr ? kernels::kMaxChunk : 0);
}

std::size_t value_scratch_floats(const kernels::Kernels& kernel, const Problem& p) {
  if (is_in_place(p.value)) return 0;
  // pairs, and behind them room to gather pages in
  const bool gathers = values_in_pairs(kernel, p) && p.value.table != nullptr;
  return chunk_floats(p.dim_v) * (gathers ? 2 : 1) +
         (p.v_scale.data != nullptr ? kernels::kMaxChunk : 0);
}

KeyChunk load_keys(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
                   std::int64_t kv_head, Range keys, float* scratch) {
  if (scores_in_pairs(kernel, p)) {
    const HalfRows rows = half_rows(p.key, b, kv_head, keys, p.dim, true, scratch);
    return {keys, nullptr, rows.data, rows.stride, nullptr};
  }
  const FloatRows rows = float_rows(p.key, b, kv_head, keys, p.dim, scratch);
  return {keys, rows.data, nullptr, rows.stride,
          load_scale(p.k_scale, b, kv_head, keys, behind(scratch, chunk_floats(p.dim)))};
}

ValueChunk load_values(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
                       std::int64_t kv_head, Range keys, float* scratch) {
  ValueChunk chunk;
  chunk.range = keys;
  chunk.dim = p.dim_v;
  if (values_in_pairs(kernel, p)) {
    auto* pairs = reinterpret_cast<kernels::Pair*>(scratch);
    const HalfRows rows = half_rows(p.value, b, kv_head, keys, p.dim_v, false,
                                    behind(scratch, chunk_floats(p.dim_v)));
    const int count = static_cast<int>(keys.end - keys.begin);
    kernel.pairs->pack_values(rows.data, rows.stride, count, p.dim_v, pairs);
    chunk.pairs = pairs;
    return chunk;
  }
  const FloatRows rows = float_rows(p.value, b, kv_head, keys, p.dim_v, scratch);
  chunk.floats = rows.data;
  chunk.stride = rows.stride;
  chunk.scale = load_scale(p.v_scale, b, kv_head, keys, behind(scratch, chunk_floats(p.dim_v)));
  return chunk;
}

PackedValues::PackedValues(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
                           std::int64_t kv_head, Range queries)
    : dim_(p.dim_v), first_(0) {
  constexpr std::int64_t kMostBytes = std::int64_t{4} << 20;
  if (!values_in_pairs(kernel, p)) return;
  Range keys = {p.keys_of(b), 0};
  for (std::int64_t q = queries.begin; q < queries.end; ++q) {
    const Range seen = p.visible(b, q);
    if (seen.begin < seen.end)
      keys = {std::min(keys.begin, seen.begin), std::max(keys.end, seen.end)};
  }
  constexpr std::int64_t kChunk = kernels::kMaxChunk;
  first_ = keys.begin - keys.begin % kChunk;
  const std::int64_t chunks = (keys.end - first_ + kChunk - 1) / kChunk;
  const std::int64_t chunk_size = kChunk / 2 * dim_;
  if (chunks <= 0 || chunks * chunk_size * 4 > kMostBytes) return;
  // behind the last, what loading a chunk may need
  float* const memory =
      thread_scratch(ScratchUse::values)
          .floats(static_cast<std::size_t>(chunks * chunk_size) + value_scratch_floats(kernel, p));
  for (std::int64_t c = 0; c < chunks; ++c) {
    const std::int64_t first = first_ + c * kChunk;
    load_values(kernel, p, b, kv_head, {first, std::min(first + kChunk, p.keys_of(b))},
                memory + c * chunk_size);
  }
  pairs_ = reinterpret_cast<const kernels::Pair*>(memory);
}

ValueChunk PackedValues::chunk(Range keys) const {
  ValueChunk chunk;
  chunk.range = keys;
  chunk.dim = dim_;
  chunk.pairs = pairs_ + (keys.begin - first_) / 2 * dim_;
  return chunk;
}

bool is_finite(const kernels::Kernels& kernel, const ValueChunk& values) {
  const int count = static_cast<int>(values.range.end - values.range.begin);
  if (values.pairs != nullptr)  // two rows of bfloat16 lie interleaved in one of pairs
    return kernel.pairs->all_finite(reinterpret_cast<const std::uint16_t*>(values.pairs),
                                    std::int64_t{2} * values.dim, (count + 1) / 2, 2 * values.dim);
  return kernel.all_finite(values.floats, values.stride, count, values.dim) &&
         (values.scale == nullptr || kernel.all_finite(values.scale, 1, count, 1));
}

}  // namespace qkv
