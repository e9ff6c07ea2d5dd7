// Attention over rows that arrive one at a time, as a table gives them:
//
//   out = Σ_i w_i·value_i / Σ_i w_i,   w_i = e^(score_i − max),   score_i = scale·query·key_i
//
// A MemoryState is what some rows have added up to. States of parts of the rows merge into the state of all of them, in any
// order (the online softmax: Milakov & Gimelshein 2018), and travel between machines as bytes. A MemoryReader scores rows
// against a query with the engine's kernels. A MemoryWindow lets rows leave again, the oldest first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qkv {

// A row that was read, and the share of the answer that it gave.
struct MemoryRow {
  double score = 0;
  double weight = 0;  // e^score / Σ e^score
  std::string label;
};

class MemoryState {
 public:
  // value_dim: numbers in a value, 0 for none. top: how many of the best rows are kept. question: rows are only merged with rows
  // that answered the same one; 0 where scores came from outside. Throws std::invalid_argument.
  explicit MemoryState(std::int64_t value_dim = 0, int top = 0, std::uint64_t question = 0);

  // One row. A score of −inf hides it: it is counted and changes nothing else. Throws std::invalid_argument for any other
  // score that is not finite; the value must have value_dim finite numbers.
  void add(double score, std::span<const float> value, std::string_view label = {});
  void add(double score, double value);  // value_dim 1

  // Rows whose weights were taken against their own maximum: sum Σ w, squares Σ w², spread Σ w·(score − max), weighted Σ w·value.
  struct Block {
    std::int64_t rows = 0;
    double max = 0, sum = 0, squares = 0, spread = 0;
    std::span<const float> weighted;  // [value_dim]
  };
  void add_block(const Block& block);
  // Keeps the row's label if its score is among the best; add() does so by itself. Ties go to the label that sorts first.
  void offer(double score, std::string_view label);

  // Takes up the rows of another state. A state without visible rows changes no bit of the sums. Throws std::invalid_argument
  // where value_dim, top or question differ.
  void merge(const MemoryState& other);

  std::int64_t rows() const { return rows_; }   // added, hidden ones too
  bool nothing() const { return !(sum_ > 0); }  // no visible row: there is no answer
  std::int64_t value_dim() const { return static_cast<std::int64_t>(weighted_.size()); }
  int top() const { return top_; }

  // All of these need a visible row.
  void value(std::span<double> out) const;  // [value_dim] the weighted mean
  double log_sum_exp() const;               // ln Σ e^score
  double entropy() const;                   // −Σ p·ln p, in nats
  double effective_rows() const;            // 1 / Σ p²
  double max_weight() const;                // the largest p
  std::vector<MemoryRow> best() const;      // at most top rows, largest weight first

  // Bytes, version 1; little-endian, the numbers as IEEE doubles:
  //   "qkvm" · u32 version · u64 question · u32 value_dim · u32 top · i64 rows · f64 max, sum, squares, spread
  //   · f64 weighted[value_dim] · u32 count · count × (f64 score · u32 length · label) · u64 FNV-1a of all bytes before
  std::string bytes() const;
  // Throws std::invalid_argument that says what is wrong with bytes that bytes() did not write.
  static MemoryState from_bytes(std::string_view bytes);

 private:
  struct Kept {
    double score;
    std::string label;
  };
  static bool before(double score, std::string_view label, const Kept& kept);
  double raise(double max);  // to a maximum at least as large; returns it
  double add_weight(double score);
  // Sums whose weights were taken against a maximum of their own.
  template <typename Number>
  void take_up(double max, double sum, double squares, double spread,
               std::span<const Number> weighted);

  int top_ = 0;
  std::uint64_t question_ = 0;
  std::int64_t rows_ = 0;
  double max_, sum_ = 0, squares_ = 0, spread_ = 0;
  std::vector<double> weighted_;
  std::vector<Kept> kept_;
};

// Rows that come and, if it is asked for, leave again, the oldest first. Two stacks (a queue's sums without subtraction,
// which cancels): one state of the rows that came since the last turn, and for the rows before it the states of the oldest and
// all younger ones. Each row is added twice and merged once.
class MemoryWindow {
 public:
  // keep: bytes of rows that are kept so that they can leave. Beyond, rows are added but none can leave any more.
  explicit MemoryWindow(MemoryState empty, std::size_t keep = 0);

  void add(double score, std::span<const float> value);
  void add(double score, double value);
  // A block that was summed up elsewhere; its rows are given to keep() one by one.
  void add_block(const MemoryState::Block& block) { young_.add_block(block); }
  void offer(double score, std::string_view label) { young_.offer(score, label); }
  void keep(double score, std::span<const float> value);

  // Another number of bytes from now on; what is not kept any more stays lost.
  void keep_up_to(std::size_t bytes) { budget_ = bytes; }
  // The oldest row leaves. Throws std::length_error if rows were not kept.
  void pop();

  const MemoryState& young() const { return young_; }
  MemoryState total() const;

 private:
  void turn();
  bool room(std::size_t bytes);

  MemoryState empty_, young_;
  std::vector<MemoryState>
      old_;  // [i] the sum of a row and all younger of its stack; the last is the oldest
  std::vector<double> scores_, numbers_;  // the rows of young_
  std::vector<float> values_;
  std::size_t budget_, kept_bytes_ = 0;
  bool lost_ = false;
};

// One query over rows: gathers keys and values into blocks and gives each block to the kernels of qkv::attention().
class MemoryReader {
 public:
  struct Options {
    std::optional<double> scale = std::nullopt;  // default 1/√(query size)
    std::int64_t value_dim = 0;
    int top = 0;           // best rows whose labels are kept
    std::size_t keep = 0;  // bytes of rows that may leave again (MemoryWindow)
    // Where blocks are gathered, which is most of a reader's memory: up to kBlock·(query size + value_dim) floats.
    std::pmr::memory_resource* memory = std::pmr::get_default_resource();
  };
  // Throws std::invalid_argument for an empty query, a number that is not finite, or a dimension above 65536.
  MemoryReader(std::span<const float> query, const Options& options);

  std::span<const float> query() const { return query_; }
  double scale() const { return scale_; }

  // One row; `number` is what errors call it. Throws std::invalid_argument that names the row and k or v.
  void add(std::int64_t number, std::span<const float> key, std::span<const float> value,
           std::string_view label = {});
  // The scores that add() would give rows, which are not added: keys [numbers.size(), query size] dense, at most kBlock of them.
  // Throws as add() and state() do.
  static constexpr std::size_t kBlock = 128;
  void scores(std::span<const std::int64_t> numbers, std::span<const float> keys,
              std::span<double> out) const;
  void keep_up_to(std::size_t bytes) {
    flush();
    window_.keep_up_to(options_.keep = bytes);
  }
  void pop();  // the oldest row leaves
  // Throws std::invalid_argument that names a row whose score is too large for float32.
  MemoryState state();

 private:
  void flush();

  std::pmr::vector<float> query_, packed_;  // as given; times scale·log2 e
  double scale_;
  Options options_;
  MemoryWindow window_;
  int pending_ = 0;
  std::pmr::vector<float> keys_, values_, scores_, weighted_;
  std::pmr::vector<std::int64_t> numbers_;
  std::vector<std::string> labels_;
};

// Throws std::invalid_argument that names the row, the column and the first number that is NaN or infinite.
void require_finite(std::int64_t row, const char* column, std::span<const float> numbers);

}  // namespace qkv
