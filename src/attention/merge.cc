// merge(): attention over the union of sets of keys, from each set's output and log-sum-exp.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "attention/check.h"
#include "attention/chunk.h"
#include "attention/overlap.h"
#include "attention/problem.h"
#include "qkv/attention.h"

namespace qkv {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

struct Term {
  std::size_t part;
  double weight;  // e^(lse_i − largest), then the share in the sum
};

// terms = the parts that saw something in this row; returns the row's lse.
double shares_of(std::span<const AttentionPart> parts, std::size_t row, std::vector<Term>& terms) {
  terms.clear();
  double largest = kNothing;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double lse = static_cast<double>(parts[i].lse[row]);
    if (lse == kNothing) continue;
    terms.push_back({i, lse});
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

bool is_same(const TensorView& a, const TensorView& b) {
  bool same = a.data == b.data && a.dtype == b.dtype;
  for (std::size_t i = 0; i < 4; ++i) same &= a.shape[i] <= 1 || a.strides[i] == b.strides[i];
  return same;
}

// What is written is a part's own, row for row read before it is written, or lies apart from it.
void check_apart(const std::string& name, const AttentionPart& part, const AttentionOutput& to) {
  const std::string out_name = name + ".out";
  const std::string lse_name = name + ".lse";
  const bool out_in_place = is_same(part.out, to.out);
  const bool lse_in_place = part.lse.data() == to.lse.data();
  Places against_out;
  if (!out_in_place) against_out.read(out_name.c_str(), part.out);
  against_out.read(lse_name.c_str(), part.lse);
  against_out.written("out", to.out);
  against_out.check("merge");
  Places against_lse;
  against_lse.read(out_name.c_str(), part.out);
  if (!lse_in_place) against_lse.read(lse_name.c_str(), part.lse);
  against_lse.written("lse", to.lse);
  against_lse.check("merge");
}

}  // namespace

void merge(std::span<const AttentionPart> parts, const AttentionOutput& output) {
  if (parts.empty()) fail("merge", "no parts; expected at least one");
  const Shape4 shape = output.out.shape;
  check_output("merge", "out", output.out, shape);
  if (shape[3] > kMaxDim)
    fail("merge", "out has shape " + text_of(shape) + "; expected a last dimension of at most " +
                      std::to_string(kMaxDim));
  const auto rows = static_cast<std::size_t>(shape[0] * shape[1] * shape[2]);
  if (output.lse.data() != nullptr && output.lse.size() != rows)
    fail("merge", "lse has " + std::to_string(output.lse.size()) + " entries; expected " +
                      std::to_string(rows));
  check_aligned("merge", "lse", output.lse.data(), sizeof(float));
  Places written;
  written.written("out", output.out);
  written.written("lse", output.lse);
  written.check("merge");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = "parts[" + std::to_string(i) + "]";
    check_tensor("merge", (name + ".out").c_str(), parts[i].out, shape);
    if (parts[i].lse.size() != rows)
      fail("merge", name + ".lse has " + std::to_string(parts[i].lse.size()) +
                        " entries; expected " + std::to_string(rows));
    check_aligned("merge", (name + ".lse").c_str(), parts[i].lse.data(), sizeof(float));
    check_apart(name, parts[i], output);
  }

  const MutableRows out = rows_of<std::byte>(output.out);
  const auto dim = static_cast<std::size_t>(shape[3]);
  std::vector<float> scratch(dim);
  std::vector<double> sums(dim);
  std::vector<Term> terms;
  std::size_t row = 0;
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t q = 0; q < shape[2]; ++q, ++row) {
        const double lse = shares_of(parts, row, terms);
        // −0 + x has the bits of x, −0 included
        std::fill(sums.begin(), sums.end(), terms.empty() ? 0.0 : -0.0);
        for (const Term& t : terms) {
          const FloatRows from = float_rows(rows_of(parts[t.part].out), b, h, {q, q + 1},
                                            static_cast<int>(dim), scratch.data());
          for (std::size_t d = 0; d < dim; ++d)
            sums[d] += t.weight * static_cast<double>(from.data[d]);
        }
        for (std::size_t d = 0; d < dim; ++d) scratch[d] = static_cast<float>(sums[d]);
        if (dim > 0) store_row(scratch.data(), static_cast<int>(dim), out, b, h, q);
        if (output.lse.data() != nullptr) output.lse[row] = static_cast<float>(lse);
      }
}

}  // namespace qkv
