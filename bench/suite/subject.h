// Running and timing the engine on one line.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bench/suite/line.h"
#include "qkv/qkv.h"

namespace qkv::bench {

// Tensors of a line, filled with repeatable random numbers, and the call on them.
class Subject {
 public:
  explicit Subject(const Line& line);
  void run(int threads);
  // The same call with everything a trace can record: top 8, received mass, block map of 64.
  void run_traced(int threads);

 private:
  AttentionOptions options(int threads) const;

  Line line_;
  std::vector<float> query_, key_, value_, out_;
  Trace trace_;
};

// Seconds of each of at least `least` runs, and more until `seconds` are over.
std::vector<double> time_runs(const std::function<void()>& run, double seconds, int least);

double median(std::vector<double> numbers);
double smallest(const std::vector<double>& numbers);

// Bytes by which the resident set grows at its highest while this process makes its first call of the line: what the call
// itself needs beside its tensors, thread stacks and all. −1 where the system does not tell.
std::int64_t extra_memory_here(const Line& line, int threads);

}  // namespace qkv::bench
