// A safetensors file, memory-mapped and checked: 8 bytes header length (little endian), a JSON header
//   {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, …, "__metadata__": {…}}
// and the data, which the tensors cover without overlap or gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::models {

class Safetensors {
 public:
  struct Entry {
    std::string dtype;  // "F32", "F16", "BF16", …
    std::vector<std::int64_t> shape;
    std::size_t begin = 0;  // bytes from the start of the data
    std::size_t end = 0;
  };

  // Throws std::runtime_error naming the file, the tensor and what is wrong.
  static Safetensors open(const std::filesystem::path& path);

  bool has(std::string_view name) const;
  // Throws std::runtime_error if there is no such tensor.
  const Entry& entry(std::string_view name) const;
  // The tensor as fp32 (F32, F16 and BF16 are converted, exactly). Throws std::runtime_error if it is missing, has
  // another shape than expected, or another type.
  std::vector<float> read(std::string_view name, std::span<const std::int64_t> shape) const;

  // The rows of a matrix [rows, columns] one by one, converted as read() does, from the mapped file: what a vocabulary's table
  // needs, of which a text touches a few rows. Throws as read() does.
  class Rows {
   public:
    std::int64_t columns() const { return columns_; }
    std::int64_t rows() const { return rows_; }
    // out [columns]; 0 ≤ row < rows()
    void read(std::int64_t row, float* out) const;

   private:
    friend class Safetensors;
    std::shared_ptr<const std::byte> mapping_;
    const std::byte* data_ = nullptr;
    std::int64_t rows_ = 0, columns_ = 0;
    std::size_t bytes_each_ = 4;
    float (*widen_)(std::uint16_t) = nullptr;  // null for F32
  };
  Rows rows(std::string_view name, std::int64_t rows, std::int64_t columns) const;

  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  const Entry& checked(std::string_view name, std::span<const std::int64_t> shape) const;

  std::filesystem::path path_;
  std::shared_ptr<const std::byte> mapping_;  // the whole file
  const std::byte* data_ = nullptr;           // where the tensors start
  std::map<std::string, Entry, std::less<>> entries_;
};

// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace qkv::models
