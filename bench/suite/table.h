// Text in columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qkv::bench {

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
std::string
text(const char* format, ...);

std::string bytes_text(std::int64_t bytes);
std::string time_text(double seconds);

using Row = std::vector<std::string>;

// A Markdown table whose columns line up in a terminal too; the first column to the left, the others to the right. Nothing
// if there is no row but the head.
std::string table(const std::vector<Row>& rows);

}  // namespace qkv::bench
