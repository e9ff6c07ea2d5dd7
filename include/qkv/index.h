// Attention over a large memory that reads only the rows that matter, and says how far off the answer can be:
//
//   out = Σ_i w_i·value_i / Σ_i w_i,   w_i = e^(scale·query·key_i)
//
// Rows lie in blocks of similar keys. Of a block the index knows the mean key and the mean value, how far its keys and values
// are from them, and each key again in 8 bits a number. So it knows, before it reads a row, between which bounds the block's share
// lies. A query opens blocks and rows in the order of what they can still change, and stops when what is left cannot move the
// answer by more than was asked. docs/index.md derives the bound, rounding included.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace qkv {

struct IndexQuery {
  double max_error = 0;                        // stop below it; 0 reads every row
  std::optional<double> scale = std::nullopt;  // default 1/√(query size), taken as float32
  int threads = 0;  // 0: see threads.h. No bit of the answer depends on it
};

// What an answer cost, and how good it is.
struct IndexReading {
  // ‖out − exact‖₂ of the value, or for rank() the total variation ½·Σ|p − exact p|, is at most this, for certain. It can be above
  // max_error only where every row was read: then it is what float32 rounds.
  double err_bound = 0;
  std::int64_t rows = 0;        // in the index
  std::int64_t rows_read = 0;   // whose key (and value) was read
  std::int64_t codes_read = 0;  // of which 8 bits a number were read, before or instead
  bool everything() const { return rows_read == rows; }  // the index saved nothing
};

struct IndexAnswer : IndexReading {
  std::vector<float> value;  // [value_dim]; empty where the index is
};

struct IndexRow {
  std::int64_t id;
  double score, weight;  // scale·query·key; its share among the rows that were read
};

struct IndexRanking : IndexReading {
  std::vector<IndexRow>
      best;  // the rows that were read, largest weight first, ties to the lower id
};

class MemoryIndex {
 public:
  struct Options {
    std::uint64_t seed = 1;  // the same rows and seed make the same index
    int threads = 0;         // as above
    std::function<void(double)>
        progress;  // called with 0 to 1, in the caller's thread; what it throws ends the build
  };
  // Empty. dim and value_dim: numbers in a key (1 to 65536) and in a value (0: rank() alone is of use). Throws
  // std::invalid_argument, as everything below does for wrong arguments, naming the row.
  explicit MemoryIndex(std::int64_t dim, std::int64_t value_dim = 0, std::uint64_t seed = 1);
  // ids [n], all different; keys [n, dim]; values [n, value_dim]. The index keeps a copy, one for both in blocks where values are keys
  // to the bit. 1,000,000 × (384 + 384) take 3.4 GB.
  MemoryIndex(std::span<const std::int64_t> ids, std::span<const float> keys, std::int64_t dim,
              std::span<const float> values, std::int64_t value_dim, const Options& options);
  MemoryIndex(MemoryIndex&&) noexcept;
  MemoryIndex& operator=(MemoryIndex&&) noexcept;
  ~MemoryIndex();

  std::int64_t size() const;
  std::int64_t dim() const;
  std::int64_t value_dim() const;
  std::int64_t blocks() const;            // that hold rows
  std::vector<std::int64_t> ids() const;  // of all rows, in no order
  // The key of a row; empty if there is none of this id. Valid until the index changes.
  std::span<const float> key(std::int64_t id) const;

  // A new row joins the block whose mean key is nearest; a block of more than 128 rows splits in two.
  void insert(std::int64_t id, std::span<const float> key, std::span<const float> value = {});
  // False: there is no such row. Radii stay valid; a block is measured anew after as many changes as half its rows.
  bool erase(std::int64_t id);

  // Queries may run in several threads as long as nothing changes.
  IndexAnswer attend(std::span<const float> query, const IndexQuery& options = {}) const;
  // The rows themselves: all rows that were left out weigh at most err_bound together.
  IndexRanking rank(std::span<const float> query, const IndexQuery& options = {}) const;

  struct Store;  // src/memory/index_store.h

 private:
  std::unique_ptr<Store> store_;
};

}  // namespace qkv
