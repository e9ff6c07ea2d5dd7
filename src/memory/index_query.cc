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
#include "kernels/dots.h"
#include "kernels/rows.h"
#include "memory/index_store.h"
#include "memory/question.h"
#include "qkv/memory.h"

namespace qkv {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();
constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-24;    // u: float32 rounds by at most this, relatively
constexpr double kLeast = 0x1p-149;  // and by at most this where it is tiny
constexpr double kSumOff = 0x1p-15;  // a float32 sum of weights is off by at most this, relatively

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

double log_add(double a, double b) {
  const double most = std::max(a, b), least = std::min(a, b);
  return least == kNothing ? most : most + std::log1p(std::exp(least - most));
}

// Memory that is worked on next; only asks for it.
void ask_for(const void* rows, std::int64_t bytes) {
  const auto* line = static_cast<const std::byte*>(rows);
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(line + i);
}

// The query in whole numbers for 8-bit codes: ‖query − step·words‖ ≤ error. 128·Σ|words| stays below 2³¹ (kernels/dots.h), which is what
// limits it from 513 dims on.
struct WordQuery {
  std::vector<std::int16_t> words;
  double step = 0, error = 0;

  explicit WordQuery(std::span<const float> query) : words(query.size()) {
    double most = 0, sum = 0, squares = 0;
    for (const float x : query) {
      most = std::max(most, std::fabs(double{x}));
      sum += std::fabs(double{x});
    }
    step = std::max(most / std::numeric_limits<std::int16_t>::max(), 128 * sum / 2.1e9);
    if (step == 0) return;
    for (std::size_t d = 0; d < words.size(); ++d) {
      const double word = std::nearbyint(double{query[d]} / step);
      words[d] = static_cast<std::int16_t>(word);
      squares += (double{query[d]} - step * word) * (double{query[d]} - step * word);
    }
    error = std::sqrt(squares) * kWiden;
  }
};

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

  // All over e^shift:
  double read_part = 0, low_part = 0, high_part = 0;  // the masses
  double half = 0;         // of high − low, around the mass that the block's mean stands for
  double represented = 0;  // that mass
  double away = 0;         // D: how far the block's mean is from the answer

  double density =
      0;  // ln of the error that a row's worth of looking takes away; scanned: less the row's score
  int bucket = 0;  // of a closed block, or of the top row of a scanned one
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
  // ln of how far e^(scale·query·row) can be off for ‖row‖ ≤ norm: the kernel, and what float64 adds.
  double rounding(double norm) const {
    return (kernels::kDotRoundings + 8) * kUnit * reach_ * norm +
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

  // What some blocks add to an answer and its error; all masses are over e^shift.
  struct Part {
    double least = 0, mass = 0, read_size = 0, represented_size = 0;  // sizes: Σ mass·‖value‖
    double error = 0, unread = 0, farthest = 0;
    std::vector<double> sum;  // Σ mass·mean
  };
  // body(part, first, last) for every kBlockRows blocks; parts are in the order of blocks, whatever the threads.
  template <class Body>
  void for_parts(std::vector<Part>& parts, const Body& body) {
    parallel_for(options_.threads, static_cast<std::int64_t>(parts.size()), [&](std::int64_t p) {
      const std::size_t first = at(p * kBlockRows);
      body(parts[at(p)], first, std::min(views_.size(), first + at(kBlockRows)));
    });
  }
  static double total(const std::vector<Part>& parts, double Part::*of) {
    double sum = 0;
    for (const Part& part : parts) sum += part.*of;
    return sum;
  }

  // What is known so far as an answer and its error.
  void settle() {
    shift_ = kNothing;
    for (const View& view : views_) shift_ = std::max({shift_, view.low, view.read_mass});
    std::vector<Part> parts((views_.size() + at(kBlockRows) - 1) / at(kBlockRows));
    for_parts(parts, [&](Part& part, std::size_t first, std::size_t last) {
      for (std::size_t b = first; b < last; ++b) {
        View& view = views_[b];
        const bool some = view.read_mass > kNothing, rest = view.left > 0;
        view.read_part = some ? std::exp(view.read_mass - shift_) : 0;
        view.low_part = rest ? std::exp(view.low - shift_) : 0;
        view.high_part = rest ? std::exp(view.high - shift_) : 0;
        if (some) part.least += std::exp(view.read_mass - view.read_off - shift_);
        part.least += view.low_part;
      }
    });
    least_ = total(parts, &Part::least);
    represent(parts);
    const double norm = distance_of_answer();
    for_parts(parts, [&](Part& part, std::size_t first, std::size_t last) {
      measure_away(first, last, norm);
      for (std::size_t b = first; b < last; ++b) add_error(part, b);
    });
    const double error = total(parts, &Part::error);
    double bound = error / least_, farthest = 0;
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
      reading_.err_bound +=
          kUnit * norm + std::sqrt(static_cast<double>(store_.value_dim)) * kLeast;
    reading_.err_bound *= kWiden;
  }

  // The answer: rows that were read, and blocks' means for those that were not.
  void represent(std::vector<Part>& parts) {
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
        for (std::size_t d = 0; d < answer_.size(); ++d)
          sum[d] += view.represented * double{mean[d]};
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

  double distance_of_answer() const {
    double squares = 0;
    for (const double x : answer_) squares += x * x;
    return std::sqrt(squares) * kWiden;
  }

  // D = ‖mean − answer‖ of blocks, at most: ‖m‖² − 2·m·â + ‖â‖² by the kernel, and by differences where too little is left of that.
  void measure_away(std::size_t first, std::size_t last, double norm) {
    const auto matters = [&](const View& view) {
      return view.represented > 0 || view.read_mass > kNothing;
    };
    std::array<double, kBlockRows> dots;
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
  double difference(std::size_t b) const {
    const std::span<const float> mean = store_.mean(b);
    double squares = 0;
    for (std::size_t d = 0; d < answer_.size(); ++d)
      squares += (double{mean[d]} - answer_[d]) * (double{mean[d]} - answer_[d]);
    return std::sqrt(squares);
  }

  // The bound: Σ (read mass·(e^off − 1)·(ρ + D) + unread mass·κ + half·D) / least mass, and what float32 adds.
  void add_error(Part& part, std::size_t b) const {
    const View& view = views_[b];
    if (block(b).rows() == 0) return;
    const double reach = (ranking_ ? 1 : block(b).value_radius) + view.away;
    part.farthest = std::max(part.farthest, reach);
    if (view.read_mass > kNothing) part.error += view.read_part * std::expm1(view.read_off) * reach;
    if (view.left == 0) return;
    part.unread += view.high_part;
    part.error += changes(view, view.high_part);
  }

  double reach_of_values(std::size_t b) const {
    return ranking_ ? 1 : block(b).mean_norm + block(b).value_radius;
  }
  // How much of the error the rows of a block that were not read are, `high` their largest mass.
  double changes(const View& view, double high) const {
    return ranking_ ? high : high * view.value_off + view.half * view.away;
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
    parallel_for(options_.threads, (std::ssize(views_) + kBlockRows - 1) / kBlockRows,
                 [&](std::int64_t part) {
                   const std::size_t first = at(part * kBlockRows);
                   for (std::size_t b = first; b < std::min(views_.size(), first + at(kBlockRows));
                        ++b) {
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

  // ---- looking

  // The mass of the rows that were not read, from their codes.
  static void weigh_left(View& view) {
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

  void scan() {
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

  void scan_block(const IndexBlock& of, View& view) const {
    std::array<std::int32_t, kBlockRows> dots;
    kernels::dot_kernels().query_dot_codes(words_.words.data(), of.codes.data(),
                                           static_cast<int>(of.rows()),
                                           static_cast<int>(store_.dim), dots.data());
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

  // Rows of one block through the kernels, into `sum`.
  void read_rows(const Work& work, MemoryState& sum, std::vector<IndexRow>& rows) {
    const IndexBlock& of = block(work.block);
    View& view = views_[work.block];
    const bool all = work.listed.empty();
    const std::int64_t count = all ? of.rows() : static_cast<std::int64_t>(work.listed.size());
    const auto dim = store_.dim, value_dim = ranking_ ? 0 : store_.value_dim;
    const auto row = [&](std::int64_t i) { return all ? i : std::int64_t{work.listed[at(i)]}; };
    std::array<double, kBlockRows> scores;
    if (all) query_dot_rows(query_, of.keys.data(), count, scores.data());
    for (std::int64_t i = 0; !all && i < count; ++i) {
      if (i + 1 < count) {
        ask_for(of.keys.data() + row(i + 1) * dim, dim * 4);
        if (value_dim > 0 && !of.mirrored)
          ask_for(of.values.data() + row(i + 1) * value_dim, value_dim * 4);
      }
      query_dot_rows(query_, of.keys.data() + row(i) * dim, 1, &scores[at(i)]);
    }
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
        floats.weighted_sum_values(weights.data(), 1,
                                   {of.value_rows(), size, static_cast<int>(count), size}, {},
                                   &none, weighted.data());
      else if (size > 0)
        floats.weighted_sum_listed_values(
            weights.data(), work.listed.data(), static_cast<int>(count),
            {of.value_rows(), size, static_cast<int>(of.rows()), size}, none, weighted.data());
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

  static constexpr std::int64_t kAhead = 2;  // blocks, one for each of two threads
  static constexpr float kHuge = 1e30f;      // scores from codes beyond say nothing
  static constexpr float kDone = -std::numeric_limits<float>::infinity();  // of a row that was read

  const MemoryIndex::Store& store_;
  std::span<const float> query_;
  const IndexQuery& options_;
  bool ranking_;
  double scale_, reach_;  // |scale|·‖query‖
  WordQuery words_;
  std::vector<View> views_;
  MemoryState sum_;  // of the rows read
  std::vector<IndexRow> rows_;
  std::vector<double> answer_;
  std::vector<float> rounded_;  // answer_
  IndexReading reading_;
  double shift_ = 0, least_ = 0, log_worth_ = 0;
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
