// The run behind `qkv bench`: every line with every engine and thread count, taking turns with the machine's own peak.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/suite/line.h"
#include "bench/suite/peers.h"

namespace qkv::bench {

struct RunOptions {
  std::vector<Line> lines;
  std::vector<int> threads;
  int rounds = 7;         // turns: peak, qkv, each peer, and again
  double seconds = 0.08;  // of each engine in each turn
  std::string
      self;  // the program that extra_memory_here is asked of, in a process of its own; empty: not asked
  std::function<void(const std::string&)> progress;  // told before each line
};

struct Timing {
  double best = 0, median = 0;  // seconds
  int runs = 0;
  std::string why;                   // nothing was measured: the reason
  std::optional<double> difference;  // PeerTimes::difference

  bool measured() const { return runs > 0; }
};

struct Result {
  Line line{};
  int threads = 1;
  double peak = 0;  // GFLOP/s, median of the peaks measured between the runs of this line
  Type peak_type = Type::f32;  // bf16: of its dot products; else of fp32 multiply-adds
  double bandwidth = 0;        // GB/s, likewise; only for decode
  Timing qkv;
  Timing alone;   // only for call, on more than one thread: the same on one
  Timing traced;  // only for trace: the same with the trace, qkv above is without
  std::map<std::string, Timing> peers;       // by name
  std::optional<std::int64_t> extra_memory;  // bytes

  // What peers are compared with: for trace the traced call, as they look at the weights too.
  const Timing& ours() const { return line.kind == Kind::trace ? traced : qkv; }
  double gflops(const Timing& t) const { return line.flops() / t.median * 1e-9; }
  double best_gflops(const Timing& t) const { return line.flops() / t.best * 1e-9; }
  double gigabytes(const Timing& t) const { return line.key_value_bytes() / t.median * 1e-9; }
  // The peer, if it was measured.
  const Timing* peer(const std::string& name) const;
  // How many times as fast as that peer, where both were measured.
  std::optional<double> speedup(const std::string& peer) const;
};

// `peers` may be null.
std::vector<Result> run(const RunOptions& options, Peers* peers);

}  // namespace qkv::bench
