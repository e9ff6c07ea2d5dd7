// Titles and their vectors in one file, which is mapped and not read. Little-endian:
//
//   "qkvindex", u32 version 1, u32 dim, u64 rows, u64 bytes of titles, u64 bytes of notes, u64 skipped, u64 blank,
//   u64[2] model, u64[2] source (hashes of what the vectors were made with and from), u64[2] hash of this header
//   and of everything up to the vectors
//   u64[rows] line of each title, u64[rows + 1] where each title begins among the titles, the titles, the name of the column, a
//   line feed and the notes, zeros up to a multiple of 64 bytes, f32[rows][dim] vectors of length 1
//
// While vectors are being made they go into a journal beside it, so that whoever goes on after an interruption finds them:
//
//   "qkvjourn", u32 version 1, u32 dim, u64[2] model; then blocks: u64 count, u64[2] hash of what follows in the block,
//   u64[count][2] hashes of the titles, f32[count][dim]
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "library/hash.h"
#include "library/titles.h"

namespace qkv::library {

class Index {
 public:
  std::int64_t rows() const { return rows_; }
  std::int64_t dim() const { return dim_; }
  const Hash& model() const { return model_; }
  const Hash& source() const { return source_; }
  std::string_view title(std::int64_t row) const;
  std::uint64_t line(std::int64_t row) const;
  std::string_view column() const { return column_; }
  // Rows of the source that are not in it, for want of a readable title.
  std::uint64_t skipped() const { return skipped_; }
  std::uint64_t blank() const { return blank_; }
  std::vector<std::string_view> notes() const;
  const float* vectors() const { return vectors_; }  // [rows, dim]

  // Nothing if there is no such file, or it is not whole, or of another version.
  static std::optional<Index> open(const std::filesystem::path& path);
  // In memory alone. vectors [titles.rows, dim]
  static Index make(const Titles& titles, std::int64_t dim, const Hash& model, const Hash& source,
                    std::vector<float> vectors);
  // Replaces the file at once: whoever opens it sees the old or the new. Throws std::runtime_error.
  void write(const std::filesystem::path& path) const;

 private:
  static std::optional<Index> read(std::shared_ptr<const std::byte> bytes, std::size_t size);

  std::shared_ptr<const std::byte> bytes_;  // all of it, or all but the vectors
  std::shared_ptr<const float> own_;        // vectors that are not in a file
  std::size_t head_ = 0;                    // bytes before the vectors
  std::int64_t rows_ = 0, dim_ = 0;
  std::uint64_t skipped_ = 0, blank_ = 0;
  Hash model_{}, source_{};
  const std::byte* lines_ = nullptr;
  const std::byte* places_ = nullptr;
  std::string_view titles_, column_, notes_;
  const float* vectors_ = nullptr;
};

// Vectors by the hash of their text, kept on disk as they come. One process at a time has it.
class Journal {
 public:
  // Opens or begins it, waiting for another process that has it; `waiting` is called first if one has. What it holds of another
  // model or of a write that was cut off goes. Throws std::runtime_error.
  Journal(std::filesystem::path path, std::int64_t dim, const Hash& model, void (*waiting)());
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  std::size_t size() const { return known_.size(); }
  // Null if it is not there; stays until the journal goes.
  const float* find(const Hash& text) const;
  // Throws std::runtime_error if it cannot be written.
  void add(std::span<const Hash> texts, std::vector<float> vectors);
  // No longer needed.
  void remove();

 private:
  void recover();

  std::filesystem::path path_;
  std::int64_t dim_;
  Hash model_;
  int file_ = -1;
  std::vector<std::vector<float>> blocks_;
  std::unordered_map<Hash, const float*, HashOfHash> known_;
};

}  // namespace qkv::library
