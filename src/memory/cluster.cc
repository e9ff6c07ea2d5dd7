// The nearest of k centres is the one with the largest x·c − ‖c‖²/2: a matrix product, which kernels().linear computes. Levels
// of at most kMostCentres centres cost n·kMostCentres·dim each, where one level of n/100 centres would cost n²·dim/100.
#include "memory/cluster.h"

#include <algorithm>
#include <atomic>
#include <random>

#include "attention/parallel.h"
#include "kernels/kernels.h"

namespace qkv {
namespace {

constexpr std::int64_t kMostCentres = 96;
constexpr std::int64_t kSample = 48;      // rows a centre is trained on
constexpr int kTurns = 5;                 // of k-means; later ones change little
constexpr std::int64_t kTogether = 64;    // rows that are multiplied at once
constexpr std::int64_t kAlone = 65'536;   // a group of more rows has all threads to itself
constexpr std::int64_t kStride = 16'384;  // rows between two calls of progress

// Centres, packed for kernels().linear.
class Centres {
 public:
  Centres(std::span<const float> rows, std::int64_t dim)
      : dim_(dim), count_(static_cast<std::int64_t>(rows.size()) / dim) {
    const kernels::Kernels& k = kernels::kernels();
    const std::int64_t panels = (count_ + k.panel - 1) / k.panel;
    packed_.resize(static_cast<std::size_t>(panels * dim * k.panel));
    bias_.resize(static_cast<std::size_t>(panels * k.panel));
    for (std::int64_t p = 0; p < panels; ++p)
      k.pack_queries(rows.data() + p * k.panel * dim, dim,
                     static_cast<int>(std::min<std::int64_t>(k.panel, count_ - p * k.panel)),
                     static_cast<int>(dim), 1.0f, packed_.data() + p * dim * k.panel);
    for (std::int64_t c = 0; c < count_; ++c) {
      double squares = 0;
      for (const float x : rows.subspan(static_cast<std::size_t>(c * dim), dim))
        squares += double{x} * x;
      bias_[static_cast<std::size_t>(c)] = static_cast<float>(-squares / 2);
    }
  }
  std::int64_t count() const { return count_; }
  // nearest[i] for rows x [count, dim], count ≤ kTogether
  void nearest(const float* x, std::int64_t count, std::int32_t* nearest) const {
    std::vector<float> y(static_cast<std::size_t>(count * count_));
    kernels::kernels().linear(packed_.data(), bias_.data(), x, dim_, static_cast<int>(count),
                              static_cast<int>(dim_), static_cast<int>(count_), y.data(), count_);
    for (std::int64_t i = 0; i < count; ++i)
      nearest[i] = static_cast<std::int32_t>(
          std::max_element(y.begin() + i * count_, y.begin() + (i + 1) * count_) -
          (y.begin() + i * count_));
  }

 private:
  std::int64_t dim_, count_;
  std::vector<float> packed_, bias_;
};

struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

class Clustering {
 public:
  Clustering(std::span<const float> rows, const ClusterOptions& options)
      : rows_(rows.data()), options_(options), dim_(options.dim) {
    order_.resize(rows.size() / static_cast<std::size_t>(dim_));
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<std::int64_t>(i);
    near_.resize(order_.size());
    moved_.resize(order_.size());
  }

  Clusters run() {
    const auto total = static_cast<std::int64_t>(order_.size());
    std::vector<Range> pending{{0, total}}, done;
    while (!pending.empty()) {
      std::vector<std::vector<Range>> parts(pending.size());
      std::vector<std::size_t> small;
      for (std::size_t i = 0; i < pending.size(); ++i) {
        if (pending[i].size() > kAlone)
          parts[i] = split(pending[i], options_.threads);
        else
          small.push_back(i);
      }
      for (std::size_t from = 0; from < small.size(); from += 32) {
        const auto count =
            static_cast<std::int64_t>(std::min<std::size_t>(32, small.size() - from));
        parallel_for(options_.threads, count, [&](std::int64_t i) {
          const std::size_t at = small[from + static_cast<std::size_t>(i)];
          parts[at] = split(pending[at], 1);
        });
        report();
      }
      pending.clear();
      for (const auto& ranges : parts)
        for (const Range& r : ranges) {
          (r.size() > options_.largest ? pending : done).push_back(r);
          if (r.size() <= options_.largest) worked_ += 2 * r.size();
        }
    }
    std::sort(done.begin(), done.end(), [](Range a, Range b) { return a.begin < b.begin; });
    Clusters clusters{std::move(order_), {}};
    for (const Range& r : done) clusters.begin.push_back(r.begin);
    clusters.begin.push_back(total);
    return clusters;
  }

 private:
  const float* row(std::int64_t at) const {
    return rows_ + order_[static_cast<std::size_t>(at)] * dim_;
  }
  // Splitting a large group counts for half of the work, its parts for the other half.
  void report() const {
    if (!options_.progress || order_.empty()) return;
    options_.progress(std::min(
        1.0, static_cast<double>(worked_ + large_) / (3.0 * static_cast<double>(order_.size()))));
  }

  void gather(std::int64_t from, std::int64_t count, float* to) const {
    for (std::int64_t i = 0; i < count; ++i) std::copy_n(row(from + i), dim_, to + i * dim_);
  }

  // Sorts a range of order_ by nearest centre; the parts that are not empty.
  std::vector<Range> split(Range range, int threads) {
    const std::int64_t n = range.size();
    if (n <= options_.largest) return {range};
    // Two thirds full on average, so that most groups need no further split.
    const std::int64_t wanted = (3 * n + 2 * options_.largest - 1) / (2 * options_.largest);
    const std::int64_t k = std::clamp<std::int64_t>(wanted, 2, kMostCentres);
    const Centres centres = train(range, k);
    const std::int64_t chunks = (n + kTogether - 1) / kTogether;
    const std::int64_t step = threads == 1 ? chunks : kStride / kTogether;
    for (std::int64_t chunk = 0; chunk < chunks; chunk += step) {
      parallel_for(threads, std::min(step, chunks - chunk), [&](std::int64_t i) {
        const std::int64_t from = range.begin + (chunk + i) * kTogether;
        const std::int64_t count = std::min(kTogether, range.end - from);
        std::vector<float> x(static_cast<std::size_t>(count * dim_));
        gather(from, count, x.data());
        centres.nearest(x.data(), count, near_.data() + from);
      });
      if (threads != 1) {
        large_ += std::min(step, chunks - chunk) * kTogether;
        report();
      }
    }
    std::vector<std::int64_t> begin(static_cast<std::size_t>(k + 1));
    const auto sizes = [&] {
      std::fill(begin.begin(), begin.end(), 0);
      for (std::int64_t i = range.begin; i < range.end; ++i)
        ++begin[static_cast<std::size_t>(near_[static_cast<std::size_t>(i)] + 1)];
      return *std::max_element(begin.begin(), begin.end());
    };
    if (sizes() > n - n / 64 - 1) {  // as good as one point: any parts are as similar
      for (std::int64_t i = 0; i < n; ++i)
        near_[static_cast<std::size_t>(range.begin + i)] = static_cast<std::int32_t>(i * k / n);
      sizes();
    }
    for (std::size_t c = 0; c < static_cast<std::size_t>(k); ++c) begin[c + 1] += begin[c];
    std::vector<Range> parts;
    for (std::size_t c = 0; c < static_cast<std::size_t>(k); ++c)
      if (begin[c] < begin[c + 1])
        parts.push_back({range.begin + begin[c], range.begin + begin[c + 1]});
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      moved_[static_cast<std::size_t>(range.begin + begin[static_cast<std::size_t>(near_[at])]++)] =
          order_[at];
    }
    std::copy(moved_.begin() + range.begin, moved_.begin() + range.end,
              order_.begin() + range.begin);
    return parts;
  }

  // k-means over a sample; a centre that no row is near to becomes a row of the sample.
  Centres train(Range range, std::int64_t k) const {
    std::mt19937_64 random(options_.seed * 0x9e3779b97f4a7c15u +
                           static_cast<std::uint64_t>(range.begin) * 31 +
                           static_cast<std::uint64_t>(range.end));
    const std::int64_t n = std::min(range.size(), kSample * k);
    std::vector<float> sample(static_cast<std::size_t>(n * dim_));
    for (std::int64_t i = 0; i < n; ++i) {  // one of each n-th part of the range
      const std::int64_t from = i * range.size() / n, to = (i + 1) * range.size() / n;
      const auto at = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(to - from));
      std::copy_n(row(range.begin + from + at), dim_, sample.begin() + i * dim_);
    }
    const auto any = [&](float* to) {
      const auto at = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
      std::copy_n(sample.begin() + at * dim_, dim_, to);
    };
    std::vector<float> means(static_cast<std::size_t>(k * dim_));
    for (std::int64_t c = 0; c < k; ++c) {  // one of each k-th part of the sample
      const std::int64_t from = c * n / k;
      const auto width = static_cast<std::uint64_t>((c + 1) * n / k - from);
      const auto at = from + static_cast<std::int64_t>(random() % width);
      std::copy_n(sample.begin() + at * dim_, dim_, means.begin() + c * dim_);
    }
    std::vector<std::int32_t> near(static_cast<std::size_t>(n));
    for (int turn = 0; turn < kTurns; ++turn) {
      const Centres centres(means, dim_);
      const std::int64_t chunks = (n + kTogether - 1) / kTogether;
      parallel_for(range.size() > kAlone ? options_.threads : 1, chunks, [&](std::int64_t chunk) {
        const std::int64_t from = chunk * kTogether;
        centres.nearest(sample.data() + from * dim_, std::min(kTogether, n - from),
                        near.data() + from);
      });
      std::vector<double> sums(means.size());
      std::vector<std::int64_t> count(static_cast<std::size_t>(k));
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int32_t c = near[static_cast<std::size_t>(i)];
        ++count[static_cast<std::size_t>(c)];
        for (std::int64_t d = 0; d < dim_; ++d)
          sums[static_cast<std::size_t>(c * dim_ + d)] +=
              sample[static_cast<std::size_t>(i * dim_ + d)];
      }
      for (std::int64_t c = 0; c < k; ++c) {
        float* mean = means.data() + c * dim_;
        const auto rows = static_cast<double>(count[static_cast<std::size_t>(c)]);
        if (rows == 0) {
          any(mean);
          continue;
        }
        for (std::int64_t d = 0; d < dim_; ++d)
          mean[d] = static_cast<float>(sums[static_cast<std::size_t>(c * dim_ + d)] / rows);
      }
    }
    return {means, dim_};
  }

  const float* rows_;
  const ClusterOptions& options_;
  std::int64_t dim_;
  std::vector<std::int64_t> order_, moved_;
  std::vector<std::int32_t> near_;
  std::int64_t worked_ = 0, large_ = 0;
};

}  // namespace

Clusters cluster(std::span<const float> rows, const ClusterOptions& options) {
  return Clustering(rows, options).run();
}

}  // namespace qkv
