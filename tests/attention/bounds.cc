#include "tests/attention/bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/forward.h"

namespace qkv::tests {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();
constexpr double kExp2 = 2e-7;         // relative error of 2^x, held by the kernel tests
constexpr double kFlushed = 0x1p-126;  // a number below it may become 0
constexpr double kUnitBf16 = 0x1p-8;   // unit roundoff of bf16

// Δ of one score. Query times factor is rounded 3 times, the dot product is a chain of d: γ(d + 4)·|scale|·Σ|q||k|, one more
// where k_scale multiplies it. With bf16 dots the products are exact, any order of d sums is within γ(d), and the factor is
// rounded 3 times when it multiplies the sum; what flush to zero loses comes on top: of each subnormal number its whole
// product, of each of 2d operations 2^−126. The cap's tanh has slope ≤ 1 and a relative error of 16u with its factors. Bias,
// ALiBi and log2 e are rounded, and each sum.
double score_bound(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t q,
                   std::int64_t k) {
  const std::int64_t kv_head = p.kv_head(h);
  const double key_scale = row_scale<double>(p.k_scale, b, kv_head, k);
  double dot = 0;
  double size = 0;
  double flushed = 0;
  const Numbers<double> queries(p.query, b, h, q);
  const Numbers<double> keys(p.key, b, kv_head, k);
  for (int d = 0; d < p.dim; ++d) {
    const double query = queries[d];
    const double key = keys[d];
    dot += query * key * key_scale;
    size += std::fabs(query * key * key_scale);
    flushed += kFlushed * (std::fabs(query) + std::fabs(key) + 2);
  }
  if (!scores_by_dots(p)) flushed = 0;
  double base = dot * double{p.scale};
  const int roundings = p.k_scale.data != nullptr ? 5 : 4;
  double bound = std::fabs(double{p.scale}) * (gamma(p.dim + roundings) * size + flushed);
  if (p.softcap > 0) {
    base = double{p.softcap} * std::tanh(base / double{p.softcap});
    bound += 16 * kUnit * std::fabs(base);
  }
  double added = 0;
  if (p.bias.data != nullptr)
    added += std::fabs(double{p.bias.row(b, h, q)[k * p.bias.strides[3]]});
  if (p.alibi_slopes != nullptr)
    added += std::fabs(double{p.alibi_slopes[h]}) *
             static_cast<double>(std::llabs(p.position(b, q) - k));
  return bound + kUnit * (4 * std::fabs(base) + 6 * added);
}

}  // namespace

double stored_bound(DType dtype, double exact, double bound) {
  // unit roundoff, half the step between subnormal numbers, and where numbers become infinite
  const auto rounded = [&](double unit, double half_step, double overflow) {
    const double size = std::fabs(exact) + bound;
    return size >= overflow ? -kHidden : bound + std::max(unit * size, half_step);
  };
  switch (dtype) {
    case DType::f16:
      return rounded(0x1p-11, 0x1p-25, 65520);
    case DType::bf16:
      return rounded(kUnitBf16, 0x1p-134, 0x1.ffp127);
    default:
      return bound;
  }
}

double RowBounds::weight_sum() const {
  double sum = 0;
  for (const double w : weight) sum += w;
  return sum;
}

RowFacts facts_of(const Problem& p, const Reference<double>& r, std::int64_t b, std::int64_t h,
                  std::int64_t q) {
  const std::size_t row = row_of(p, b, h, q);
  RowFacts facts{kHidden, 0, 0};
  for (std::size_t k = row * static_cast<std::size_t>(p.keys);
       k < (row + 1) * static_cast<std::size_t>(p.keys); ++k) {
    if (r.scores[k] == kHidden) continue;
    ++facts.visible;
    facts.max = std::max(facts.max, r.scores[k]);
    facts.entropy += r.weights[k] * (r.lse[row] - r.scores[k]);
  }
  if (p.sinks != nullptr && double{p.sinks[h]} != kHidden) {
    const double bits = r.lse[row] - double{p.sinks[h]};
    facts.entropy += std::exp(-bits) * bits;
  }
  return facts;
}

RowBounds bounds_of(const Problem& p, const Reference<double>& r, std::int64_t b, std::int64_t h,
                    std::int64_t q) {
  const std::size_t row = row_of(p, b, h, q);
  const auto keys = static_cast<std::size_t>(p.keys);
  const double* scores = r.scores.data() + row * keys;
  const double* weights = r.weights.data() + row * keys;
  RowBounds bounds;
  bounds.score.assign(keys, 0);
  bounds.weight.assign(keys, 0);
  bounds.tile.assign(keys, 0);
  bounds.out.assign(static_cast<std::size_t>(p.dim_v), 0);
  const RowFacts facts = facts_of(p, r, b, h, q);
  const double sink = p.sinks != nullptr ? double{p.sinks[h]} : kHidden;
  const double lse = r.lse[row];
  if (lse == kHidden) return bounds;  // nothing visible: everything is exact

  const double n = static_cast<double>(facts.visible);
  const double chunks = static_cast<double>(p.keys / kChunk + 2);
  const double stretches = static_cast<double>(p.keys / kStretch + 2);
  const double chain = gamma(n + chunks + stretches + 8);
  const double to_sink = sink != kHidden && facts.visible > 0 ? std::fabs(sink - facts.max) : 0;

  // δ: relative error of a weight before it is normalised. Its score's, 2^x and the scalings of its chunk and stretch, and
  // the rounding of (score − max), which is at most u·|score − max| for all of them together thrice.
  std::vector<double> delta(keys, 0);
  double mean = 0;  // Σ p·δ: what the sum of the weights, and so the lse, is off by
  for (std::size_t k = 0; k < keys; ++k) {
    if (scores[k] == kHidden) continue;
    bounds.score[k] = score_bound(p, b, h, q, static_cast<std::int64_t>(k));
    bounds.max = std::max(bounds.max, bounds.score[k]);
    delta[k] = bounds.score[k] + (1 + chunks + 2 * stretches) * (kExp2 + 2 * kUnit) +
               3 * kUnit * (facts.max - scores[k]);
    if (sink > facts.max) delta[k] += kUnit * (to_sink + 4);
    mean += weights[k] * std::expm1(delta[k]);
  }
  double sink_share = 0;
  double sink_delta = 0;
  if (sink != kHidden) {
    sink_share = std::exp(sink - lse);
    sink_delta = kUnit * (3 * std::fabs(sink) + to_sink + 4);
    mean += sink_share * std::expm1(sink_delta);
  }
  bounds.max += 3 * kUnit * std::fabs(facts.max);
  bounds.lse = -std::log1p(-std::min(mean, 0.5)) + chain + 4 * kUnit * (1 + std::log1p(n)) +
               2 * kUnit * std::fabs(lse);

  for (std::size_t k = 0; k < keys; ++k) {
    if (scores[k] == kHidden) continue;
    const double relative = std::expm1(delta[k] + mean + 2 * chain + 8 * kUnit);
    const double away = lse - scores[k];
    bounds.weight[k] = weights[k] * relative + kFlushed;
    bounds.tile[k] =
        weights[k] * std::expm1(bounds.score[k] + bounds.lse +
                                kUnit * (3 * std::fabs(lse) + 2 * std::fabs(away) + 4) + kExp2) +
        kFlushed;
    bounds.entropy +=
        weights[k] * (relative * std::fabs(away) + bounds.score[k] + bounds.lse +
                      4 * kUnit * (std::fabs(lse - facts.max) + facts.max - scores[k] + 1) +
                      gamma(kChunk / 4 + 8 + 5 * (chunks + 2 * stretches)) * std::fabs(away)) +
        kFlushed * (std::fabs(away) + 1);
    const std::int64_t kv_head = p.kv_head(h);
    const auto key = static_cast<std::int64_t>(k);
    const double value_scale = row_scale<double>(p.v_scale, b, kv_head, key);
    // v_scale multiplies the weight, and may leave a subnormal number; bf16 dots round the weight and flush subnormal numbers
    double value_weight = bounds.weight[k];
    double lost = 0x1p-147;
    if (p.v_scale.data != nullptr) {
      value_weight += kUnit * (weights[k] + bounds.weight[k]);
      lost = 0x1p-142;
    }
    if (values_by_dots(p)) {
      value_weight += kUnitBf16 * (weights[k] + bounds.weight[k]) + kFlushed;
      lost = kFlushed * (weights[k] + 2);
    }
    const Numbers<double> value(p.value, b, kv_head, key);
    for (std::size_t d = 0; d < bounds.out.size(); ++d)
      bounds.out[d] += value_weight * std::fabs(value[static_cast<int>(d)] * value_scale) + lost;
  }
  if (sink_share > 0) {
    const double away = lse - sink;
    bounds.entropy += sink_share * (std::expm1(sink_delta + mean + chain) * away + sink_delta +
                                    bounds.lse + 4 * kUnit * (away + 1));
  }
  bounds.entropy += 8 * kUnit * facts.entropy + 1e-30;
  return bounds;
}

}  // namespace qkv::tests
