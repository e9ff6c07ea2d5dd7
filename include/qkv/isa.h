// Which instruction set the engine runs on, and which version it is.
#pragma once

#include <string_view>
#include <vector>

namespace qkv {

// "avx512_bf16" (avx512 and products of bfloat16 by its dot instruction), "avx512", "avx2", "neon" or "scalar": the best this CPU has, or the one forced by the environment variable QKV_ISA.
// Chosen once. Throws std::invalid_argument if QKV_ISA names an unknown or unsupported one.
std::string_view isa();

// The instruction sets this build holds and this CPU runs, best first; the last is always "scalar".
std::vector<std::string_view> supported_isas();

// "major.minor.patch"
std::string_view version();

}  // namespace qkv
