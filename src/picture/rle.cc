#include "picture/rle.h"

#include <numeric>
#include <vector>

namespace qkv::picture {
namespace {

// Reads the mask row by row, as it lies in memory, and notes for each column where it changes; positions count down the columns.
std::vector<std::int64_t> runs(std::span<const std::uint8_t> mask, std::int64_t height,
                               std::int64_t width) {
  std::vector<std::vector<std::int64_t>> changes(static_cast<std::size_t>(width));
  std::vector<std::uint8_t> above(static_cast<std::size_t>(width));
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) {
      const std::uint8_t here = mask[y * width + x] != 0 ? 1 : 0;
      if (here != above[x]) changes[x].push_back(x * height + y);
      above[x] = here;
    }

  std::vector<std::int64_t> ends;  // of runs; two changes at one position are none
  const auto change = [&](std::int64_t at) {
    if (!ends.empty() && ends.back() == at)
      ends.pop_back();
    else
      ends.push_back(at);
  };
  for (std::int64_t x = 0; x < width; ++x) {
    if (x > 0 && above[x - 1] != 0) change(x * height);  // every column begins outside
    for (const std::int64_t at : changes[x]) change(at);
  }
  ends.push_back(height * width);
  std::adjacent_difference(ends.begin(), ends.end(), ends.begin());
  return ends;
}

}  // namespace

std::string coco_counts(std::span<const std::uint8_t> mask, std::int64_t height,
                        std::int64_t width) {
  const std::vector<std::int64_t> lengths = runs(mask, height, width);
  std::string text;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    std::int64_t value = lengths[i] - (i > 2 ? lengths[i - 2] : 0);
    for (bool more = true; more;) {
      const auto bits = static_cast<int>(value & 31);
      value >>= 5;  // arithmetic
      more = value != ((bits & 16) != 0 ? -1 : 0);
      text += static_cast<char>(48 + bits + (more ? 32 : 0));
    }
  }
  return text;
}

}  // namespace qkv::picture
