// One query of the index, between its two halves: index_query.cc knows what an answer is worth, index_look.cc where to look next.
// docs/index.md derives the bound; the names are the same there.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "attention/parallel.h"
#include "kernels/decode.h"
#include "kernels/dots.h"
#include "memory/index_store.h"
#include "qkv/memory.h"

namespace qkv {
namespace index_search {

inline constexpr double kNothing = -std::numeric_limits<double>::infinity();
inline constexpr double kInfinite = std::numeric_limits<double>::infinity();
inline constexpr double kUnit = 0x1p-24;    // u: float32 rounds by at most this, relatively
inline constexpr double kLeast = 0x1p-149;  // and by at most this where it is tiny
// A float32 sum of at most 128 weights, the largest of them 1, is off by at most this: docs/index.md.
inline constexpr double kSumOff = 0x1p-15;

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The query in whole numbers for 8-bit codes: ‖query − step·words‖ ≤ error. 128·Σ|words| stays below 2³¹ (kernels/dots.h), which limits
// the step from about 500 dims on.
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

  // ln of the error that a row's worth of looking takes away; scanned: less the row's score
  double density = 0;
  int bucket = 0;  // of a closed block, or of the top row of a scanned one
};

// The rows of a block to read; all that are left if listed is empty.
struct Work {
  std::size_t block;
  std::vector<std::int32_t> listed;
};

class IndexSearch {
 public:
  IndexSearch(const MemoryIndex::Store& store, std::span<const float> query,
              const IndexQuery& options, bool ranking);
  // Looks until the bound is under what was asked.
  void run();
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

  void look_at_centroids();
  // The mass of a closed block: n·e^score·mean of e^x over its rows, |x| ≤ a, |mean of x| ≤ t.
  void bound(std::size_t b, double score);

  // What some blocks add to an answer and its error; all masses are over e^shift.
  struct Part {
    double least = 0, mass = 0, read_size = 0, represented_size = 0;  // sizes: Σ mass·‖value‖
    double error = 0, unread = 0, farthest = 0;
    double rounding = 0, most = 0;  // what reading cannot take away, over the largest mass
    double spread = 0;              // Σ unread mass·κ: the error is no less, wherever means are
    std::vector<double> sum;        // Σ mass·mean
  };

  std::int64_t count_parts() const { return (std::ssize(views_) + kPartBlocks - 1) / kPartBlocks; }

  // body(part, first, last) for every kPartBlocks blocks; parts are in the order of blocks, whatever the threads.
  template <class Body>
  void for_parts(std::vector<Part>& parts, const Body& body) {
    parallel_for(options_.threads, static_cast<std::int64_t>(parts.size()), [&](std::int64_t p) {
      const std::size_t first = at(p * kPartBlocks);
      body(parts[at(p)], first, std::min(views_.size(), first + at(kPartBlocks)));
    });
  }
  static double total(const std::vector<Part>& parts, double Part::*of) {
    double sum = 0;
    for (const Part& part : parts) sum += part.*of;
    return sum;
  }

  // The masses of a block, and as long as means are not looked at a guess of D.
  void weigh(Part& part, std::size_t b);
  // What is known so far as an answer and its error. Means are not read where the values of rows not read are off by too much in any case;
  // err_bound is infinite then.
  void settle();
  // The answer: rows that were read, and blocks' means for those that were not.
  void represent(std::vector<Part>& parts);
  double distance_of_answer() const;
  // D = ‖mean − answer‖ of blocks, at most: ‖m‖² − 2·m·â + ‖â‖² by the kernel, and by differences where too little is left of that.
  void measure_away(std::size_t first, std::size_t last, double norm);
  double difference(std::size_t b) const;
  // The bound: Σ (read mass·(e^off − 1)·(ρ + D) + unread mass·κ + half·D) / least mass, and what float32 adds.
  void add_error(Part& part, std::size_t b) const;

  double reach_of_values(std::size_t b) const {
    return ranking_ ? 1 : block(b).mean_norm + block(b).value_radius;
  }
  // How much of the error the rows of a block that were not read are, `high` their largest mass.
  double changes(const View& view, double high) const {
    return ranking_ ? high : high * view.value_off + view.half * view.away;
  }

  // ---- what to look at next (index_look.cc): the most error a row's worth of reading can take away first

  static constexpr int kBuckets = 1024;  // of a quarter of a power of two, the middle one at worth_
  static constexpr int kMiddle = kBuckets / 2;
  static constexpr int kMinor = kMiddle - 64;  // 2⁻¹⁶ of it
  double bucket_top(int bucket) const;
  int bucket(double log_density) const;
  // A row's code is an eighth of its key and value.
  double cost(const View& view) const {
    return static_cast<double>(view.left) * (flat_ ? 1 : 0.125);
  }
  double closed_density(const View& view) const;
  // Of a scanned row: this and its score.
  double scanned_density(const View& view) const;

  void choose();
  // Everything from bucket `from` on, but for `beyond` of that bucket's cost.
  void take(int from, double beyond);

  // ---- looking (index_look.cc)

  // The mass of the rows that were not read, from their codes.
  static void weigh_left(View& view);
  void scan();
  void scan_block(const IndexBlock& of, View& view) const;
  // The keys of a block, in steps that are asked for while the one before is worked on; values are next.
  void dot_all(const IndexBlock& of, double* dots) const;
  void dot_listed(const IndexBlock& of, const std::vector<std::int32_t>& listed,
                  double* dots) const;
  // Rows of one block through the kernels, into `sum`; keys of the block `next` are asked for meanwhile.
  void read_rows(const Work& work, const Work* next, MemoryState& sum, std::vector<IndexRow>& rows);
  kernels::RowsAhead ahead(const Work& work) const;
  void read();

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
  bool hopeless_ = false;  // rounding alone is more than was asked for, with every row read
  double budget_ = 4096;   // rows' worth of the next look
  bool flat_ = false;      // codes save nothing: read rows at once
  std::vector<std::size_t> to_scan_;
  std::vector<Work> to_read_;
};

}  // namespace index_search
}  // namespace qkv
