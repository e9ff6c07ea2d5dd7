// Which of its targets a result reaches.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/suite/run.h"

namespace qkv::bench {

struct Check {
  std::string of;  // "peak", "read bandwidth", "a core", "more time", "bf16", "PyTorch", "others",
                   // "time", "one thread"
  std::string unit;  // "%", "×", " GB/s" or " µs"
  bool at_most = false;
  double needed = 0;              // in units
  std::optional<double> reached;  // likewise; nothing where a part of it was not measured

  bool ok() const { return reached && (at_most ? *reached <= needed : *reached >= needed); }
  // "peak 68.1% ≥ 90% short"
  std::string text() const;
};

// What the targets of the result's line come to; `all` holds the lines that others are compared with.
std::vector<Check> checks(const Result& result, const std::vector<Result>& all);

}  // namespace qkv::bench
