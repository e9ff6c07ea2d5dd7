// A query: bounds of every block first, then blocks and rows in the order of what they can still change. docs/index.md derives
// the bound; the names are the same there.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <string>

#include "attention/parallel.h"
#include "kernels/decode.h"
#include "memory/index_store.h"
#include "memory/question.h"
#include "qkv/memory.h"

namespace qkv {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();
constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-24;    // u: float32 rounds by at most this, relatively
constexpr double kLeast = 0x1p-149;  // and by at most this where it is tiny
constexpr int kSegment = 32;         // dims that are added in float32

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

double log_add(double a, double b) {
  const double most = std::max(a, b), least = std::min(a, b);
  return least == kNothing ? most : most + std::log1p(std::exp(least - most));
}

const kernels::ElementKernels& kernels_for(kernels::Element element) {
  return kernels::decode_kernels().of[static_cast<std::size_t>(element)];
}

}  // namespace

void query_dot_rows(std::span<const float> query, const float* rows, std::int64_t count,
                    double* out) {
  constexpr std::int64_t kRows = 32;  // stay in the first-level cache while segments go over them
  const auto dim = static_cast<std::int64_t>(query.size());
  const auto& floats = kernels_for(kernels::Element::f32);
  std::array<float, kernels::kScoreStride> part;
  for (std::int64_t first = 0; first < count; first += kRows) {
    const std::int64_t here = std::min(kRows, count - first);
    const std::int64_t after = std::min(kRows, count - first - here);
    const float* block = rows + first * dim;
    std::fill_n(out + first, here, 0.0);
    for (std::int64_t d = 0; d < dim; d += kSegment) {
      const std::int64_t size = std::min<std::int64_t>(kSegment, dim - d);
      kernels::RowsAhead next;
      if (after > 0)
        next = {reinterpret_cast<const std::byte*>(block + here * dim + d),
                dim * static_cast<std::int64_t>(sizeof(float)), static_cast<int>(after),
                static_cast<int>(size) * static_cast<int>(sizeof(float))};
      floats.query_dot_keys(query.data() + d, 1,
                            {block + d, dim, static_cast<int>(here), static_cast<int>(size)}, next,
                            part.data());
      for (std::int64_t i = 0; i < here; ++i) out[first + i] += double{part[at(i)]};
    }
    for (std::int64_t i = 0; i < here; ++i) {
      if (std::isfinite(out[first + i])) continue;
      double sum = 0;
      for (std::int64_t d = 0; d < dim; ++d)
        sum += double{query[at(d)]} * double{block[i * dim + d]};
      out[first + i] = sum;
    }
  }
}

namespace {

// What a query knows of a block. Masses are Σ e^(scale·query·key) as logarithms.
struct View {
  enum State : std::uint8_t { closed, scanned, read };
  State state = closed;
  double score = 0;                        // of the centroid
  double low = kNothing, high = kNothing;  // of the mass of the rows that were not read
  double read_mass = kNothing;
  double read_off = 0;        // how far the logarithm of a read row's weight can be off
  double value_off = 0;       // κ: how far the mean value of the rows not read is from the block's
  double code_off = 0;        // h: scanned: how far a row's score can be off
  std::vector<float> scores;  // scanned: of each row, less `score`; −inf once the row was read
  float top = 0;              // scanned: the largest of them
  std::int64_t left = 0;      // rows not read

  double half = 0;  // of high − low, around the mass that the block's mean stands for, over e^shift
  double represented = 0;  // that mass, over e^shift
  double away = 0;         // D: how far the block's mean is from the answer
};

// The rows of a block to read; all that are left if listed is empty.
struct Work {
  std::size_t block;
  std::vector<std::int32_t> listed;
};

class Search {
 public:
  Search(const MemoryIndex::Store& store, std::span<const float> query, const IndexQuery& options,
         bool ranking)
      : store_(store),
        query_(checked_query(query)),
        options_(options),
        ranking_(ranking),
        scale_(checked_scale(query, options.scale)),
        reach_(std::fabs(scale_) *
               distance(query.data(), nullptr, static_cast<std::int64_t>(query.size()))),
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

  void run() {
    look_at_centroids();
    if (options_.max_error == 0) {
      flat_ = true;
      budget_ = kInfinite;
    }
    for (;;) {
      settle();
      if (reading_.err_bound <= options_.max_error || reading_.rows_read == reading_.rows) return;
      choose();
      scan();
      read();
      budget_ *= 8;
    }
  }

  const IndexReading& reading() const { return reading_; }
  const std::vector<double>& answer() const { return answer_; }
  std::vector<IndexRow> take_rows() { return std::move(rows_); }

 private:
  const IndexBlock& block(std::size_t b) const { return store_.blocks[b]; }
  // ln of how far e^(scale·query·row) can be off for ‖row‖ ≤ norm: segments of 32, and what float64 adds.
  double rounding(double norm) const {
    return (kSegment + 8) * kUnit * reach_ * norm +
           std::fabs(scale_) * static_cast<double>(store_.dim) * kLeast;
  }

  void look_at_centroids() {
    const auto count = static_cast<std::int64_t>(views_.size());
    parallel_for(options_.threads, (count + kBlockRows - 1) / kBlockRows, [&](std::int64_t chunk) {
      std::array<double, kBlockRows> dots;
      const std::int64_t from = chunk * kBlockRows, here = std::min(kBlockRows, count - from);
      query_dot_rows(query_, store_.centroid(at(from)).data(), here, dots.data());
      for (std::int64_t i = 0; i < here; ++i) bound(at(from + i), scale_ * dots[at(i)]);
    });
  }

  // The mass of a closed block: n·e^score·mean of e^x over its rows, |x| ≤ a, |mean of x| ≤ t.
  void bound(std::size_t b, double score) {
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

  // What is known so far as an answer and its error, with all masses over e^shift.
  void settle() {
    shift_ = kNothing;
    for (const View& view : views_) shift_ = std::max({shift_, view.low, view.read_mass});
    // Blocks that cannot matter are left out of the sum over means: no vector of theirs is read.
    least_ = 0;
    for (const View& view : views_)
      least_ += std::exp(view.read_mass - view.read_off - shift_) + std::exp(view.low - shift_);
    const double few = std::max(options_.max_error, 1e-300);
    const double negligible =
        ranking_ ? kInfinite : 1e-3 / static_cast<double>(views_.size()) * least_;
    const double read_mass = sum_.nothing() ? 0 : std::exp(sum_.log_sum_exp() - shift_);
    double mass = read_mass;
    std::fill(answer_.begin(), answer_.end(), 0.0);
    if (!sum_.nothing() && !ranking_) {
      sum_.value(answer_);
      for (double& x : answer_) x *= read_mass;
    }
    double read_size = 0, represented_size = 0;  // Σ mass·‖value‖
    for (std::size_t b = 0; b < views_.size(); ++b) {
      View& view = views_[b];
      view.represented = view.half = 0;
      read_size += std::exp(view.read_mass - shift_) * reach_of_values(b);
      if (view.left == 0) continue;
      const double low = std::exp(view.low - shift_), high = std::exp(view.high - shift_);
      if (high * std::max(1.0, reach_of_values(b) / few) <= negligible) {
        view.half = high;
        continue;
      }
      // The middle has the smallest bound, unless there is hardly one.
      view.represented = high < 1e6 ? (low + high) / 2 : low;
      view.half = high - view.represented;
      mass += view.represented;
      represented_size += view.represented * reach_of_values(b);
      const std::span<const float> mean = store_.mean(b);
      for (std::size_t d = 0; d < answer_.size(); ++d)
        answer_[d] += view.represented * double{mean[d]};
    }
    for (double& x : answer_) x /= mass;
    double norm = 0;
    for (const double x : answer_) norm += x * x;
    norm = std::sqrt(norm) * kWiden;

    // The bound: Σ (read mass·(e^off − 1)·(ρ + D) + unread mass·κ + half·D) / least mass, and what float32 adds.
    error_ = 0;
    double farthest = 0, unread = 0;
    for (std::size_t b = 0; b < views_.size(); ++b) {
      View& view = views_[b];
      if (block(b).rows() == 0) continue;
      view.away = ranking_ ? 0 : away(b, norm, view.represented > 0 || view.read_mass > kNothing);
      const double radius = ranking_ ? 1 : block(b).value_radius;
      farthest = std::max(farthest, radius + view.away);
      if (view.read_mass > kNothing)
        error_ +=
            std::exp(view.read_mass - shift_) * std::expm1(view.read_off) * (radius + view.away);
      if (view.left > 0) {
        const double high = std::exp(view.high - shift_);
        unread += high;
        error_ += changes(view, high);
      }
    }
    double bound = error_ / least_;
    if (ranking_) {
      // Rows that were left out can only add to the denominator too.
      double read = 0;
      for (const View& view : views_) read += std::exp(view.read_mass - view.read_off - shift_);
      bound = error_ / (read + unread);
    } else {
      bound += ((kBlockRows + 4) * kUnit * read_size + 1e-9 * represented_size) / least_;
    }
    // An answer is a mean of values, and none is farther away.
    const double cap = ranking_ ? 1 : farthest;
    reading_.err_bound = std::isnan(bound) ? cap : std::min(bound, cap);
    if (!ranking_)  // the answer as float32
      reading_.err_bound +=
          kUnit * norm + std::sqrt(static_cast<double>(store_.value_dim)) * kLeast;
    reading_.err_bound *= kWiden;
  }

  double reach_of_values(std::size_t b) const {
    return ranking_ ? 1 : block(b).mean_norm + block(b).value_radius;
  }
  // How much of the error the rows of a block that were not read are, `high` their largest mass.
  double changes(const View& view, double high) const {
    return ranking_ ? high : high * view.value_off + view.half * view.away;
  }
  // ‖mean − answer‖, exactly where it matters.
  double away(std::size_t b, double norm, bool exactly) const {
    const double most = block(b).mean_norm + norm;
    if (!exactly) return most;
    const std::span<const float> mean = store_.mean(b);
    double squares = 0;
    for (std::size_t d = 0; d < answer_.size(); ++d) {
      const double x = double{mean[d]} - answer_[d];
      squares += x * x;
    }
    return std::min(most, std::sqrt(squares) * kWiden + norm * 1e-15);
  }

  // ---- what to look at next: the most error a row's worth of reading can take away first

  static constexpr int kBuckets = 1024;  // of a quarter of a power of two, the middle one at worth_
  static constexpr int kMiddle = kBuckets / 2;
  static constexpr int kMinor = kMiddle - 64;  // 2⁻¹⁶ of it
  double bucket_top(int bucket) const {
    return bucket + 1 == kBuckets
               ? kInfinite
               : std::exp(log_worth_ + (bucket + 1 - kMiddle) * (std::numbers::ln2 / 4));
  }
  int bucket(double log_density) const {
    const double of = (log_density - log_worth_) * (4 / std::numbers::ln2) + kMiddle;
    return of > 0 ? static_cast<int>(std::min(of, kBuckets - 1.0)) : 0;
  }
  // A row's code is an eighth of its key and value.
  double cost(const View& view) const {
    return static_cast<double>(view.left) * (flat_ ? 1 : 0.125);
  }
  double closed_density(const View& view) const {
    const double high = std::exp(std::min(view.high - shift_, 600.0));
    return std::log(changes(view, high) / cost(view));
  }
  // Of a scanned row: this and its score.
  double scanned_density(const View& view) const {
    const double off = std::min(view.code_off, 300.0);
    const double factor =
        ranking_ ? std::exp(off) : std::exp(off) * view.value_off + std::sinh(off) * view.away;
    return view.score - shift_ + std::log(factor);
  }

  void choose() {
    // Half of what is allowed; the other half is for what is represented or rounded.
    const double allowed = 0.5 * options_.max_error * least_;
    log_worth_ = std::log(std::max(allowed, 1e-300) / static_cast<double>(reading_.rows));
    std::array<double, kBuckets> costs{}, open{};
    double all_open = 0;
    for (const View& view : views_) {
      if (view.left == 0) continue;
      if (view.state == View::closed) {
        costs[at(bucket(closed_density(view)))] += cost(view);
        continue;
      }
      const double base = scanned_density(view), rows = static_cast<double>(view.left);
      const int top = bucket(base + double{view.top});
      if (top < kMinor)  // too little to tell its rows apart
        open[at(top)] += rows;
      else
        for (const float x : view.scores)
          if (x > kDone) open[at(bucket(base + double{x}))] += 1;
      all_open += rows;
    }
    int least = 0;  // what lies in lower buckets may stay
    double below = 0, wanted = all_open;
    for (; least + 1 < kBuckets; ++least) {
      below += (costs[at(least)] + open[at(least)]) * bucket_top(least);
      if (below > allowed) break;
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

  // Everything from bucket `from` on, but for `beyond` of that bucket's cost.
  void take(int from, double beyond) {
    to_scan_.clear();
    to_read_.clear();
    for (std::size_t b = 0; b < views_.size(); ++b) {
      const View& view = views_[b];
      if (view.left == 0) continue;
      if (view.state == View::closed) {
        const int of = bucket(closed_density(view));
        if (of == from && beyond > 0)
          beyond -= cost(view);
        else if (of >= from && flat_)
          to_read_.push_back({b, {}});
        else if (of >= from)
          to_scan_.push_back(b);
        continue;
      }
      const double base = scanned_density(view);
      const int top = bucket(base + double{view.top});
      if (top < from) continue;
      Work work{b, {}};
      for (std::size_t i = 0; i < view.scores.size(); ++i) {
        if (!(view.scores[i] > kDone)) continue;
        const int of = top < kMinor ? top : bucket(base + double{view.scores[i]});
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

  // ---- looking

  // The mass of the rows that were not read, from their codes.
  static void weigh_left(View& view) {
    view.top = kDone;
    for (const float x : view.scores) view.top = std::max(view.top, x);
    double sum = 0;
    for (const float x : view.scores)
      if (x > kDone) sum += std::exp(double{x} - double{view.top});
    const double mass = view.score + double{view.top} + std::log(sum);
    view.low = mass - view.code_off;
    view.high = mass + view.code_off;
  }

  void scan() {
    const auto& bytes = kernels_for(kernels::Element::i8);
    parallel_for(options_.threads, static_cast<std::int64_t>(to_scan_.size()), [&](std::int64_t i) {
      const std::size_t b = to_scan_[at(i)];
      const IndexBlock& of = block(b);
      View& view = views_[b];
      const int dim = static_cast<int>(store_.dim);
      std::array<float, kernels::kScoreStride> dots;
      bytes.query_dot_keys(query_.data(), 1,
                           {of.codes.data(), dim, static_cast<int>(of.rows()), dim}, {},
                           dots.data());
      view.state = View::scanned;
      view.scores.resize(at(of.rows()));
      for (std::size_t r = 0; r < view.scores.size(); ++r)
        // A number too large for float32 says nothing; the row is read before all others.
        view.scores[r] =
            std::clamp(static_cast<float>(scale_ * of.step * double{dots[r]}), -kHuge, kHuge);
      const bool usable = std::all_of(view.scores.begin(), view.scores.end(),
                                      [](float x) { return std::fabs(x) < kHuge; });
      const double norm = (of.key_radius + of.code_error) * kWiden;
      view.code_off = usable ? reach_ * of.code_error * kWiden +
                                   static_cast<double>(dim + 4) * kUnit * reach_ * norm +
                                   std::fabs(scale_) * dim * kLeast * (1 + of.step) +
                                   rounding(of.centroid_norm)
                             : kInfinite;
      if (!usable) std::fill(view.scores.begin(), view.scores.end(), kHuge);
      view.value_off = of.value_radius * kWiden;
      const double low = view.low, high = view.high;
      weigh_left(view);
      view.low = std::isnan(view.low) ? low : std::max(low, view.low);
      view.high = std::isnan(view.high) ? high : std::min(high, view.high);
    });
    for (const std::size_t b : to_scan_) reading_.codes_read += block(b).rows();
  }

  // Rows of one block through the kernels, into `sum`.
  void read_rows(const Work& work, MemoryState& sum, std::vector<IndexRow>& rows) {
    const IndexBlock& of = block(work.block);
    View& view = views_[work.block];
    const bool all = work.listed.empty();
    const std::int64_t count = all ? of.rows() : static_cast<std::int64_t>(work.listed.size());
    const auto dim = store_.dim, value_dim = ranking_ ? 0 : store_.value_dim;
    const auto row = [&](std::int64_t i) { return all ? i : std::int64_t{work.listed[at(i)]}; };
    std::vector<float> gathered;
    const float* keys = of.keys.data();
    if (!all) {
      gathered.resize(at(count * dim));
      for (std::int64_t i = 0; i < count; ++i)
        std::copy_n(keys + row(i) * dim, dim, gathered.begin() + i * dim);
      keys = gathered.data();
    }
    std::array<double, kBlockRows> scores;
    query_dot_rows(query_, keys, count, scores.data());
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
      const auto& floats = kernels_for(kernels::Element::f32);
      const int size = static_cast<int>(value_dim);
      std::vector<float> weighted(at(kernels::acc_stride(std::max(size, 1))));
      const float none = 0;
      if (size > 0 && all)
        floats.weighted_sum_values(weights.data(), 1,
                                   {of.values.data(), size, static_cast<int>(count), size}, {},
                                   &none, weighted.data());
      else if (size > 0)
        floats.weighted_sum_listed_values(
            weights.data(), work.listed.data(), static_cast<int>(count),
            {of.values.data(), size, static_cast<int>(of.rows()), size}, none, weighted.data());
      part.weighted = std::span<const float>(weighted).first(at(value_dim));
      if (std::all_of(part.weighted.begin(), part.weighted.end(),
                      [](float x) { return std::isfinite(x); }))
        sum.add_block(part);
      else  // too large for float32
        for (std::int64_t i = 0; i < count; ++i)
          sum.add(scores[at(i)],
                  std::span(of.values).subspan(at(row(i) * value_dim), at(value_dim)));
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

  void read() {
    constexpr std::int64_t kTogether = 8;  // blocks that share a sum; sums are added in their order
    const auto count = static_cast<std::int64_t>(to_read_.size());
    const std::int64_t tasks = (count + kTogether - 1) / kTogether;
    std::vector<MemoryState> sums(at(tasks), MemoryState(sum_.value_dim()));
    std::vector<std::vector<IndexRow>> rows(at(tasks));
    parallel_for(options_.threads, tasks, [&](std::int64_t task) {
      for (std::int64_t i = task * kTogether; i < std::min(count, (task + 1) * kTogether); ++i)
        read_rows(to_read_[at(i)], sums[at(task)], rows[at(task)]);
    });
    for (std::size_t task = 0; task < sums.size(); ++task) {
      sum_.merge(sums[task]);
      rows_.insert(rows_.end(), rows[task].begin(), rows[task].end());
    }
    reading_.rows_read = sum_.rows();
  }

  static constexpr float kHuge = 1e30f;  // scores from codes beyond say nothing
  static constexpr float kDone = -std::numeric_limits<float>::infinity();  // of a row that was read

  const MemoryIndex::Store& store_;
  std::span<const float> query_;
  const IndexQuery& options_;
  bool ranking_;
  double scale_, reach_;  // |scale|·‖query‖
  std::vector<View> views_;
  MemoryState sum_;  // of the rows read
  std::vector<IndexRow> rows_;
  std::vector<double> answer_;
  IndexReading reading_;
  double shift_ = 0, least_ = 0, error_ = 0, log_worth_ = 0;
  double budget_ = 4096;  // rows' worth of the next look
  bool flat_ = false;     // codes save nothing: read rows at once
  std::vector<std::size_t> to_scan_;
  std::vector<Work> to_read_;
};

}  // namespace

IndexAnswer MemoryIndex::attend(std::span<const float> query, const IndexQuery& options) const {
  Search search(*store_, query, options, false);
  if (size() == 0) return {};
  search.run();
  IndexAnswer answer;
  static_cast<IndexReading&>(answer) = search.reading();
  for (const double x : search.answer()) answer.value.push_back(static_cast<float>(x));
  return answer;
}

IndexRanking MemoryIndex::rank(std::span<const float> query, const IndexQuery& options) const {
  Search search(*store_, query, options, true);
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
