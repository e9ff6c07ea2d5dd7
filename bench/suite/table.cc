#include "bench/suite/table.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

namespace qkv::bench {
namespace {

// Characters, not bytes: every character here is one column wide.
std::size_t width_of(const std::string& cell) {
  return static_cast<std::size_t>(std::count_if(cell.begin(), cell.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

std::string text(const char* format, ...) {
  std::array<char, 256> buffer;
  va_list values;
  va_start(values, format);
  std::vsnprintf(buffer.data(), buffer.size(), format, values);
  va_end(values);
  return buffer.data();
}

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 10 << 10) return text("%lld B", static_cast<long long>(bytes));
  return bytes < 10 << 20 ? text("%lld KiB", static_cast<long long>(bytes >> 10))
                          : text("%lld MiB", static_cast<long long>(bytes >> 20));
}

std::string time_text(double seconds) {
  return seconds < 1e-3 ? text("%.1f µs", seconds * 1e6) : text("%.2f ms", seconds * 1e3);
}

std::string table(const std::vector<Row>& rows) {
  if (rows.size() < 2) return "";
  std::vector<std::size_t> widths(rows.front().size(), 3);
  for (const Row& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string padding(widths[c] - width_of(rows[r][c]), ' ');
      out += c == 0 ? "| " + rows[r][c] + padding : " | " + padding + rows[r][c];
    }
    out += " |\n";
    if (r > 0) continue;
    for (std::size_t c = 0; c < widths.size(); ++c)
      out += "|" + std::string(c == 0 ? "" : " ") + std::string(widths[c] + (c == 0 ? 2 : 0), '-') +
             (c == 0 ? "" : ":");
    out += "|\n";
  }
  return out;
}

}  // namespace qkv::bench
