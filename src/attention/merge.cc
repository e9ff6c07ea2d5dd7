// merge(): attention over the union of sets of keys, from each set's output and log-sum-exp.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "attention/problem.h"
#include "qkv/attention.h"

namespace qkv {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

struct Term {
  const float* row;
  double weight;  // e^(lse_i − largest), then the share in the sum
};

// terms = the parts that saw something in this row; returns the row's lse.
double shares_of(std::span<const AttentionPart> parts, std::int64_t b, std::int64_t h,
                 std::int64_t q, std::size_t row, std::vector<Term>& terms) {
  terms.clear();
  double largest = kNothing;
  for (const AttentionPart& part : parts) {
    const double lse = static_cast<double>(part.lse[row]);
    if (lse == kNothing) continue;
    terms.push_back({rows_of<const float>(part.out).row(b, h, q), lse});
    if (lse > largest || std::isnan(lse)) largest = lse;
  }
  double sum = 0;
  for (Term& t : terms) {
    t.weight = std::exp(t.weight - largest);
    sum += t.weight;
  }
  for (Term& t : terms) t.weight /= sum;
  return terms.empty() ? kNothing : largest + std::log(sum);
}

}  // namespace

void merge(std::span<const AttentionPart> parts, const AttentionOutput& output) {
  if (parts.empty()) fail("merge", "no parts; expected at least one");
  const Shape4 shape = output.out.shape;
  check_output("merge", output.out, shape);
  const auto rows = static_cast<std::size_t>(shape[0] * shape[1] * shape[2]);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = "parts[" + std::to_string(i) + "]";
    check_tensor("merge", (name + ".out").c_str(), parts[i].out, shape);
    if (parts[i].lse.size() != rows)
      fail("merge", name + ".lse has " + std::to_string(parts[i].lse.size()) +
                        " entries; expected " + std::to_string(rows));
  }
  if (output.lse.data() != nullptr && output.lse.size() != rows)
    fail("merge", "lse has " + std::to_string(output.lse.size()) + " entries; expected " +
                      std::to_string(rows));

  const Rows<float> out = rows_of<float>(output.out);
  std::vector<Term> terms;
  std::size_t row = 0;
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t q = 0; q < shape[2]; ++q, ++row) {
        const double lse = shares_of(parts, b, h, q, row, terms);
        float* to = out.row(b, h, q);
        for (std::int64_t d = 0; d < shape[3]; ++d) {
          double sum = terms.empty() ? 0.0 : -0.0;  // −0 + x has the bits of x, −0 included
          for (const Term& t : terms) sum += t.weight * static_cast<double>(t.row[d]);
          to[d] = static_cast<float>(sum);
        }
        if (output.lse.data() != nullptr) output.lse[row] = static_cast<float>(lse);
      }
}

}  // namespace qkv
