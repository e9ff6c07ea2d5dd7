#include "tests/attention/checks.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace qkv::tests {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

// One number against its bound. False ends the check: one message is enough. `where` becomes text only then, which costs more
// than the check.
bool near(const char* what, const Shape4& where, float got, double expected, double bound,
          double* worst = nullptr, double* used = nullptr) {
  const double error = std::fabs(double{got} - expected);
  if (double{got} == expected) return true;  // infinities too
  if (!(error <= bound)) {
    ADD_FAILURE() << what << " at " << text_of(where) << " is " << got << ", the reference "
                  << expected << "; off by " << error << ", bound " << bound;
    return false;
  }
  if (std::isinf(error)) return true;  // the type may not hold it
  if (worst != nullptr) *worst = std::max(*worst, error);
  if (used != nullptr) *used = std::max(*used, error / bound);
  return true;
}

// f(b, h, q, row) for each row until one returns false.
template <class F>
bool each_row(const Case& c, const F& f) {
  for (std::int64_t b = 0; b < c.sizes.batch; ++b)
    for (std::int64_t h = 0; h < c.sizes.heads(); ++h)
      for (std::int64_t q = 0; q < c.query_length(b); ++q)
        if (!f(b, h, q, c.row(b, h, q))) return false;
  return true;
}

// The list of top keys of one row: sorted, ties to the lower index, as many as there are, none forgotten.
bool top_matches(const Problem& p, const double* weights, const double* scores,
                 const RowBounds& bounds, const Trace& trace, std::size_t row, const Shape4& at,
                 std::int64_t visible, Largest& l) {
  const auto top = static_cast<std::size_t>(trace.top);
  const std::int32_t* keys = trace.top_keys.data() + row * top;
  const float* values = trace.top_weights.data() + row * top;
  const auto used = std::min(top, static_cast<std::size_t>(visible));
  std::set<std::int32_t> listed;
  double sum = 0;
  for (std::size_t i = 0; i < top; ++i) {
    if (i >= used) {
      EXPECT_EQ(keys[i], -1) << text_of(at);
      EXPECT_EQ(values[i], 0) << text_of(at);
      continue;
    }
    if (keys[i] < 0 || keys[i] >= p.keys || scores[keys[i]] == kHidden ||
        !listed.insert(keys[i]).second) {
      ADD_FAILURE() << "top key " << i << " at " << text_of(at) << " is " << keys[i]
                    << ": hidden, or listed twice";
      return false;
    }
    if (!near("top weight", at, values[i], weights[keys[i]],
              bounds.weight[static_cast<std::size_t>(keys[i])], &l.weight, &l.weight_used))
      return false;
    if (i > 0 &&
        !(values[i] < values[i - 1] || (values[i] == values[i - 1] && keys[i] > keys[i - 1]))) {
      ADD_FAILURE() << "top keys at " << text_of(at) << " are not in order at place " << i;
      return false;
    }
    sum += double{values[i]};
  }
  for (std::int64_t k = 0; used > 0 && k < p.keys; ++k) {
    const auto i = static_cast<std::size_t>(k);
    if (scores[i] == kHidden || listed.count(static_cast<std::int32_t>(k)) != 0) continue;
    if (weights[i] - bounds.weight[i] > double{values[used - 1]}) {
      ADD_FAILURE() << "key " << k << " with weight " << weights[i]
                    << " is missing from the top keys at " << text_of(at);
      return false;
    }
  }
  const double rest = trace.lse[row] == -kInfinity ? 0 : std::max(0.0, 1 - sum);
  return near("remainder", at, trace.remainder[row], rest, 2 * kUnit);
}

}  // namespace

Exact::Exact(const Case& c)
    : problem(c.problem()),
      numbers(reference_attention<double>(problem)),
      bounds(static_cast<std::size_t>(problem.row_count())) {
  each_row(c, [&](std::int64_t b, std::int64_t h, std::int64_t q, std::size_t row) {
    bounds[row] = bounds_of(problem, numbers, b, h, q);
    return true;
  });
}

void expect_matches(const Case& c, const Exact& exact, const Result& got, Largest* largest) {
  Largest ignored;
  Largest& l = largest != nullptr ? *largest : ignored;
  const Problem& p = exact.problem;
  const Reference<double>& r = exact.numbers;
  each_row(c, [&](std::int64_t b, std::int64_t h, std::int64_t q, std::size_t row) {
    const RowBounds& bounds = exact.bounds[row];
    if (!near("lse", {b, h, q, 0}, got.lse[row], r.lse[row], bounds.lse, &l.lse, &l.lse_used))
      return false;
    for (std::int64_t d = 0; d < p.dim_v; ++d) {
      const auto i = static_cast<std::size_t>(d);
      const double expected = r.out[row * static_cast<std::size_t>(p.dim_v) + i];
      if (!near("out", {b, h, q, d}, c.out_at(got, b, h, q, d), expected,
                stored_bound(c.out_type, expected, bounds.out[i]), &l.out, &l.out_used))
        return false;
    }
    return true;
  });
  EXPECT_FALSE(got.out.written_outside());
}

void expect_trace_matches(const Case& c, const Exact& exact, const Result& got, Largest* largest) {
  Largest ignored;
  Largest& l = largest != nullptr ? *largest : ignored;
  const Problem& p = exact.problem;
  const Reference<double>& r = exact.numbers;
  const TraceOptions& o = c.plain.trace;
  const Trace& t = got.trace;
  const std::size_t rows = c.rows();
  const std::size_t columns = c.columns();
  const std::int64_t block = std::max(o.block, 1);
  const std::int64_t query_blocks = (p.queries + block - 1) / block;
  const std::int64_t key_blocks = (p.keys + block - 1) / block;
  const auto blocks =
      o.block > 0 ? static_cast<std::size_t>(p.batch * p.heads * query_blocks * key_blocks) : 0;
  ASSERT_EQ(t.batch, c.sizes.batch);
  ASSERT_EQ(t.heads, c.sizes.heads());
  ASSERT_EQ(t.queries, c.sizes.queries);
  ASSERT_EQ(t.keys, c.sizes.keys);
  ASSERT_EQ(t.top, o.top);
  ASSERT_EQ(t.block, o.block);
  ASSERT_EQ(t.max.size(), rows);
  ASSERT_EQ(t.entropy.size(), rows);
  ASSERT_EQ(t.remainder.size(), rows);
  ASSERT_EQ(t.top_keys.size(), rows * static_cast<std::size_t>(o.top));
  ASSERT_EQ(t.top_weights.size(), t.top_keys.size());
  ASSERT_EQ(t.received.size(), o.received ? columns : 0);
  ASSERT_EQ(t.visible.size(), o.received ? columns : 0);
  ASSERT_EQ(t.block_mass.size(), blocks);
  ASSERT_EQ(t.block_max.size(), blocks);
  EXPECT_TRUE(same_bits(t.lse, got.lse));

  std::vector<double> received(columns, 0), received_bound(columns, 0);
  std::vector<std::int32_t> visible(columns, 0);
  std::vector<double> mass(blocks, 0), mass_bound(blocks, 0), low(blocks, 0), high(blocks, 0);
  const bool rows_match =
      each_row(c, [&](std::int64_t b, std::int64_t h, std::int64_t q, std::size_t row) {
        const Shape4 where = {b, h, q, 0};
        const RowBounds& bounds = exact.bounds[row];
        const RowFacts facts = facts_of(p, r, b, h, q);
        const double* scores = r.scores.data() + row * static_cast<std::size_t>(p.keys);
        const double* weights = r.weights.data() + row * static_cast<std::size_t>(p.keys);
        for (std::int64_t k = 0; k < c.key_length(b); ++k) {
          const std::size_t column = c.column(b, h, k);
          const double bound = bounds.weight[static_cast<std::size_t>(k)];
          received[column] += weights[k];
          received_bound[column] += bound;
          visible[column] += scores[k] != kHidden ? 1 : 0;
          if (o.block == 0) continue;
          const auto i = static_cast<std::size_t>(
              ((b * p.heads + h) * query_blocks + q / block) * key_blocks + k / block);
          mass[i] += weights[k];
          mass_bound[i] += bound;
          low[i] = std::max(low[i], weights[k] - bound);
          high[i] = std::max(high[i], weights[k] + bound);
        }
        return near("max", where, t.max[row], facts.max, bounds.max) &&
               near("entropy", where, t.entropy[row], facts.entropy, bounds.entropy, &l.entropy,
                    &l.entropy_used) &&
               top_matches(p, weights, scores, bounds, t, row, where, facts.visible, l);
      });
  if (!rows_match) return;  // the sums above are not complete
  if (o.received) {
    EXPECT_EQ(t.visible, visible);
    for (std::size_t i = 0; i < columns; ++i)
      if (!near("received", {0, 0, 0, static_cast<std::int64_t>(i)}, t.received[i], received[i],
                received_bound[i] + gamma(10) * received[i]))
        break;
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    if (!near("block_mass", {0, 0, 0, static_cast<std::int64_t>(i)}, t.block_mass[i], mass[i],
              mass_bound[i] + gamma(10) * mass[i]))
      break;
    ASSERT_GE(double{t.block_max[i]}, low[i]) << "block " << i;
    ASSERT_LE(double{t.block_max[i]}, high[i]) << "block " << i;
  }
}

void expect_tile_matches(const Case& c, const Exact& exact, const Result& got, Range queries,
                         Range keys, Largest* largest) {
  Largest ignored;
  Largest& l = largest != nullptr ? *largest : ignored;
  const Problem& p = exact.problem;
  const Reference<double>& r = exact.numbers;
  const Tensor<float> tile({p.batch, p.heads, queries.end - queries.begin, keys.end - keys.begin},
                           c.out_layout);
  weights(c.query.view(), c.key.view(), c.options(), got.lse, queries, keys, tile.mutable_view());
  each_row(c, [&](std::int64_t b, std::int64_t h, std::int64_t q, std::size_t row) {
    if (q < queries.begin || q >= queries.end) return true;
    const RowBounds& bounds = exact.bounds[row];
    for (std::int64_t k = keys.begin; k < keys.end; ++k) {
      const std::size_t i = row * static_cast<std::size_t>(p.keys) + static_cast<std::size_t>(k);
      const float weight = tile.at(b, h, q - queries.begin, k - keys.begin);
      const double bound = r.scores[i] == kHidden ? 0 : bounds.tile[static_cast<std::size_t>(k)];
      if (!near("weights()", {b, h, q, k}, weight, r.weights[i], bound, &l.tile, &l.tile_used))
        return false;
    }
    return true;
  });
  EXPECT_FALSE(tile.written_outside());
}

void expect_visibility(const Case& c, const Exact& exact) {
  const Problem& p = exact.problem;
  const Reference<double>& r = exact.numbers;
  each_row(c, [&](std::int64_t b, std::int64_t h, std::int64_t q, std::size_t row) {
    for (std::int64_t k = 0; k < p.keys; ++k) {
      const bool seen =
          r.scores[row * static_cast<std::size_t>(p.keys) + static_cast<std::size_t>(k)] != kHidden;
      if (seen == c.sees(b, h, q, k)) continue;
      ADD_FAILURE() << "key at " << text_of({b, h, q, k}) << (seen ? " is seen" : " is hidden")
                    << ", against the documentation";
      return false;
    }
    return true;
  });
}

}  // namespace qkv::tests
