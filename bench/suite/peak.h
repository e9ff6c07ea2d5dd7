// What the machine itself can do: the yardstick that every figure of `qkv bench` is divided by.
#pragma once

#include <cstddef>
#include <string_view>

#include "bench/suite/line.h"

namespace qkv::bench {

// Multiply-adds on registers alone: 14 independent chains, enough to fill two units of latency 4 to 6. For bf16 these are
// dot products of pairs (vdpbf16ps) where has_bf16_dot, else and for every other type fused multiply-adds of fp32. Returns
// GFLOP/s of `threads` threads together over about `seconds`; `isa` is a name of qkv::supported_isas().
double peak(Type type, std::string_view isa, int threads, double seconds);

// Whether this CPU has the instruction, and `isa` is wide enough to use it.
bool has_bf16_dot(std::string_view isa);

// GB/s of reading a buffer of `bytes` once, shared by `threads` threads; the buffer is made by the first call and kept.
double read_bandwidth(int threads, std::size_t bytes);

// A buffer of which no cache holds much: four times the last-level cache, but at most 1 GiB and a quarter of the memory.
std::size_t bandwidth_buffer_bytes();

}  // namespace qkv::bench
