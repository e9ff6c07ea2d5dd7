#include "attention/decode.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "attention/forward.h"
#include "attention/panel.h"
#include "attention/parallel.h"
#include "kernels/bf16_dots.h"
#include "kernels/decode.h"

namespace qkv {
namespace {

using kernels::kScoreStride;
using kernels::RowsAhead;
using kernels::StoredRows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.4426950408889634f;

// With more queries than this the 16-lane panels of a head are faster: floats reach them as they lie, other types are widened
// into memory first. Measured with 1 and 4 heads a group, 64 and 128 dims, 256 and 4096 keys: equal at 11 and at 16.
constexpr std::int64_t kMaxFloatQueries = 10;
constexpr std::int64_t kMaxQueries = 16;
// Rows of one unit: their scores against a chunk of keys and their sums stay in the second-level cache.
constexpr int kMaxRows = 64;
// Pages whose size is a multiple of this are read in place; smaller pieces are gathered first.
constexpr std::int64_t kLeastRun = 16;
// Multiply-adds below which waking another thread costs more than it brings.
constexpr std::int64_t kWorthAThread = 1 << 18;

kernels::Element element_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return kernels::Element::f16;
    case DType::bf16:
      return kernels::Element::bf16;
    case DType::i8:
      return kernels::Element::i8;
    default:
      return kernels::Element::f32;
  }
}

// Running sums of a unit's rows: maximum, sum, spread (kernels::SoftmaxState) and acc[r][d], each row's acc `stride` floats after
// the one before.
struct RowSums {
  float* max;
  float* sum;
  float* spread;
  float* acc;

  static std::int64_t floats(int rows, std::int64_t stride) {
    return (3 * rows + 15) / 16 * 16 + rows * stride;
  }
  RowSums(float* memory, int rows)
      : max(memory),
        sum(memory + rows),
        spread(memory + 2 * rows),
        acc(memory + (3 * rows + 15) / 16 * 16) {}
  void clear(int rows, std::int64_t stride) const {
    std::fill_n(max, rows, -kInfinity);
    std::fill_n(sum, rows, 0.0f);
    std::fill_n(spread, rows, 0.0f);
    std::fill_n(acc, rows * stride, 0.0f);
  }
  kernels::SoftmaxState state(int row, bool traced) const {
    return {max + row, sum + row, nullptr, traced ? spread + row : nullptr};
  }
};

// Rows of one chunk of keys or of values.
struct Source {
  const Rows& rows;
  std::int64_t b, head;
  int dim;
  const kernels::ElementKernels& kernel;
  std::byte* gathered;  // room for a chunk where pages are too small to be read in place

  std::int64_t size() const { return size_of(rows.dtype); }
  bool gathers() const { return rows.table != nullptr && rows.page % kLeastRun != 0; }

  // f(rows, first key) for each run of rows that lie a stride apart.
  template <class F>
  void each_run(Range keys, const F& f) const {
    if (gathers()) {
      const auto bytes = static_cast<std::size_t>(dim * size());
      for (std::int64_t k = keys.begin; k < keys.end; ++k)
        std::memcpy(gathered + static_cast<std::size_t>(k - keys.begin) * bytes,
                    rows.row(b, head, k), bytes);
      f(StoredRows{gathered, dim, static_cast<int>(keys.end - keys.begin), dim}, keys.begin);
      return;
    }
    for (std::int64_t k = keys.begin; k < keys.end;) {
      const std::int64_t end = rows.run_end(k, keys.end);
      f(StoredRows{rows.row(b, head, k), rows.token_stride / size(), static_cast<int>(end - k),
                   dim},
        k);
      k = end;
    }
  }
  // The run of rows from key k on, as what is needed next; none where keys is empty.
  RowsAhead ahead(Range keys) const {
    if (keys.begin >= keys.end || gathers()) return {};
    const std::int64_t end = rows.run_end(keys.begin, keys.end);
    return {rows.row(b, head, keys.begin), rows.token_stride, static_cast<int>(end - keys.begin),
            static_cast<int>(dim * size())};
  }
};

// scale[k] of a chunk of int8 rows.
void chunk_scales(const Rows& scales, std::int64_t b, std::int64_t h, Range keys, float* scale) {
  for (std::int64_t k = keys.begin; k < keys.end;) {
    const std::int64_t end = scales.run_end(k, keys.end);
    const std::byte* from = scales.row(b, h, k);
    for (std::int64_t i = 0; i < end - k; ++i)
      scale[k - keys.begin + i] = *reinterpret_cast<const float*>(from + i * scales.token_stride);
    k = end;
  }
}

// Query rows that share a key/value head: row r of the head's group is query r % queries of head r / queries in the group.
class Unit {
 public:
  // Rows [first, first + count) of the group, packed into this thread's scratch memory.
  Unit(const Problem& p, const kernels::Bf16DotKernels* dots, DecodeTrace* trace, std::int64_t b,
       std::int64_t kv_head, std::int64_t first, int count)
      : p_(p),
        dots_(dots),
        trace_(trace),
        b_(b),
        kv_head_(kv_head),
        first_(first),
        count_(count),
        queries_of_(p.queries_of(b)) {
    inner_ = {0, p.keys};
    outer_ = {p.keys, 0};
    const std::int64_t stop = std::min(queries_of_, std::int64_t{count});
    for (std::int64_t i = 0; i < stop; ++i) {  // heads of a group see the same
      const std::int64_t q = (first + i) % queries_of_;
      const Range seen = p.visible(b, q);
      seen_[static_cast<std::size_t>(q)] = seen;
      inner_ = {std::max(inner_.begin, seen.begin), std::min(inner_.end, seen.end)};
      if (seen.begin < seen.end)
        outer_ = {std::min(outer_.begin, seen.begin), std::max(outer_.end, seen.end)};
    }
  }

  // The keys that some row sees; empty where begin ≥ end.
  Range keys() const { return outer_; }
  int count() const { return count_; }

  static std::size_t scratch_floats(const Problem& p, int rows) {
    const bool gathers = p.key.table != nullptr && p.key.page % kLeastRun != 0;
    const auto chunk = [](const Rows& of, int dim) {
      return static_cast<std::size_t>(kChunk * dim * size_of(of.dtype)) / sizeof(float) + 16;
    };
    return static_cast<std::size_t>(rows) *
               static_cast<std::size_t>(kernels::acc_stride(p.dim) + kScoreStride) +
           (gathers ? chunk(p.key, p.dim) + chunk(p.value, p.dim_v) : 0);
  }

  // Packs the queries into `scratch`, which has room for scratch_floats(rows).
  void prepare(float* scratch) {
    queries_ = scratch;
    scores_ = queries_ + count_ * kernels::acc_stride(p_.dim);
    gathered_ = reinterpret_cast<std::byte*>(scores_ + count_ * kScoreStride);
    const float to_log2 = p_.softcap > 0 ? 1.0f : kLog2e;
    if (dots_ != nullptr) {
      factor_ = std::fabs(p_.scale) * to_log2;
      for (int r = 0; r < count_; ++r) pack_pairs(r);
      return;
    }
    const float factor = p_.scale * to_log2;  // as pack_panel gives them
    for (int r = 0; r < count_; ++r) {
      const std::int64_t q = query_of(r);
      float* to = queries_ + std::int64_t{r} * p_.dim;
      const FloatRows row = float_rows(p_.query, b_, head_of(r), {q, q + 1}, p_.dim, to);
      for (int d = 0; d < p_.dim; ++d) to[d] = factor * row.data[d];
    }
  }

  // Adds the keys of one stretch, chunk by chunk; `until` is where this thread's keys end.
  void add_stretch(std::int64_t stretch, std::int64_t until, const RowSums& sums) {
    for (std::int64_t chunk = stretch; chunk < std::min(stretch + kStretch, outer_.end);
         chunk += kChunk) {
      const std::int64_t begin = std::max(chunk, outer_.begin);
      const Range keys = {begin - (begin - chunk) % kAlign, std::min(chunk + kChunk, outer_.end)};
      if (keys.begin < keys.end) add_chunk(keys, std::min(until, outer_.end), sums);
    }
  }

  void merge(const RowSums& total, const RowSums& part) const {
    const std::int64_t stride = kernels::acc_stride(p_.dim_v);
    for (int r = 0; r < count_; ++r)
      kernel_.merge_states(p_.dim_v, total.state(r, trace_ != nullptr), total.acc + r * stride,
                           part.state(r, trace_ != nullptr), part.acc + r * stride);
  }

  // Writes outputs and log-sum-exps; the sums are used up.
  void write(const RowSums& sums, const MutableRows& out, float* lse) const {
    for (int r = 0; r < count_; ++r) {
      const std::int64_t head = head_of(r);
      const std::int64_t q = query_of(r);
      const std::int64_t index = p_.row_index(b_, head, q);
      const bool traced = trace_ != nullptr;
      float factor = 0;
      const RowResult result =
          finish_row({sums.max[r], sums.sum[r], sums.spread[r]}, sink_of(p_, head),
                     lse != nullptr || traced, traced, factor);
      if (lse != nullptr) lse[index] = lse_of(result);
      if (traced) trace_->finish(index, result);
      float* row = sums.acc + r * kernels::acc_stride(p_.dim_v);
      for (int d = 0; d < p_.dim_v; ++d) row[d] = factor * row[d] + 0.0f;  // −0 becomes 0
      store_row(row, p_.dim_v, out, b_, head, q);
    }
  }

 private:
  std::int64_t head_of(int r) const {
    return kv_head_ * (p_.heads / p_.heads_kv) + (first_ + r) / queries_of_;
  }
  std::int64_t query_of(int r) const { return (first_ + r) % queries_of_; }
  float* scores_of(int r) const { return scores_ + std::int64_t{r} * kScoreStride; }

  void add_chunk(Range keys, std::int64_t until, const RowSums& sums) {
    const Source key{p_.key,
                     b_,
                     kv_head_,
                     p_.dim,
                     kernel_.of[static_cast<std::size_t>(element_of(p_.key.dtype))],
                     gathered_};
    const Source value{p_.value,
                       b_,
                       kv_head_,
                       p_.dim_v,
                       kernel_.of[static_cast<std::size_t>(element_of(p_.value.dtype))],
                       gathered_ + (key.gathers() ? kChunk * p_.dim * key.size() : 0)};
    const int count = static_cast<int>(keys.end - keys.begin);
    key.each_run(keys, [&](const StoredRows& rows, std::int64_t k) {
      const RowsAhead next = value.ahead({k, k + rows.count});
      if (dots_ != nullptr)
        dots_->query_dot_keys(pairs(), count_, rows, next, factor_, scores_ + (k - keys.begin));
      else
        key.kernel.query_dot_keys(queries_, count_, rows, next, scores_ + (k - keys.begin));
    });
    const bool some_hidden = finish_scores(keys);
    bool leave_out = false;
    if (some_hidden && p_.value.dtype != DType::i8)
      value.each_run(keys, [&](const StoredRows& rows, std::int64_t) {
        leave_out |= !value.kernel.all_finite(rows);
      });
    std::array<float, kMaxRows> alpha;
    kernel_.softmax(scores_, count_, count,
                    {sums.max, sums.sum, alpha.data(), trace_ == nullptr ? nullptr : sums.spread});
    for (int r = 0; trace_ != nullptr && r < count_; ++r)
      trace_->keep(p_.row_index(b_, head_of(r), query_of(r)), keys, scores_of(r), sums.max[r]);
    if (p_.v_scale.data != nullptr) {
      std::array<float, kChunk> scale;
      chunk_scales(p_.v_scale, b_, kv_head_, keys, scale.data());
      for (int k = 0; k < count; ++k)
        leave_out |= some_hidden && !std::isfinite(scale[static_cast<std::size_t>(k)]);
      for (int r = 0; r < count_; ++r) kernel_.scale(scores_of(r), count, scale.data());
    }
    std::array<std::uint16_t, std::size_t{kMaxRows} * kScoreStride> narrow;
    if (dots_ != nullptr) dots_->narrow_weights(scores_, count_, count, narrow.data());
    value.each_run(keys, [&](const StoredRows& rows, std::int64_t k) {
      const std::int64_t at = k - keys.begin;
      const RowsAhead next = key.ahead({k + kChunk, std::min(k + kChunk + rows.count, until)});
      if (leave_out && dots_ != nullptr)
        add_visible_pairs(rows, k, narrow.data() + at, alpha.data(), sums.acc);
      else if (leave_out)
        add_visible(value, rows, k, scores_ + at, alpha.data(), sums.acc);
      else if (dots_ != nullptr)
        dots_->weighted_sum_values(narrow.data() + at, count_, rows, next, alpha.data(), sums.acc);
      else
        value.kernel.weighted_sum_values(scores_ + at, count_, rows, next, alpha.data(), sums.acc);
      alpha.fill(1);  // the chain goes on with the next run
    });
  }

  // What comes after query·key, in the order of panel_scores. Returns whether some score may be −inf.
  bool finish_scores(Range keys) {
    const int count = static_cast<int>(keys.end - keys.begin);
    const auto first_key = static_cast<std::int32_t>(keys.begin);
    const bool edges = keys.begin < inner_.begin || keys.end > inner_.end;
    const bool plain = p_.k_scale.data == nullptr && p_.softcap == 0 && p_.bias.data == nullptr &&
                       p_.alibi_slopes == nullptr && p_.mask.data == nullptr && !edges;
    if (plain) return false;
    std::array<float, kChunk> scale;
    if (p_.k_scale.data != nullptr) chunk_scales(p_.k_scale, b_, kv_head_, keys, scale.data());
    for (int r = 0; r < count_; ++r) {
      float* row = scores_of(r);
      const std::int64_t head = head_of(r);
      const std::int64_t q = query_of(r);
      if (p_.k_scale.data != nullptr) kernel_.scale(row, count, scale.data());
      if (p_.softcap > 0) kernel_.softcap(row, count, p_.softcap, kLog2e);
      if (p_.bias.data != nullptr) {
        const std::int64_t step = p_.bias.strides[3];
        const float* bias = p_.bias.row(b_, head, q) + keys.begin * step;
        for (int k = 0; k < count; ++k)  // −inf hides the key, even one whose score is NaN
          row[k] = bias[k * step] == -kInfinity ? -kInfinity : row[k] + kLog2e * bias[k * step];
      }
      if (p_.alibi_slopes != nullptr)
        kernel_.add_alibi(row, count, first_key, static_cast<std::int32_t>(p_.position(b_, q)),
                          p_.alibi_slopes[head] * kLog2e);
      if (p_.mask.data != nullptr) {
        const std::int64_t step = p_.mask.strides[3];
        const bool* mask = p_.mask.row(b_, head, q) + keys.begin * step;
        for (int k = 0; k < count; ++k) row[k] = mask[k * step] ? row[k] : -kInfinity;
      }
      const Range seen = seen_[static_cast<std::size_t>(q)];
      const std::int64_t from = std::clamp(seen.begin, keys.begin, keys.end);
      const std::int64_t to = std::clamp(seen.end, from, keys.end);
      std::fill(row, row + (from - keys.begin), -kInfinity);
      std::fill(row + (to - keys.begin), row + count, -kInfinity);
    }
    return edges || p_.mask.data != nullptr || p_.bias.data != nullptr;
  }

  // Row by row without the hidden keys: a weight of 0 times a value that is not finite would be NaN.
  void add_visible(const Source& value, const StoredRows& rows, std::int64_t first_key,
                   const float* weights, const float* alpha, float* acc) const {
    std::array<std::int32_t, kChunk> listed;
    std::array<float, kChunk> kept;
    for (int r = 0; r < count_; ++r) {
      int n = 0;
      for (int k = 0; k < rows.count; ++k) {
        if (p_.hidden(b_, head_of(r), query_of(r), first_key + k)) continue;
        listed[static_cast<std::size_t>(n)] = k;
        kept[static_cast<std::size_t>(n++)] = weights[std::int64_t{r} * kScoreStride + k];
      }
      value.kernel.weighted_sum_listed_values(kept.data(), listed.data(), n, rows, alpha[r],
                                              acc + r * kernels::acc_stride(p_.dim_v));
    }
  }

  // The same for bfloat16 pairs: a hidden value, whose weight is 0, is taken as 0.
  void add_visible_pairs(const StoredRows& rows, std::int64_t first_key,
                         const std::uint16_t* weights, const float* alpha, float* acc) const {
    const auto dim = static_cast<std::size_t>(rows.dim);
    std::vector<std::uint16_t> seen(dim * static_cast<std::size_t>(rows.count));
    for (int r = 0; r < count_; ++r) {
      for (int k = 0; k < rows.count; ++k) {
        std::uint16_t* to = seen.data() + static_cast<std::size_t>(k) * dim;
        if (p_.hidden(b_, head_of(r), query_of(r), first_key + k))
          std::fill_n(to, dim, std::uint16_t{0});
        else
          std::copy_n(static_cast<const std::uint16_t*>(rows.data) + k * rows.stride, dim, to);
      }
      dots_->weighted_sum_values(weights + std::int64_t{r} * kScoreStride, 1,
                                 {seen.data(), rows.dim, rows.count, rows.dim}, {}, alpha + r,
                                 acc + r * kernels::acc_stride(p_.dim_v));
    }
  }

  std::uint32_t* pairs() const { return reinterpret_cast<std::uint32_t*>(queries_); }
  // The bfloat16 query of row r in pairs, with the sign of the scale.
  void pack_pairs(int r) const {
    const auto* query = p_.query.row_as<std::uint16_t>(b_, head_of(r), query_of(r));
    const std::uint32_t sign = std::signbit(p_.scale) ? 0x8000u : 0u;
    const int count = (p_.dim + 1) / 2;
    for (int i = 0; i < count; ++i) {
      const std::uint32_t second = 2 * i + 1 < p_.dim ? query[2 * i + 1] ^ sign : 0u;
      pairs()[r * count + i] = (query[2 * i] ^ sign) | second << 16;
    }
  }

  const Problem& p_;
  const kernels::Bf16DotKernels* dots_;  // null: numbers are widened
  DecodeTrace* trace_;                   // null: none is wanted
  const kernels::DecodeKernels& kernel_ = kernels::decode_kernels();
  std::int64_t b_, kv_head_, first_;
  int count_;
  std::int64_t queries_of_;
  Range inner_, outer_;  // all rows see inner_; none sees beyond outer_
  std::array<Range, kMaxQueries> seen_;
  float factor_ = 1;          // of the scores of pairs
  float* queries_ = nullptr;  // [row][dim], or [row][pairs of dims]
  float* scores_ = nullptr;   // [row][kScoreStride]
  std::byte* gathered_ = nullptr;
};

// How a call is cut into units, and long units into stretches where there are too few units for the threads.
struct Plan {
  const Problem& p;
  const kernels::Bf16DotKernels* dots;
  DecodeTrace* trace;
  const MutableRows& out;
  float* lse;
  std::int64_t rows, blocks;  // rows of the largest group; units that it is cut into
  std::int64_t stretches;     // of the longest row
  std::int64_t part_floats;   // sums of one unit
  // Where units are cut: stretches of a piece, pieces of a unit, and [unit][stretch] sums.
  std::int64_t piece = 0, pieces = 0;
  float* parts = nullptr;

  std::int64_t units() const { return p.batch * p.heads_kv * blocks; }
  float* part(std::int64_t unit, std::int64_t stretch) const {
    return parts + (unit * stretches + stretch) * part_floats;
  }

  // f(unit) unless it has no rows.
  template <class F>
  void with_unit(std::int64_t index, const F& f) const {
    const std::int64_t b = index / (p.heads_kv * blocks);
    const std::int64_t first = index % blocks * kMaxRows;
    const std::int64_t left = p.heads / p.heads_kv * p.queries_of(b) - first;
    if (left <= 0) return;
    Unit unit(p, dots, trace, b, index / blocks % p.heads_kv, first,
              static_cast<int>(std::min<std::int64_t>(left, kMaxRows)));
    f(unit);
  }

  void run_unit(std::int64_t index) const {
    with_unit(index, [&](Unit& unit) {
      const std::int64_t stride = kernels::acc_stride(p.dim_v);
      float* const scratch = thread_scratch().floats(2 * static_cast<std::size_t>(part_floats) +
                                                     Unit::scratch_floats(p, unit.count()));
      const RowSums total(scratch, unit.count());
      const RowSums part(scratch + part_floats, unit.count());
      unit.prepare(scratch + 2 * part_floats);
      total.clear(unit.count(), stride);
      const Range keys = unit.keys();
      const std::int64_t first = keys.begin - keys.begin % kStretch;
      for (std::int64_t stretch = first; stretch < keys.end; stretch += kStretch) {
        // the first goes straight into the total: merging into nothing would copy the same bits
        if (stretch != first) part.clear(unit.count(), stride);
        unit.add_stretch(stretch, keys.end, stretch == first ? total : part);
        if (stretch != first) unit.merge(total, part);
      }
      unit.write(total, out, lse);
    });
  }

  // Some neighbouring stretches of a unit, each into sums of its own.
  void run_piece(std::int64_t task) const {
    with_unit(task / pieces, [&](Unit& unit) {
      const std::int64_t index = task / pieces;
      const std::int64_t begin = task % pieces * piece;
      const std::int64_t end = std::min(begin + piece, stretches);
      unit.prepare(thread_scratch().floats(Unit::scratch_floats(p, unit.count())));
      for (std::int64_t s = begin; s < end; ++s) {
        if (s * kStretch >= unit.keys().end || (s + 1) * kStretch <= unit.keys().begin) continue;
        const RowSums sums(part(index, s), unit.count());
        sums.clear(unit.count(), kernels::acc_stride(p.dim_v));
        unit.add_stretch(s * kStretch, end * kStretch, sums);
      }
    });
  }

  // The stretches of a unit, in their order.
  void merge_unit(std::int64_t index) const {
    with_unit(index, [&](Unit& unit) {
      const Range keys = unit.keys();
      const std::int64_t first = keys.begin < keys.end ? keys.begin / kStretch : 0;
      const RowSums total(part(index, first), unit.count());
      if (keys.begin >= keys.end) total.clear(unit.count(), kernels::acc_stride(p.dim_v));
      for (std::int64_t s = first + 1; s * kStretch < keys.end; ++s)
        unit.merge(total, RowSums(part(index, s), unit.count()));
      unit.write(total, out, lse);
    });
  }
};

}  // namespace

bool is_decode(const Problem& p) {
  const kernels::Kernels& kernel = kernels::kernels();
  // one product in pairs and the other not (int8 beside bfloat16) is left to the panels
  if (scores_in_pairs(kernel, p) != values_in_pairs(kernel, p)) return false;
  return p.queries <= (is_in_place(p.key) && is_in_place(p.value) ? kMaxFloatQueries : kMaxQueries);
}

void decode(const Problem& p, const MutableRows& out, float* lse, int threads,
            const kernels::Bf16DotKernels* dots, DecodeTrace* trace) {
  if (p.heads == 0 || p.queries == 0 || p.batch == 0) return;
  const std::int64_t rows = p.heads / p.heads_kv * p.queries;
  Plan plan{p,
            dots,
            trace,
            out,
            lse,
            rows,
            (rows + kMaxRows - 1) / kMaxRows,
            std::max<std::int64_t>((p.keys + kStretch - 1) / kStretch, 1),
            RowSums::floats(static_cast<int>(std::min<std::int64_t>(rows, kMaxRows)),
                            kernels::acc_stride(p.dim_v))};
  const std::int64_t work =
      p.batch * p.heads_kv * p.keys * (p.dim + p.dim_v) * std::max<std::int64_t>(rows, 4);
  if (work < kWorthAThread) threads = 1;
  const std::int64_t units = plan.units();
  const int workers = thread_count(threads, units * plan.stretches);
  // pieces enough to share them well, and long, because a piece begins with keys that nobody has asked for ahead
  const std::int64_t wanted =
      (8 * std::int64_t{workers} + units - 1) / std::max(units, std::int64_t{1});
  plan.piece = (plan.stretches + wanted - 1) / wanted;
  plan.pieces = (plan.stretches + plan.piece - 1) / plan.piece;
  if (workers == 1 || plan.pieces == 1) {
    parallel_for(workers, units, [&plan](std::int64_t unit) { plan.run_unit(unit); });
    return;
  }
  const auto parts = std::make_unique_for_overwrite<float[]>(
      static_cast<std::size_t>(units * plan.stretches * plan.part_floats));
  plan.parts = parts.get();
  parallel_for(workers, units * plan.pieces, [&plan](std::int64_t task) { plan.run_piece(task); });
  // a few sums are added sooner than threads are woken for them
  const bool few = units * plan.stretches * plan.part_floats < kWorthAThread;
  parallel_for(few ? 1 : workers, units, [&plan](std::int64_t unit) { plan.merge_unit(unit); });
}

const kernels::Bf16DotKernels* bf16_dots_of(const Problem& p) {
  return uses_bf16_dots(p) ? kernels::bf16_dot_kernels_of("avx512_bf16") : nullptr;
}

bool uses_bf16_dots(const Problem& p) {
  const kernels::Kernels& kernel = kernels::kernels();
  return scores_in_pairs(kernel, p) && values_in_pairs(kernel, p);
}

}  // namespace qkv
