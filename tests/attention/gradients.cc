#include "tests/attention/gradients.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/backward_products.h"

namespace qkv::tests {
namespace {

constexpr double kUnitBf16 = 0x1p-8;   // unit roundoff of bf16
constexpr double kFlushed = 0x1p-126;  // what the dot instruction may lose of a number

// a·b[k] sums of one gradient: what its exact number may be off by.
struct Bound {
  double error = 0;  // errors of the factors
  double size = 0;   // Σ|a||b|, errors included

  // a·b, where a is off by `off`: of a product by the dot instruction, a is rounded, and either factor and two results flushed.
  void add(double a, double off, double b, bool by_dots) {
    const double rounding = by_dots ? kUnitBf16 * (a + off) + kFlushed : 0;
    error += (off + rounding) * b + (by_dots ? kFlushed * (a + off + 2) : 0);
    size += (a + off + rounding) * b;
  }
};

// `where` is told apart only where it is: text costs more than the check.
bool near(const char* what, const Shape4& where, float got, double expected, double bound,
          double& worst, double& used) {
  const double error = std::fabs(double{got} - expected);
  if (!(error <= bound)) {
    ADD_FAILURE() << what << " at " << text_of(where) << " is " << got << ", the reference "
                  << expected << "; off by " << error << ", bound " << bound;
    return false;
  }
  worst = std::max(worst, error);
  if (bound > 0) used = std::max(used, error / bound);
  return true;
}

// Bounds of one row: of its weights, its scores' gradients and delta.
struct RowErrors {
  std::vector<double> weight, d_score, d_dot;
  double delta = 0;
};

RowErrors row_errors(const BackwardCase& c, const Problem& p, const ReferenceGradients<double>& g,
                     const Reference<double>& r, const RowBounds& bounds, std::int64_t b,
                     std::int64_t h, std::int64_t q) {
  const Rows d_out = rows_of(c.d_out.view());
  const bool by_dots = gradients_by_dots(c);
  const std::size_t row = row_of(p, b, h, q);
  const auto keys = static_cast<std::size_t>(p.keys);
  RowErrors e{bounds.tile, std::vector<double>(keys), std::vector<double>(keys), 0};
  const Numbers<double> d_out_row(d_out, b, h, q);
  for (int d = 0; d < p.dim_v; ++d)
    e.delta +=
        stored_bound(c.call.out_type,
                     r.out[row * static_cast<std::size_t>(p.dim_v) + static_cast<std::size_t>(d)],
                     bounds.out[static_cast<std::size_t>(d)]) *
        std::fabs(d_out_row[d]);
  e.delta += kUnit * std::fabs(g.delta[row]) + 0x1p-140;
  for (std::size_t k = 0; k < keys; ++k) {
    const auto key = static_cast<std::int64_t>(k);
    e.weight[k] = 0;
    if (p.hidden(b, h, q, key)) continue;
    e.weight[k] = bounds.tile[k];
    double d_weight = 0;
    double size = 0;
    double flushed = 0;
    const Numbers<double> value(p.value, b, p.kv_head(h), key);
    for (int d = 0; d < p.dim_v; ++d) {
      const double product = d_out_row[d] * value[d];
      d_weight += product;
      size += std::fabs(product);
      if (by_dots) flushed += kFlushed * (std::fabs(d_out_row[d]) + std::fabs(value[d]) + 2);
    }
    const double weight = r.weights[row * keys + k];
    const double away = std::fabs(d_weight - g.delta[row]);
    const double away_error = gamma(p.dim_v + 1) * size + flushed + e.delta;
    e.d_score[k] = e.weight[k] * (away + away_error) + weight * away_error +
                   2 * kUnit * (weight + e.weight[k]) * (away + away_error) + 0x1p-140;
    e.d_dot[k] = e.d_score[k];
    if (p.softcap > 0) {
      // the cap's own tanh, of the score before bias: its error is at most the score's
      const double d_score = std::fabs(g.d_scores[row * keys + k]);
      const double t = bounds.score[k] / double{p.softcap};
      const double slope = 2 * t + t * t + 8 * kUnit;
      e.d_dot[k] = e.d_score[k] * (1 + slope) + d_score * slope +
                   2 * kUnit * (d_score + e.d_score[k]) + 0x1p-140;
    }
  }
  return e;
}

// Index of an entry of a bias in which sizes of 1 repeat.
std::size_t bias_index(const Shape4& s, std::int64_t b, std::int64_t h, std::int64_t q,
                       std::int64_t k) {
  const auto at = [&](std::size_t i, std::int64_t j) { return s[i] == 1 ? 0 : j; };
  return static_cast<std::size_t>(((at(0, b) * s[1] + at(1, h)) * s[2] + at(2, q)) * s[3] +
                                  at(3, k));
}

}  // namespace

BackwardCase::BackwardCase(Case c, std::uint64_t seed) : call(std::move(c)) {
  const Sizes& s = call.sizes;
  Random random(seed);
  forward = call.run(false);
  d_out = Tensor<float>({s.batch, s.heads(), s.queries, s.dim_v}, {});
  d_out.fill([&] { return random.normal(); });
  d_out.store_as(call.query.dtype());
}

void BackwardCase::store_as(DType dtype) {
  for (auto* t : {&call.query, &call.key, &call.value, &d_out}) t->store_as(dtype);
  call.out_type = dtype;
  forward = call.run(false);
}

bool gradients_by_dots(const BackwardCase& c) {
  return gradient_kernels(c.call.problem(), c.d_out.dtype()).pairs != nullptr;
}

BackwardCase BackwardCase::random(std::uint64_t seed, bool large) {
  BackwardCase c(random_case(seed, large), seed);
  Random random(seed + 1'000'000'007);
  c.d_out = c.d_out.copy(random_layout(random, false));
  if (random.chance(0.3))
    for (std::size_t i = 0; i < c.forward.lse.size(); ++i) c.d_lse.push_back(random.normal());
  for (Layout& layout : c.layouts) layout = random_layout(random, false);
  if (random.chance(0.35)) c.store_as(DType::bf16);
  if (random.chance(0.05)) c.d_out.store_as(DType::f16);  // mixed types are floats
  return c;
}

Gradients BackwardCase::run(int threads) const {
  const Sizes& s = call.sizes;
  Gradients g;
  g.d_query = Tensor<float>({s.batch, s.heads(), s.queries, s.dim}, layouts[0]);
  g.d_key = Tensor<float>({s.batch, s.heads_kv, s.keys, s.dim}, layouts[1]);
  g.d_value = Tensor<float>({s.batch, s.heads_kv, s.keys, s.dim_v}, layouts[2]);
  AttentionGradients to{
      g.d_query.mutable_view(), g.d_key.mutable_view(), g.d_value.mutable_view(), {}, {}};
  if (call.bias.data() != nullptr) {
    g.d_bias = Tensor<float>(call.bias.shape(), {});
    to.d_bias = g.d_bias.mutable_view();
  }
  if (!call.sinks.empty()) {
    g.d_sinks.assign(call.sinks.size(), 777);
    to.d_sinks = g.d_sinks;
  }
  AttentionOptions o = call.options();
  if (threads >= 0) o.threads = threads;
  attention_backward(call.query.view(), call.key.view(), call.value.view(), o,
                     {forward.out.view(), forward.lse}, d_out.view(), to,
                     d_lse.empty() ? std::span<const float>() : std::span<const float>(d_lse));
  return g;
}

ReferenceGradients<double> BackwardCase::reference(const Reference<double>& r) const {
  return reference_backward<double>(call.problem(), r, rows_of(d_out.view()),
                                    d_lse.empty() ? nullptr : d_lse.data());
}

BackwardCase BackwardCase::dense() const {
  BackwardCase c(call.dense(), 0);
  c.forward.out = forward.out.copy({});
  c.forward.lse = forward.lse;
  c.d_out = d_out.copy({});
  c.d_lse = d_lse;
  return c;
}

std::string difference(const Gradients& a, const Gradients& b) {
  std::string found;
  const auto compare = [&](const char* name, const Tensor<float>& x, const Tensor<float>& y) {
    x.each([&](std::int64_t i, std::int64_t h, std::int64_t t, std::int64_t d) {
      if (found.empty() && !same_bits(x.at(i, h, t, d), y.at(i, h, t, d)))
        found = std::string(name) + " at " + text_of({i, h, t, d}) + ": " +
                std::to_string(x.at(i, h, t, d)) + " and " + std::to_string(y.at(i, h, t, d));
    });
  };
  compare("d_query", a.d_query, b.d_query);
  compare("d_key", a.d_key, b.d_key);
  compare("d_value", a.d_value, b.d_value);
  if (a.d_bias.data() != nullptr) compare("d_bias", a.d_bias, b.d_bias);
  if (found.empty() && !same_bits(a.d_sinks, b.d_sinks)) found = "d_sinks";
  return found;
}

void expect_gradients_match(const BackwardCase& c, const Gradients& got, GradientErrors* errors) {
  GradientErrors ignored;
  GradientErrors& l = errors != nullptr ? *errors : ignored;
  const Problem p = c.call.problem();
  const Reference<double> r = c.call.reference();
  const ReferenceGradients<double> g = c.reference(r);
  const Rows d_out = rows_of(c.d_out.view());
  const bool by_dots = gradients_by_dots(c);
  const auto dim = static_cast<std::size_t>(p.dim);
  const auto dim_v = static_cast<std::size_t>(p.dim_v);
  const auto keys = static_cast<std::size_t>(p.keys);
  std::vector<Bound> key_bounds(g.d_key.size()), value_bounds(g.d_value.size());
  const Shape4 bias_shape = c.call.bias.shape();
  const auto bias_size = c.call.bias.data() == nullptr
                             ? std::size_t{0}
                             : static_cast<std::size_t>(elements(bias_shape));
  std::vector<Bound> bias_bounds(bias_size);
  std::vector<double> bias_sums(bias_size);
  std::vector<Bound> sink_bounds(g.d_sinks.size());

  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h)
      for (std::int64_t q = 0; q < p.queries; ++q) {
        const RowBounds bounds = bounds_of(p, r, b, h, q);
        const RowErrors e = row_errors(c, p, g, r, bounds, b, h, q);
        const std::size_t row = row_of(p, b, h, q);
        const std::int64_t kv_head = p.kv_head(h);
        const Numbers<double> query(p.query, b, h, q);
        const Numbers<double> d_out_row(d_out, b, h, q);
        std::vector<Bound> query_bounds(dim);
        double visible = 0;
        for (std::size_t k = 0; k < keys; ++k) {
          const auto key = static_cast<std::int64_t>(k);
          if (p.hidden(b, h, q, key)) continue;
          ++visible;
          const double d_dot = std::fabs(g.d_dots[row * keys + k]);
          const double weight = r.weights[row * keys + k];
          const auto key_row = static_cast<std::size_t>((b * p.heads_kv + kv_head) * p.keys + key);
          const Numbers<double> key_numbers(p.key, b, kv_head, key);
          for (std::size_t d = 0; d < dim; ++d) {
            const double key_d = std::fabs(key_numbers[static_cast<int>(d)]);
            const double query_d = std::fabs(query[static_cast<int>(d)]);
            query_bounds[d].add(d_dot, e.d_dot[k], key_d, by_dots);
            key_bounds[key_row * dim + d].add(d_dot, e.d_dot[k], query_d, by_dots);
          }
          for (std::size_t d = 0; d < dim_v; ++d) {
            const double d_out_d = std::fabs(d_out_row[static_cast<int>(d)]);
            value_bounds[key_row * dim_v + d].add(weight, e.weight[k], d_out_d, by_dots);
          }
          if (!bias_bounds.empty()) {
            const std::size_t i = bias_index(bias_shape, b, h, q, key);
            bias_sums[i] += g.d_scores[row * keys + k];
            bias_bounds[i].error += e.d_score[k];
            bias_bounds[i].size += std::fabs(g.d_scores[row * keys + k]) + e.d_score[k];
          }
        }
        if (p.sinks != nullptr && double{p.sinks[h]} != -double{kInfinity}) {
          const double share = std::exp(double{p.sinks[h]} - r.lse[row]);
          const double off = share * std::expm1(bounds.lse + 4 * kUnit * std::fabs(r.lse[row]));
          Bound& bound = sink_bounds[static_cast<std::size_t>(h)];
          bound.error += off * (std::fabs(g.delta[row]) + e.delta) + share * e.delta;
        }
        for (std::size_t d = 0; d < dim; ++d) {
          const double bound =
              std::fabs(double{p.scale}) *
                  (query_bounds[d].error + gamma(visible + 3) * query_bounds[d].size) +
              0x1p-140;
          if (!near("d_query", {b, h, q, static_cast<std::int64_t>(d)},
                    got.d_query.at(b, h, q, static_cast<std::int64_t>(d)), g.d_query[row * dim + d],
                    bound, l.error[0], l.used[0]))
            return;
        }
      }

  const double received = static_cast<double>(p.queries * p.heads) /
                          static_cast<double>(std::max<std::int64_t>(p.heads_kv, 1));
  bool good = true;
  const auto check_keys = [&](const char* name, const Tensor<float>& t,
                              const std::vector<double>& expected, const std::vector<Bound>& bounds,
                              double factor, int which) {
    std::size_t i = 0;
    t.each([&](std::int64_t b, std::int64_t h, std::int64_t k, std::int64_t d) {
      const double bound = factor * (bounds[i].error + gamma(received + 3) * bounds[i].size) +
                           (bounds[i].size > 0 ? 0x1p-140 : 0);  // what no query sees is exactly 0
      good = good && near(name, {b, h, k, d}, t.at(b, h, k, d), expected[i], bound, l.error[which],
                          l.used[which]);
      ++i;
    });
  };
  check_keys("d_key", got.d_key, g.d_key, key_bounds, std::fabs(double{p.scale}), 1);
  check_keys("d_value", got.d_value, g.d_value, value_bounds, 1, 2);
  double worst = 0;
  for (std::size_t i = 0; i < bias_bounds.size() && good; ++i)
    good =
        near("d_bias", {0, 0, 0, static_cast<std::int64_t>(i)}, got.d_bias.data()[i], bias_sums[i],
             bias_bounds[i].error +
                 gamma(static_cast<double>(p.batch * p.heads) + 2) * bias_bounds[i].size +
                 (bias_bounds[i].size > 0 ? 0x1p-140 : 0),
             worst, l.bias_used);
  for (std::size_t h = 0; h < got.d_sinks.size() && good; ++h)
    good = near("d_sinks", {0, static_cast<std::int64_t>(h), 0, 0}, got.d_sinks[h], g.d_sinks[h],
                sink_bounds[h].error + 2 * kUnit * std::fabs(g.d_sinks[h]) + 0x1p-140, worst,
                l.sinks_used);
  EXPECT_FALSE(got.d_query.written_outside());
  EXPECT_FALSE(got.d_key.written_outside());
  EXPECT_FALSE(got.d_value.written_outside());
}

}  // namespace qkv::tests
