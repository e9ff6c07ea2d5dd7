// A query: bounds of every block first, then looks at what can still change the answer, until the bound is small enough.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "memory/index_search.h"
#include "memory/question.h"

namespace qkv {
namespace index_search {

IndexSearch::IndexSearch(const MemoryIndex::Store& store, std::span<const float> query,
                         const IndexQuery& options, bool ranking)
    : store_(store),
      query_(checked_query(query)),
      options_(options),
      ranking_(ranking),
      scale_(checked_scale(query, options.scale)),
      reach_(std::fabs(scale_) *
             distance(query.data(), nullptr, static_cast<std::int64_t>(query.size()))),
      words_(query_),
      views_(store.blocks.size()),
      sum_(ranking ? 0 : store.value_dim),
      answer_(ranking ? 0 : at(store.value_dim)) {
  if (static_cast<std::int64_t>(query.size()) != store.dim)
    throw std::invalid_argument("MemoryIndex: q has " + std::to_string(query.size()) +
                                " dimensions, keys have " + std::to_string(store.dim));
  if (!(options.max_error >= 0))
    throw std::invalid_argument("MemoryIndex: max_error is " + std::to_string(options.max_error) +
                                ", expected 0 or more");
  reading_.rows = store.rows();
}

void IndexSearch::run() {
  look_at_centroids();
  for (;;) {
    settle();
    if (reading_.err_bound <= options_.max_error || reading_.rows_read == reading_.rows) return;
    if (hopeless_ || options_.max_error == 0) {
      flat_ = true;
      budget_ = kInfinite;
    }
    choose();
    scan();
    read();
    budget_ *= 8;
  }
}

void IndexSearch::look_at_centroids() {
  const auto count = static_cast<std::int64_t>(views_.size());
  parallel_for(options_.threads, count_parts(), [&](std::int64_t chunk) {
    std::array<double, kPartBlocks> dots;
    const std::int64_t from = chunk * kPartBlocks, here = std::min(kPartBlocks, count - from);
    query_dot_rows(query_, store_.centroid(at(from)).data(), here, dots.data());
    for (std::int64_t i = 0; i < here; ++i) bound(at(from + i), scale_ * dots[at(i)]);
  });
}

void IndexSearch::bound(std::size_t b, double score) {
  const IndexBlock& of = block(b);
  View& view = views_[b];
  view.left = of.rows();
  if (view.left == 0) {
    view.state = View::read;
    return;
  }
  const double a = reach_ * of.key_radius * kWiden;
  const double t = std::min(a, reach_ * of.key_drift * kWiden);
  const double off = rounding(of.centroid_norm);
  const double tau = a > 0 ? t / a : 0;
  const double mean = (1 + tau) / 2 + (1 - tau) / 2 * std::exp(-2 * a);
  const double mass = std::log(static_cast<double>(view.left)) + score;
  view.score = score;
  view.low = mass - off - t;
  view.high = mass + off + a + std::log(mean);
  view.read_off = rounding((of.centroid_norm + of.key_radius) * kWiden) + 2 * kUnit;
  view.value_off =
      std::min(of.value_radius,
               2 * std::tanh(a / 2) * (of.value_radius + of.value_drift) + of.value_drift) *
      kWiden;
}

void IndexSearch::weigh(Part& part, std::size_t b) {
  View& view = views_[b];
  const bool some = view.read_mass > kNothing, rest = view.left > 0;
  const double radius = ranking_ ? 1 : block(b).value_radius;
  view.read_part = some ? std::exp(view.read_mass - shift_) : 0;
  view.low_part = rest ? std::exp(view.low - shift_) : 0;
  view.high_part = rest ? std::exp(view.high - shift_) : 0;
  view.half = (view.high_part - view.low_part) / 2;
  view.away = ranking_ ? 0 : block(b).mean_norm;
  if (some) part.least += std::exp(view.read_mass - view.read_off - shift_);
  part.least += view.low_part;
  part.most += view.read_part + view.high_part;
  part.rounding += (view.read_part + view.low_part) * std::expm1(view.read_off) * radius;
  if (rest) part.spread += view.high_part * view.value_off;
  if (rest || some) part.farthest = std::max(part.farthest, radius);
}

void IndexSearch::settle() {
  shift_ = kNothing;
  for (const View& view : views_) shift_ = std::max({shift_, view.low, view.read_mass});
  std::vector<Part> parts(at(count_parts()));
  for_parts(parts, [&](Part& part, std::size_t first, std::size_t last) {
    for (std::size_t b = first; b < last; ++b) weigh(part, b);
  });
  least_ = total(parts, &Part::least);
  hopeless_ = total(parts, &Part::rounding) > options_.max_error * total(parts, &Part::most);
  double farthest = 0;
  for (const Part& part : parts) farthest = std::max(farthest, part.farthest);
  // Wherever means are, both bounds are at least these.
  if (!ranking_ && reading_.rows_read < reading_.rows && farthest > options_.max_error &&
      total(parts, &Part::spread) > options_.max_error * least_) {
    reading_.err_bound = kInfinite;
    return;
  }
  represent(parts);
  const double norm = distance_of_answer();
  for_parts(parts, [&](Part& part, std::size_t first, std::size_t last) {
    measure_away(first, last, norm);
    for (std::size_t b = first; b < last; ++b) add_error(part, b);
  });
  const double error = total(parts, &Part::error);
  double bound = error / least_;
  if (ranking_) {
    // Rows that were left out can only add to the denominator too.
    double read = 0;
    for (const View& view : views_) read += std::exp(view.read_mass - view.read_off - shift_);
    bound = error / (read + total(parts, &Part::unread));
  } else {
    bound += ((kBlockRows + 4) * kUnit * total(parts, &Part::read_size) +
              1e-9 * total(parts, &Part::represented_size)) /
             least_;
  }
  for (const Part& part : parts) farthest = std::max(farthest, part.farthest);
  // An answer is a mean of values, and none is farther away.
  const double cap = ranking_ ? 1 : farthest;
  reading_.err_bound = std::isnan(bound) ? cap : std::min(bound, cap);
  if (!ranking_)  // the answer as float32
    reading_.err_bound += kUnit * norm + std::sqrt(static_cast<double>(store_.value_dim)) * kLeast;
  reading_.err_bound *= kWiden;
}

void IndexSearch::represent(std::vector<Part>& parts) {
  const double few = std::max(options_.max_error, 1e-300);
  // Blocks that cannot matter are left out of the sum over means: no vector of theirs is read.
  const double negligible =
      ranking_ ? kInfinite : 1e-3 / static_cast<double>(views_.size()) * least_;
  for_parts(parts, [&](Part& part, std::size_t first, std::size_t last) {
    for (std::size_t b = first; b < last; ++b) {
      View& view = views_[b];
      view.represented = view.half = 0;
      part.read_size += view.read_part * reach_of_values(b);
      if (view.left == 0) continue;
      const double low = view.low_part, high = view.high_part;
      view.half = high;
      if (high * std::max(1.0, reach_of_values(b) / few) <= negligible) continue;
      // The middle has the smallest bound, unless there is hardly one.
      view.represented = high < 1e6 ? (low + high) / 2 : low;
      view.half = high - view.represented;
      part.mass += view.represented;
      part.represented_size += view.represented * reach_of_values(b);
      const float* mean = store_.mean(b).data();
      part.sum.resize(answer_.size());
      double* sum = part.sum.data();
      for (std::size_t d = 0; d < answer_.size(); ++d) sum[d] += view.represented * double{mean[d]};
    }
  });
  const double read_mass = sum_.nothing() ? 0 : std::exp(sum_.log_sum_exp() - shift_);
  const double mass = read_mass + total(parts, &Part::mass);
  std::fill(answer_.begin(), answer_.end(), 0.0);
  if (!sum_.nothing() && !ranking_) {
    sum_.value(answer_);
    for (double& x : answer_) x *= read_mass;
  }
  for (const Part& part : parts)
    for (std::size_t d = 0; d < part.sum.size(); ++d) answer_[d] += part.sum[d];
  for (double& x : answer_) x /= mass;
  rounded_.assign(answer_.begin(), answer_.end());
}

double IndexSearch::distance_of_answer() const {
  double squares = 0;
  for (const double x : answer_) squares += x * x;
  return std::sqrt(squares) * kWiden;
}

void IndexSearch::measure_away(std::size_t first, std::size_t last, double norm) {
  const auto matters = [&](const View& view) {
    return view.represented > 0 || view.read_mass > kNothing;
  };
  std::array<double, kPartBlocks> dots;
  const auto from = views_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto to = views_.begin() + static_cast<std::ptrdiff_t>(last);
  const bool some = !ranking_ && !answer_.empty() && std::any_of(from, to, matters);
  if (some)
    query_dot_rows(rounded_, store_.mean(first).data(), static_cast<std::int64_t>(last - first),
                   dots.data());
  for (std::size_t b = first; b < last; ++b) {
    const double mean = block(b).mean_norm, most = mean + norm;
    views_[b].away = ranking_ ? 0 : most;
    if (!some || !matters(views_[b])) continue;
    const double off = (kernels::kDotRoundings + 8) * kUnit * mean * norm + 1e-40;
    const double squares = mean * mean - 2 * (dots[b - first] - off) + norm * norm;
    if (std::isfinite(squares) && squares > 1e-3 * most * most)
      views_[b].away = std::min(most, std::sqrt(squares) * kWiden);
    else
      views_[b].away = std::min(most, difference(b) * kWiden + norm * 1e-15);
  }
}

double IndexSearch::difference(std::size_t b) const {
  const std::span<const float> mean = store_.mean(b);
  double squares = 0;
  for (std::size_t d = 0; d < answer_.size(); ++d)
    squares += (double{mean[d]} - answer_[d]) * (double{mean[d]} - answer_[d]);
  return std::sqrt(squares);
}

void IndexSearch::add_error(Part& part, std::size_t b) const {
  const View& view = views_[b];
  if (block(b).rows() == 0) return;
  const double reach = (ranking_ ? 1 : block(b).value_radius) + view.away;
  part.farthest = std::max(part.farthest, reach);
  if (view.read_mass > kNothing) part.error += view.read_part * std::expm1(view.read_off) * reach;
  if (view.left == 0) return;
  part.unread += view.high_part;
  part.error += changes(view, view.high_part);
}

}  // namespace index_search

IndexAnswer MemoryIndex::attend(std::span<const float> query, const IndexQuery& options) const {
  index_search::IndexSearch search(*store_, query, options, false);
  if (size() == 0) return {};
  search.run();
  IndexAnswer answer;
  static_cast<IndexReading&>(answer) = search.reading();
  for (const double x : search.answer()) answer.value.push_back(static_cast<float>(x));
  return answer;
}

IndexRanking MemoryIndex::rank(std::span<const float> query, const IndexQuery& options) const {
  index_search::IndexSearch search(*store_, query, options, true);
  if (size() == 0) return {};
  search.run();
  IndexRanking ranking;
  static_cast<IndexReading&>(ranking) = search.reading();
  ranking.best = search.take_rows();
  std::sort(ranking.best.begin(), ranking.best.end(), [](const IndexRow& a, const IndexRow& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  double sum = 0;
  for (auto row = ranking.best.rbegin(); row != ranking.best.rend(); ++row)  // the smallest first
    sum += row->weight = std::exp(row->score - ranking.best.front().score);
  for (IndexRow& row : ranking.best) row.weight /= sum;
  return ranking;
}

}  // namespace qkv
