// Where a query looks next, and the looking: the codes of blocks, and rows.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "kernels/rows.h"
#include "memory/index_search.h"

namespace qkv {
namespace index_search {
namespace {

double log_add(double a, double b) {
  const double most = std::max(a, b), least = std::min(a, b);
  return least == kNothing ? most : most + std::log1p(std::exp(least - most));
}

// Memory that is worked on next; only asks for it.
void ask_for(const void* rows, std::int64_t bytes) {
  const auto* line = static_cast<const std::byte*>(rows);
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(line + i);
}

}  // namespace

double IndexSearch::bucket_top(int bucket) const {
  return bucket + 1 == kBuckets
             ? kInfinite
             : std::exp(log_worth_ + (bucket + 1 - kMiddle) * (std::numbers::ln2 / 4));
}

int IndexSearch::bucket(double log_density) const {
  const double of = (log_density - log_worth_) * (4 / std::numbers::ln2) + kMiddle;
  return of > 0 ? static_cast<int>(std::min(of, kBuckets - 1.0)) : 0;
}

double IndexSearch::closed_density(const View& view) const {
  const double high = std::exp(std::min(view.high - shift_, 600.0));
  return std::log(changes(view, high) / cost(view));
}

double IndexSearch::scanned_density(const View& view) const {
  const double off = std::min(view.code_off, 300.0);
  const double factor =
      ranking_ ? std::exp(off) : std::exp(off) * view.value_off + std::sinh(off) * view.away;
  return view.score - shift_ + std::log(factor);
}

void IndexSearch::choose() {
  // Half of what is allowed; the other half is for what is represented or rounded.
  const double allowed = 0.5 * options_.max_error * least_;
  log_worth_ = std::log(std::max(allowed, 1e-300) / static_cast<double>(reading_.rows));
  parallel_for(options_.threads, count_parts(), [&](std::int64_t part) {
    const std::size_t first = at(part * kPartBlocks);
    for (std::size_t b = first; b < std::min(views_.size(), first + at(kPartBlocks)); ++b) {
      View& view = views_[b];
      if (view.left == 0) continue;
      const bool closed = view.state == View::closed;
      view.density = closed ? closed_density(view) : scanned_density(view);
      view.bucket = bucket(view.density + (closed ? 0 : double{view.top}));
    }
  });
  std::array<double, kBuckets> costs{}, open{};
  double all_open = 0;
  for (const View& view : views_) {
    if (view.left == 0) continue;
    if (view.state == View::closed) {
      costs[at(view.bucket)] += cost(view);
      continue;
    }
    const auto rows = static_cast<double>(view.left);
    if (view.bucket < kMinor)  // too little to tell its rows apart
      open[at(view.bucket)] += rows;
    else
      for (const float x : view.scores)
        if (x > kDone) open[at(bucket(view.density + double{x}))] += 1;
    all_open += rows;
  }
  int least = 0;  // what lies in lower buckets may stay
  double below = 0, wanted = all_open;
  for (; least + 1 < kBuckets; ++least) {
    below += (costs[at(least)] + open[at(least)]) * bucket_top(least);
    if (below > allowed || hopeless_) break;
    wanted -= open[at(least)];
  }
  // Codes that leave most rows to be read are not worth looking at.
  if (!flat_ && reading_.codes_read > 4096 && wanted > all_open / 2) {
    flat_ = true;
    if (wanted > 0.9 * all_open) budget_ = kInfinite;
  }
  int from = kBuckets;
  double spent = 0;
  while (from > 0 && spent < budget_ && (from > least || spent == 0)) {
    --from;
    spent += costs[at(from)] + open[at(from)];
  }
  take(from, spent - budget_);
}

void IndexSearch::take(int from, double beyond) {
  to_scan_.clear();
  to_read_.clear();
  for (std::size_t b = 0; b < views_.size(); ++b) {
    const View& view = views_[b];
    if (view.left == 0) continue;
    if (view.state == View::closed) {
      const int of = view.bucket;
      if (of == from && beyond > 0)
        beyond -= cost(view);
      else if (of >= from && flat_)
        to_read_.push_back({b, {}});
      else if (of >= from)
        to_scan_.push_back(b);
      continue;
    }
    const int top = view.bucket;
    if (top < from) continue;
    Work work{b, {}};
    for (std::size_t i = 0; i < view.scores.size(); ++i) {
      if (!(view.scores[i] > kDone)) continue;
      const int of = top < kMinor ? top : bucket(view.density + double{view.scores[i]});
      if (of == from && beyond > 0)
        beyond -= 1;
      else if (of >= from)
        work.listed.push_back(static_cast<std::int32_t>(i));
    }
    // Rows in a row are read faster than rows here and there.
    const std::int64_t rows = block(b).rows();
    const auto listed = static_cast<std::int64_t>(work.listed.size());
    if (listed == 0) continue;
    if (2 * listed > rows && view.left == rows) work.listed.clear();
    to_read_.push_back(std::move(work));
  }
}

void IndexSearch::weigh_left(View& view) {
  const auto count = std::ssize(view.scores);
  const kernels::RowKernels& rows = kernels::row_kernels();
  view.top = rows.largest(view.scores.data(), count);
  std::array<float, kernels::kScoreStride> below;
  for (std::size_t r = 0; r < view.scores.size(); ++r) below[r] = view.scores[r] - view.top;
  const double sum = double{rows.sum_of_exp(below.data(), count, 0)};
  const double mass = view.score + double{view.top} + std::log(sum);
  view.low = mass - view.code_off - kSumOff;
  view.high = mass + view.code_off + kSumOff;
}

void IndexSearch::scan() {
  const auto count = std::ssize(to_scan_);
  parallel_for(options_.threads, count, [&](std::int64_t i) {
    const std::size_t b = to_scan_[at(i)];
    if (i + kAhead < count) {
      const IndexBlock& next = block(to_scan_[at(i + kAhead)]);
      ask_for(next.codes.data(), std::ssize(next.codes));
    }
    scan_block(block(b), views_[b]);
  });
  for (const std::size_t b : to_scan_) reading_.codes_read += block(b).rows();
}

void IndexSearch::scan_block(const IndexBlock& of, View& view) const {
  std::array<std::int32_t, kBlockRows> dots;
  kernels::dot_kernels().query_dot_codes(words_.words.data(), of.codes.data(),
                                         static_cast<int>(of.rows()), static_cast<int>(store_.dim),
                                         dots.data());
  view.state = View::scanned;
  view.scores.resize(at(of.rows()));
  const double factor = scale_ * of.step * words_.step;
  bool usable = true;
  for (std::size_t r = 0; r < view.scores.size(); ++r) {
    // A number too large for float32 says nothing; the row is read before all others.
    const double score = factor * dots[r];
    usable = usable && std::fabs(score) < double{kHuge};
    view.scores[r] = static_cast<float>(score);
  }
  const double norm = (of.key_radius + of.code_error) * kWiden;
  view.code_off = usable ? reach_ * of.code_error * kWiden +
                               (std::fabs(scale_) * words_.error + 4 * kUnit * reach_) * norm +
                               kLeast + rounding(of.centroid_norm)
                         : kInfinite;
  if (!usable) std::fill(view.scores.begin(), view.scores.end(), kHuge);
  view.value_off = of.value_radius * kWiden;
  const double low = view.low, high = view.high;
  weigh_left(view);
  view.low = std::isnan(view.low) ? low : std::max(low, view.low);
  view.high = std::isnan(view.high) ? high : std::min(high, view.high);
}

void IndexSearch::dot_all(const IndexBlock& of, double* dots) const {
  constexpr std::int64_t kStep = 16384;  // bytes: half of the first-level cache
  const std::int64_t row = store_.dim * std::int64_t{sizeof(float)}, rows = of.rows();
  const std::int64_t step = std::max<std::int64_t>(1, kStep / row);
  for (std::int64_t i = 0; i < rows; i += step) {
    const std::int64_t here = std::min(step, rows - i), next = std::min(step, rows - i - here);
    ask_for(of.keys.data() + (i + here) * store_.dim, next * row);
    if (next == 0 && !ranking_ && !of.mirrored)
      ask_for(of.values.data(),
              std::min(kStep, std::ssize(of.values) * std::int64_t{sizeof(float)}));
    query_dot_rows(query_, of.keys.data() + i * store_.dim, here, dots + i);
  }
}

void IndexSearch::dot_listed(const IndexBlock& of, const std::vector<std::int32_t>& listed,
                             double* dots) const {
  const std::int64_t dim = store_.dim, value_dim = ranking_ || of.mirrored ? 0 : store_.value_dim;
  for (std::size_t i = 0; i < listed.size(); ++i) {
    if (i + 1 < listed.size()) {
      ask_for(of.keys.data() + listed[i + 1] * dim, dim * std::int64_t{sizeof(float)});
      ask_for(of.values.data() + listed[i + 1] * value_dim,
              value_dim * std::int64_t{sizeof(float)});
    }
    query_dot_rows(query_, of.keys.data() + listed[i] * dim, 1, dots + i);
  }
}

void IndexSearch::read_rows(const Work& work, const Work* next, MemoryState& sum,
                            std::vector<IndexRow>& rows) {
  const IndexBlock& of = block(work.block);
  View& view = views_[work.block];
  const bool all = work.listed.empty();
  const std::int64_t count = all ? of.rows() : static_cast<std::int64_t>(work.listed.size());
  const std::int64_t value_dim = ranking_ ? 0 : store_.value_dim;
  const auto row = [&](std::int64_t i) { return all ? i : std::int64_t{work.listed[at(i)]}; };
  std::array<double, kBlockRows> scores;
  if (all)
    dot_all(of, scores.data());
  else
    dot_listed(of, work.listed, scores.data());
  double most = kNothing;
  for (std::int64_t i = 0; i < count; ++i) most = std::max(most, scores[at(i)] *= scale_);
  std::array<float, kernels::kScoreStride> weights;
  MemoryState::Block part;
  part.rows = count;
  part.max = most;
  for (std::int64_t i = 0; i < count; ++i) {
    weights[at(i)] = static_cast<float>(std::exp(scores[at(i)] - most));
    part.sum += double{weights[at(i)]};
    part.squares += double{weights[at(i)]} * double{weights[at(i)]};
    if (ranking_) rows.push_back({of.ids[at(row(i))], scores[at(i)], 0});
  }
  if (!ranking_) {
    const auto& floats =
        kernels::decode_kernels().of[static_cast<std::size_t>(kernels::Element::f32)];
    const int size = static_cast<int>(value_dim);
    std::vector<float> weighted(at(kernels::acc_stride(std::max(size, 1))));
    const float none = 0;
    if (size > 0 && all)
      floats.weighted_sum_values(
          weights.data(), 1, {of.value_rows(), size, static_cast<int>(count), size},
          next == nullptr ? kernels::RowsAhead{} : ahead(*next), &none, weighted.data());
    else if (size > 0)
      floats.weighted_sum_listed_values(weights.data(), work.listed.data(), static_cast<int>(count),
                                        {of.value_rows(), size, static_cast<int>(of.rows()), size},
                                        none, weighted.data());
    part.weighted = std::span<const float>(weighted).first(at(value_dim));
    if (std::all_of(part.weighted.begin(), part.weighted.end(),
                    [](float x) { return std::isfinite(x); }))
      sum.add_block(part);
    else  // too large for float32
      for (std::int64_t i = 0; i < count; ++i)
        sum.add(scores[at(i)], {of.value_rows() + row(i) * value_dim, at(value_dim)});
  } else {
    sum.add_block(part);
  }
  view.read_mass = log_add(view.read_mass, most + std::log(part.sum));
  view.left -= count;
  for (const std::int32_t i : work.listed) view.scores[at(i)] = kDone;
  if (view.left == 0) {
    view.state = View::read;
    view.low = view.high = kNothing;
    view.scores = {};
  } else {
    weigh_left(view);
  }
}

kernels::RowsAhead IndexSearch::ahead(const Work& work) const {
  const IndexBlock& of = block(work.block);
  const auto bytes = store_.dim * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t first = work.listed.empty() ? 0 : work.listed.front();
  const std::int64_t count = work.listed.empty() ? std::max<std::int64_t>(1, 16384 / bytes) : 1;
  return {reinterpret_cast<const std::byte*>(of.keys.data() + first * store_.dim), bytes,
          static_cast<int>(std::min(of.rows() - first, count)), static_cast<int>(bytes)};
}

void IndexSearch::read() {
  const auto count = std::ssize(to_read_);
  // blocks that share a sum; sums are added in their order
  const std::int64_t together = std::clamp<std::int64_t>(count / 128, 1, 64);
  const std::int64_t tasks = (count + together - 1) / together;
  std::vector<MemoryState> sums(at(tasks), MemoryState(sum_.value_dim()));
  std::vector<std::vector<IndexRow>> rows(at(tasks));
  parallel_for(options_.threads, tasks, [&](std::int64_t task) {
    const std::int64_t end = std::min(count, (task + 1) * together);
    for (std::int64_t i = task * together; i < end; ++i)
      read_rows(to_read_[at(i)], i + 1 < end ? &to_read_[at(i + 1)] : nullptr, sums[at(task)],
                rows[at(task)]);
  });
  for (std::size_t task = 0; task < sums.size(); ++task) {
    sum_.merge(sums[task]);
    rows_.insert(rows_.end(), rows[task].begin(), rows[task].end());
  }
  reading_.rows_read = sum_.rows();
}

}  // namespace index_search
}  // namespace qkv
