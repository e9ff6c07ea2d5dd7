// What both databases read and print as JSON.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/memory.h"

namespace qkv::sql {

// [1, 2.5, …] as float32. Throws std::invalid_argument unless it is an array of at least one number, each within float32.
std::vector<float> vector_from_json(std::string_view text);
// The shortest digits that read back as the same float32.
std::string vector_to_json(std::span<const float> numbers);

// A text as a JSON string; bytes that are not UTF-8 become U+FFFD.
std::string json_string(std::string_view text);
std::string json_number(double number);

// {"top":[{"label":…,"weight":0.9,"percent":90.0},…],"remainder":0.1,"rows":3}; labels are JSON already.
std::string top_to_json(const MemoryState& state);
// {"rows":3,"entropy":…,"effective_rows":…,"max_weight":…,"logsumexp":…}
std::string stats_to_json(const MemoryState& state);

}  // namespace qkv::sql
