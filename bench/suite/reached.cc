#include "bench/suite/reached.h"

#include <algorithm>

#include "bench/suite/lines.h"
#include "bench/suite/table.h"

namespace qkv::bench {
namespace {

constexpr const char* kPyTorch = "PyTorch";

std::optional<double> of_fastest_other(const Result& result) {
  std::optional<double> least;
  for (const auto& [name, timing] : result.peers) {
    if (name == kPyTorch) continue;
    const std::optional<double> now = result.speedup(name);
    if (now) least = least ? std::min(*least, *now) : *now;
  }
  return least;
}

std::optional<double> of_bf16(const Result& result, const std::vector<Result>& all) {
  Line same = result.line;
  same.type = Type::bf16;
  for (const Result& r : all)
    if (r.line == same && r.threads == result.threads && r.qkv.measured() && result.qkv.measured())
      return r.qkv.median / result.qkv.median;
  return std::nullopt;
}

// A figure that needs our own time.
template <class Figure>
std::optional<double> where_measured(const Result& result, const Figure& figure) {
  return result.ours().measured() ? std::optional<double>(figure()) : std::nullopt;
}

}  // namespace

std::string Check::text() const {
  const bool whole = unit == "%" || unit == " GB/s";
  const std::string sign = at_most ? " ≤ " : " ≥ ";
  const std::string wanted = sign + bench::text(whole ? "%.0f" : "%.2f", needed) + unit;
  if (!reached) return of + wanted + " unknown";
  return of + " " + bench::text(whole ? "%.1f" : "%.2f", *reached) + unit + wanted +
         (ok() ? " ok" : " short");
}

std::vector<Check> checks(const Result& result, const std::vector<Result>& all) {
  const Targets t = targets(result.line);
  std::vector<Check> found;
  const auto add = [&](const char* of, const char* unit, double needed,
                       std::optional<double> reached, bool at_most = false) {
    found.push_back({of, unit, at_most, needed, reached});
  };
  const double percent = 100;
  if (t.of_peak)
    add("peak", "%", percent * *t.of_peak,
        where_measured(result, [&] { return percent * result.gflops(result.qkv) / result.peak; }));
  if (t.of_bandwidth)
    add("read bandwidth", "%", percent * *t.of_bandwidth, where_measured(result, [&] {
          return percent * result.gigabytes(result.qkv) / result.bandwidth;
        }));
  if (t.gigabytes_per_core)
    add("a core", " GB/s", *t.gigabytes_per_core,
        where_measured(result, [&] { return result.gigabytes(result.qkv) / result.threads; }));
  if (t.more_time)
    add("more time", "%", percent * *t.more_time,
        where_measured(result,
                       [&] { return percent * (result.traced.median / result.qkv.median - 1); }),
        true);
  if (t.microseconds)
    add("time", " µs", *t.microseconds,
        where_measured(result, [&] { return 1e6 * result.qkv.median; }), true);
  if (t.of_one_thread && result.alone.measured())
    add("one thread", "×", *t.of_one_thread, result.alone.median / result.qkv.median);
  if (t.of_bf16) add("bf16", "×", *t.of_bf16, of_bf16(result, all));
  if (result.peers.empty()) return found;  // nobody was asked
  if (t.of_pytorch) add(kPyTorch, "×", *t.of_pytorch, result.speedup(kPyTorch));
  if (t.of_others) add("others", "×", *t.of_others, of_fastest_other(result));
  return found;
}

}  // namespace qkv::bench
