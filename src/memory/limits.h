// How large a row and an answer may be: far above what is useful, and low enough that sizes never overflow.
#pragma once

#include <cstdint>

namespace qkv {

inline constexpr std::int64_t kMaxMemoryDim = 65536;
inline constexpr int kMaxMemoryTop = 10000;

}  // namespace qkv
