#include "lens/claims.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <span>

#include "layers/linear.h"
#include "qkv/attention.h"

namespace qkv::lens {
namespace {

using Floats = std::vector<float>;

// Seeded numbers that are the same with every standard library, which std::normal_distribution's are not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}

  double uniform() { return (static_cast<double>(bits_() >> 11) + 0.5) * 0x1.0p-53; }
  // Box and Muller 1958
  float normal() {
    return static_cast<float>(std::sqrt(-2 * std::log(uniform())) *
                              std::cos(2 * std::numbers::pi * uniform()));
  }
  Floats normals(std::int64_t count) {
    Floats values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal();
    return values;
  }

 private:
  std::mt19937_64 bits_;
};

struct Result {
  Floats out;
  Floats lse;
  Trace trace;
};

// query [heads, queries, d_k], key [heads, keys, d_k], value [heads, keys, d_v]
struct Sizes {
  std::int64_t heads, queries, keys, d_k, d_v;
};

Result attend(const Floats& query, const Floats& key, const Floats& value, const Sizes& size,
              const AttentionOptions& options) {
  Result result;
  result.out.resize(static_cast<std::size_t>(size.heads * size.queries * size.d_v));
  result.lse.resize(static_cast<std::size_t>(size.heads * size.queries));
  AttentionOutput output;
  output.out = MutableTensorView(result.out.data(), {1, size.heads, size.queries, size.d_v});
  output.lse = result.lse;
  output.trace = &result.trace;
  attention(TensorView(query.data(), {1, size.heads, size.queries, size.d_k}),
            TensorView(key.data(), {1, size.heads, size.keys, size.d_k}),
            TensorView(value.data(), {1, size.heads, size.keys, size.d_v}), options, output);
  return result;
}

// The exact matrix [queries, keys] of one head.
Floats matrix(const Floats& query, const Floats& key, const Sizes& size,
              const AttentionOptions& options, std::span<const float> lse) {
  Floats out(static_cast<std::size_t>(size.queries * size.keys));
  weights(TensorView(query.data(), {1, 1, size.queries, size.d_k}),
          TensorView(key.data(), {1, 1, size.keys, size.d_k}), options, lse, {0, size.queries},
          {0, size.keys}, MutableTensorView(out.data(), {1, 1, size.queries, size.keys}));
  return out;
}

double variance(std::span<const float> values) {
  double mean = 0;
  for (const float value : values) mean += static_cast<double>(value);
  mean /= static_cast<double>(values.size());
  double sum = 0;
  for (const float value : values)
    sum += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
  return sum / static_cast<double>(values.size() - 1);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

AttentionOptions scaled_by(float scale) {
  AttentionOptions options;
  options.scale = scale;
  return options;
}

float root_scale(std::int64_t d_k) { return 1.0F / std::sqrt(static_cast<float>(d_k)); }

Claim variance_grows() {
  Claim claim = {.id = "variance",
                 .statement =
                     "The variance of q·k grows with d_k: it is d_k if components have variance 1. "
                     "Multiplying by 1/√d_k brings it back to 1.",
                 .holds = true,
                 .method =
                     "10000 pairs of normal vectors; with a single key the log-sum-exp of a query "
                     "is its score",
                 .columns = {"d_k", "variance of q·k", "variance of q·k/√d_k"}};
  constexpr std::int64_t kPairs = 10000;
  Random random(1);
  for (const std::int64_t d_k : {4, 16, 64, 256}) {
    const Sizes size = {kPairs, 1, 1, d_k, 1};
    const Floats q = random.normals(kPairs * d_k);
    const Floats k = random.normals(kPairs * d_k);
    const Floats v(static_cast<std::size_t>(kPairs), 0.0F);
    const double plain = variance(attend(q, k, v, size, scaled_by(1)).lse);
    const double scaled = variance(attend(q, k, v, size, scaled_by(root_scale(d_k))).lse);
    claim.rows.push_back({static_cast<double>(d_k), plain, scaled});
    // The variance of 10000 samples is within 6% of the true one but for about one seed in ten thousand.
    claim.holds &=
        std::abs(plain / static_cast<double>(d_k) - 1) < 0.06 && std::abs(scaled - 1) < 0.06;
  }
  return claim;
}

// ‖∂p/∂score‖: the Jacobian of a softmax is diag(p) − p·pᵀ; this is its Frobenius norm.
double gradient_norm(std::span<const float> p) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    for (std::size_t j = 0; j < p.size(); ++j) {
      const double pi = static_cast<double>(p[i]);
      const double entry = (i == j ? pi : 0) - pi * static_cast<double>(p[j]);
      sum += entry * entry;
    }
  }
  return std::sqrt(sum);
}

struct Softness {
  double largest;    // mean over queries of the largest weight
  double effective;  // mean of e^entropy
  double gradient;   // median of the gradient's norm
};

Softness softness(const Floats& q, const Floats& k, const Sizes& size, float scale) {
  const AttentionOptions options = scaled_by(scale);
  const Floats v(static_cast<std::size_t>(size.keys), 0.0F);
  const Result result = attend(q, k, v, size, options);
  const Floats p = matrix(q, k, size, options, result.lse);
  Softness mean = {};
  std::vector<double> gradients;
  const auto keys = static_cast<std::size_t>(size.keys);
  for (std::size_t query = 0; query < static_cast<std::size_t>(size.queries); ++query) {
    const std::span<const float> row = std::span(p).subspan(query * keys, keys);
    mean.largest += static_cast<double>(*std::max_element(row.begin(), row.end())) /
                    static_cast<double>(size.queries);
    mean.effective += std::exp(static_cast<double>(result.trace.entropy[query])) /
                      static_cast<double>(size.queries);
    gradients.push_back(gradient_norm(row));
  }
  mean.gradient = median(std::move(gradients));
  return mean;
}

Claim softmax_saturates() {
  Claim claim = {
      .id = "saturation",
      .statement =
          "Without scaling softmax saturates as d_k grows: one key takes all the weight, and the "
          "gradient "
          "vanishes. With 1/√d_k both stay as they are.",
      .method =
          "256 normal queries over 64 normal keys; gradient: median of ‖diag(p) − p·pᵀ‖, the "
          "softmax's "
          "derivative; the first three without, the last three with 1/√d_k",
      .columns = {"d_k", "largest weight", "effective keys", "gradient", "largest weight, scaled",
                  "effective keys, scaled", "gradient, scaled"}};
  Random random(2);
  for (const std::int64_t d_k : {4, 64, 256, 1024}) {
    const Sizes size = {1, 256, 64, d_k, 1};
    const Floats q = random.normals(size.queries * d_k);
    const Floats k = random.normals(size.keys * d_k);
    const Softness plain = softness(q, k, size, 1);
    const Softness scaled = softness(q, k, size, root_scale(d_k));
    claim.rows.push_back({static_cast<double>(d_k), plain.largest, plain.effective, plain.gradient,
                          scaled.largest, scaled.effective, scaled.gradient});
  }
  const std::vector<double>& first = claim.rows.front();
  const std::vector<double>& last = claim.rows.back();
  claim.holds =
      last[1] > 0.9 && last[3] < first[3] / 100 && last[4] < 0.2 && last[6] > first[6] / 2;
  return claim;
}

// Two claims from one computation: self-attention with Q = K = V = X.
std::vector<Claim> symmetry() {
  const Sizes size = {1, 6, 6, 8, 8};
  const Floats x = Random(3).normals(size.keys * size.d_k);
  const AttentionOptions options = scaled_by(root_scale(size.d_k));
  const Result result = attend(x, x, x, size, options);
  const Floats p = matrix(x, x, size, options, result.lse);

  Claim scores = {
      .id = "symmetric-scores",
      .statement = "With Q = K = V = X the scores are symmetric: i asks j as strongly as j asks i.",
      .method = "6 tokens of 8 normal components; score = ln weight + log-sum-exp of the row",
      .columns = {"i", "j", "score i→j", "score j→i", "difference"}};
  Claim softmaxed = {
      .id = "symmetric-weights",
      .statement = "With Q = K = V = X the softmaxed weights are symmetric too.",
      .expected = false,
      .method =
          "the same tokens; each row is divided by its own Σ e^score, so the two sides differ",
      .columns = {"i", "j", "weight i→j", "weight j→i", "difference"}};
  double score_difference = 0;
  double weight_difference = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = i + 1; j < 6; ++j) {
      const auto weight = [&](std::size_t a, std::size_t b) {
        return static_cast<double>(p[a * 6 + b]);
      };
      const auto score = [&](std::size_t a, std::size_t b) {
        return std::log(weight(a, b)) + static_cast<double>(result.lse[a]);
      };
      const double score_gap = std::abs(score(i, j) - score(j, i));
      const double weight_gap = std::abs(weight(i, j) - weight(j, i));
      score_difference = std::max(score_difference, score_gap);
      weight_difference = std::max(weight_difference, weight_gap);
      if (i == 0 && j < 4) {
        const auto a = static_cast<double>(i);
        const auto b = static_cast<double>(j);
        scores.rows.push_back({a, b, score(i, j), score(j, i), score_gap});
        softmaxed.rows.push_back({a, b, weight(i, j), weight(j, i), weight_gap});
      }
    }
  }
  scores.holds = score_difference < 1e-5;  // ln of an fp32 weight is good to about 1e-6
  softmaxed.holds = weight_difference < 1e-5;
  return {scores, softmaxed};
}

Claim keys_are_not_values() {
  Claim claim = {
      .id = "keys-and-values",
      .statement =
          "K ≠ V: one input gives different keys and values through different projections. X = "
          "[1,2,3], "
          "W_k = [[1,0],[0,1],[1,1]] gives [4,5]; W_v = [[1,1],[1,0],[0,1]] gives [3,4].",
      .method = "X·W by the engine's linear layer",
      .columns = {"K[0]", "K[1]", "V[0]", "V[1]"}};
  const Floats x = {1, 2, 3};
  const Floats w_k = {1, 0, 1, 0, 1, 1};  // transposed: [out, in]
  const Floats w_v = {1, 1, 0, 1, 0, 1};
  const layers::LinearPart parts[] = {{.weight = w_k.data(), .out = 2},
                                      {.weight = w_v.data(), .out = 2}};
  Floats y(4);
  layers::Linear(3, parts).forward(x.data(), 3, 1, y.data(), 4, 1);
  claim.rows.push_back({y.begin(), y.end()});
  claim.holds = y == Floats{4, 5, 3, 4};
  return claim;
}

// Largest difference from softmax(q·kᵀ·scale)·v in double precision.
double difference_from_double(const Floats& q, const Floats& k, const Floats& v, const Sizes& size,
                              double scale, const Floats& out) {
  double most = 0;
  for (std::int64_t i = 0; i < size.queries; ++i) {
    std::vector<double> e;
    double largest = -INFINITY;
    for (std::int64_t j = 0; j < size.keys; ++j) {
      double score = 0;
      for (std::int64_t d = 0; d < size.d_k; ++d) {
        score += static_cast<double>(q[static_cast<std::size_t>(i * size.d_k + d)]) *
                 static_cast<double>(k[static_cast<std::size_t>(j * size.d_k + d)]);
      }
      e.push_back(score * scale);
      largest = std::max(largest, e.back());
    }
    double sum = 0;
    for (double& value : e) sum += value = std::exp(value - largest);
    for (std::int64_t d = 0; d < size.d_v; ++d) {
      double expected = 0;
      for (std::int64_t j = 0; j < size.keys; ++j) {
        expected += e[static_cast<std::size_t>(j)] / sum *
                    static_cast<double>(v[static_cast<std::size_t>(j * size.d_v + d)]);
      }
      most = std::max(
          most, std::abs(expected -
                         static_cast<double>(out[static_cast<std::size_t>(i * size.d_v + d)])));
    }
  }
  return most;
}

Claim narrow_keys_wide_values() {
  Claim claim = {
      .id = "widths",
      .statement =
          "Keys and values may differ in width: for d_model 512, W_K [512,64] and W_V [512,512] "
          "work.",
      .method = "20 tokens projected and attended; difference: from double precision, largest",
      .columns = {"d_model", "d_k", "d_v", "output width", "difference"}};
  constexpr std::int64_t kTokens = 20, kModel = 512, kKeys = 64;
  Random random(4);
  const Floats x = random.normals(kTokens * kModel);
  const auto projected = [&](std::int64_t out) {
    Floats weight = random.normals(out * kModel);
    for (float& w : weight) w *= root_scale(kModel);
    Floats y(static_cast<std::size_t>(kTokens * out));
    layers::Linear(kModel, {.weight = weight.data(), .out = out})
        .forward(x.data(), kModel, kTokens, y.data(), out, 0);
    return y;
  };
  const Floats q = projected(kKeys);
  const Floats k = projected(kKeys);
  const Floats v = projected(kModel);
  const Sizes size = {1, kTokens, kTokens, kKeys, kModel};
  const Result result = attend(q, k, v, size, scaled_by(root_scale(kKeys)));
  const double difference =
      difference_from_double(q, k, v, size, 1 / std::sqrt(static_cast<double>(kKeys)), result.out);
  claim.rows.push_back(
      {kModel, kKeys, kModel, static_cast<double>(result.out.size()) / kTokens, difference});
  claim.holds = difference < 1e-5;
  return claim;
}

Claim weights_add_to_one() {
  Claim claim = {
      .id = "weighted-average",
      .statement =
          "Every row of weights adds to 1, so an output is a weighted average of the values: it "
          "lies between "
          "the smallest and the largest of them.",
      .method =
          "64 normal queries, 1000 keys; smallest and largest of all row sums, outputs and values",
      .columns = {"smallest sum", "largest sum", "smallest output", "largest output",
                  "smallest value", "largest value"}};
  const Sizes size = {1, 64, 1000, 32, 1};
  Random random(5);
  const Floats q = random.normals(size.queries * size.d_k);
  const Floats k = random.normals(size.keys * size.d_k);
  const Floats v = random.normals(size.keys);
  const AttentionOptions options = scaled_by(root_scale(size.d_k));
  const Result result = attend(q, k, v, size, options);
  const Floats p = matrix(q, k, size, options, result.lse);
  std::vector<double> sums;
  for (std::size_t row = 0; row < static_cast<std::size_t>(size.queries); ++row) {
    double sum = 0;
    for (std::size_t key = 0; key < static_cast<std::size_t>(size.keys); ++key) {
      sum += static_cast<double>(p[row * static_cast<std::size_t>(size.keys) + key]);
    }
    sums.push_back(sum);
  }
  const auto [least_sum, most_sum] = std::minmax_element(sums.begin(), sums.end());
  const auto [least_out, most_out] = std::minmax_element(result.out.begin(), result.out.end());
  const auto [least_value, most_value] = std::minmax_element(v.begin(), v.end());
  claim.rows.push_back({*least_sum, *most_sum, static_cast<double>(*least_out),
                        static_cast<double>(*most_out), static_cast<double>(*least_value),
                        static_cast<double>(*most_value)});
  claim.holds = std::abs(*least_sum - 1) < 1e-5 && std::abs(*most_sum - 1) < 1e-5 &&
                *least_out >= *least_value && *most_out <= *most_value;
  return claim;
}

Claim soft_becomes_hard() {
  Claim claim = {.id = "soft-lookup",
                 .statement =
                     "Attention is a soft lookup: as scores are sharpened, SELECT … WHERE "
                     "similarity(key, query) turns "
                     "into SELECT … WHERE key = query, and the value of the one matching row comes "
                     "back exactly.",
                 .method =
                     "100 rows with unit keys; the query is the key of row 30, whose value is 30; "
                     "× is the scale",
                 .columns = {"×", "weight of row 30", "value returned"}};
  constexpr std::int64_t kRows = 100, kDim = 16, kMatch = 30;
  Floats keys = Random(6).normals(kRows * kDim);
  Floats values(kRows);
  for (std::size_t row = 0; row < kRows; ++row) {
    float length = 0;
    for (std::size_t d = 0; d < kDim; ++d) length += keys[row * kDim + d] * keys[row * kDim + d];
    for (std::size_t d = 0; d < kDim; ++d) keys[row * kDim + d] /= std::sqrt(length);
    values[row] = static_cast<float>(row);
  }
  const Floats query(keys.begin() + kMatch * kDim, keys.begin() + (kMatch + 1) * kDim);
  const Sizes size = {1, 1, kRows, kDim, 1};
  double before = 0;
  claim.holds = true;
  for (const float scale : {0.25F, 4.0F, 16.0F, 256.0F}) {
    const AttentionOptions options = scaled_by(scale);
    const Result result = attend(query, keys, values, size, options);
    const auto weight = static_cast<double>(matrix(query, keys, size, options, result.lse)[kMatch]);
    claim.rows.push_back({static_cast<double>(scale), weight, static_cast<double>(result.out[0])});
    claim.holds &= weight > before;
    before = weight;
  }
  claim.holds &= claim.rows.back()[2] == kMatch;
  return claim;
}

Claim parts_merge() {
  Claim claim = {
      .id = "merge",
      .statement =
          "Attention over A ∪ B follows from attention over A and over B alone, given their "
          "log-sum-exps.",
      .method = "32 normal queries, 1000 keys cut at 300; difference: from the whole, largest",
      .columns = {"keys of A", "keys of B", "difference"}};
  constexpr std::int64_t kCut = 300;
  const Sizes whole = {1, 32, 1000, 32, 16};
  Random random(7);
  const Floats q = random.normals(whole.queries * whole.d_k);
  const Floats k = random.normals(whole.keys * whole.d_k);
  const Floats v = random.normals(whole.keys * whole.d_v);
  const AttentionOptions options = scaled_by(root_scale(whole.d_k));
  const Result together = attend(q, k, v, whole, options);
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    Sizes size = whole;
    size.keys = end - begin;
    return attend(q, Floats(k.begin() + begin * size.d_k, k.begin() + end * size.d_k),
                  Floats(v.begin() + begin * size.d_v, v.begin() + end * size.d_v), size, options);
  };
  const Result a = part(0, kCut);
  const Result b = part(kCut, whole.keys);
  const Shape4 shape = {1, 1, whole.queries, whole.d_v};
  const AttentionPart parts[] = {{TensorView(a.out.data(), shape), a.lse},
                                 {TensorView(b.out.data(), shape), b.lse}};
  Floats merged(together.out.size());
  AttentionOutput output;
  output.out = MutableTensorView(merged.data(), shape);
  merge(parts, output);
  double difference = 0;
  for (std::size_t i = 0; i < merged.size(); ++i) {
    difference = std::max(difference, static_cast<double>(std::abs(merged[i] - together.out[i])));
  }
  claim.rows.push_back(
      {static_cast<double>(kCut), static_cast<double>(whole.keys - kCut), difference});
  claim.holds = difference < 1e-6;
  return claim;
}

double peak_memory_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;  // Linux counts in kB
}

// Distinct for distinct tokens: every step of this mixing can be undone (Wellons' lowbias32).
std::uint32_t code_of(std::uint32_t token) {
  token = (token ^ (token >> 16)) * 0x7feb352dU;
  token = (token ^ (token >> 15)) * 0x846ca68bU;
  return token ^ (token >> 16);
}

Claim long_range() {
  Claim claim = {
      .id = "long-range",
      .statement = "A fact a million tokens back is found, exactly, in O(N) memory.",
      .method =
          "64 queries ask for 64 of 1048576 tokens, the first among them; key: the token's own 32 "
          "signs; value: "
          "its number, from 1; memory: growth of the process's peak during the call (keys and "
          "values take 132 MB, the matrix would take 256 MB; true below 32 MB)",
      .columns = {"tokens", "smallest weight of the fact", "wrong values", "extra MB", "seconds"}};
  constexpr std::int64_t kTokens = std::int64_t{1} << 20, kQueries = 64, kBits = 32;
  const Sizes size = {1, kQueries, kTokens, kBits, 1};
  Floats keys(static_cast<std::size_t>(kTokens * kBits));
  Floats values(static_cast<std::size_t>(kTokens));
  for (std::uint32_t token = 0; token < kTokens; ++token) {
    const std::uint32_t code = code_of(token);
    for (std::uint32_t bit = 0; bit < kBits; ++bit)
      keys[token * std::size_t{kBits} + bit] = (code >> bit & 1) != 0 ? 1 : -1;
    values[token] = static_cast<float>(token + 1);
  }
  Floats queries;
  std::vector<std::int64_t> facts;
  for (std::int64_t q = 0; q < kQueries; ++q) {
    facts.push_back(q * (kTokens / kQueries));
    queries.insert(queries.end(), keys.begin() + facts.back() * kBits,
                   keys.begin() + (facts.back() + 1) * kBits);
  }
  AttentionOptions options = scaled_by(16);  // one sign that differs costs a factor of e^32
  options.trace.top = 1;
  const double before = peak_memory_mb();
  const auto start = std::chrono::steady_clock::now();
  const Result result = attend(queries, keys, values, size, options);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double extra = peak_memory_mb() - before;
  int wrong = 0;
  double least = 1;
  for (std::size_t q = 0; q < static_cast<std::size_t>(kQueries); ++q) {
    wrong +=
        result.out[q] != static_cast<float>(facts[q] + 1) || result.trace.top_keys[q] != facts[q];
    least = std::min(least, static_cast<double>(result.trace.top_weights[q]));
  }
  claim.rows.push_back(
      {static_cast<double>(kTokens), least, static_cast<double>(wrong), extra, seconds});
  claim.holds = wrong == 0 && least > 0.999999 && extra < 32;
  return claim;
}

}  // namespace

std::vector<Claim> check_claims() {
  std::vector<Claim> claims = {variance_grows(), softmax_saturates()};
  for (Claim& claim : symmetry()) claims.push_back(std::move(claim));
  claims.push_back(keys_are_not_values());
  claims.push_back(narrow_keys_wide_values());
  claims.push_back(weights_add_to_one());
  claims.push_back(soft_becomes_hard());
  claims.push_back(parts_merge());
  claims.push_back(long_range());
  return claims;
}

}  // namespace qkv::lens
