// Which lines there are, and what is wanted of each.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/suite/line.h"

namespace qkv::bench {

// Every line; without `all` fp32 prefill alone, with `quick` three lines of it.
std::vector<Line> lines(bool all, bool quick);

// The lines that the semicolon list `filter` asks for: a part that is itself a line's name means this line, of the list or
// not, any other part every line of `from` whose full name contains it, and where none does every line there is. Empty: all
// of `from`. Throws std::invalid_argument where a part means nothing.
std::vector<Line> matching(const std::vector<Line>& from, std::string_view filter);

// What is wanted of a line; whatever is not set is not asked for. Times mean: as many times as fast.
struct Targets {
  std::optional<double> of_peak;             // fraction of the peak of its type
  std::optional<double> of_bandwidth;        // fraction of the read bandwidth
  std::optional<double> gigabytes_per_core;  // GB/s of keys and values
  std::optional<double> of_pytorch;          // times
  std::optional<double> of_others;           // times the fastest of the other peers
  std::optional<double> of_bf16;             // times the bf16 line of the same shape
  std::optional<double> microseconds;        // at most
  std::optional<double> of_one_thread;       // times the same call on one thread
  std::optional<double> more_time;  // at most: of the traced call over the plain one, as a fraction
};
Targets targets(const Line& line);

}  // namespace qkv::bench
