#include "bench/suite/subject.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

namespace qkv::bench {
namespace {

// Uniform in [−1, 1): a multiplicative congruence is random enough for timing, and quick on a billion numbers.
std::vector<float> random_floats(std::int64_t count, std::uint64_t seed) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  std::uint64_t state = seed * 2654435769u + 1;
  for (float& x : numbers) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x = static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31f;
  }
  return numbers;
}

// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes.
std::int64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return 1024 * std::stoll(line.substr(field.size() + 1));
  return -1;
}

}  // namespace

Subject::Subject(const Line& line)
    : line_(line),
      query_(random_floats(line.batch * line.heads * line.queries * line.dim, 1)),
      key_(random_floats(line.batch * line.heads_kv * line.keys * line.dim, 2)),
      value_(random_floats(line.batch * line.heads_kv * line.keys * line.dim_v, 3)),
      out_(static_cast<std::size_t>(line.batch * line.heads * line.queries * line.dim_v)) {}

AttentionOptions Subject::options(int threads) const {
  AttentionOptions options;
  options.threads = threads;
  if (line_.causal) options.causal = Causal::bottom_right;
  return options;
}

void Subject::run(int threads) {
  const Line& l = line_;
  AttentionOutput output;
  output.out = {out_.data(), {l.batch, l.heads, l.queries, l.dim_v}};
  attention({query_.data(), {l.batch, l.heads, l.queries, l.dim}},
            {key_.data(), {l.batch, l.heads_kv, l.keys, l.dim}},
            {value_.data(), {l.batch, l.heads_kv, l.keys, l.dim_v}}, options(threads), output);
}

void Subject::run_traced(int threads) {
  const Line& l = line_;
  AttentionOutput output;
  output.out = {out_.data(), {l.batch, l.heads, l.queries, l.dim_v}};
  output.trace = &trace_;
  AttentionOptions with = options(threads);
  with.trace = {.top = 8, .received = true, .block = 64};
  attention({query_.data(), {l.batch, l.heads, l.queries, l.dim}},
            {key_.data(), {l.batch, l.heads_kv, l.keys, l.dim}},
            {value_.data(), {l.batch, l.heads_kv, l.keys, l.dim_v}}, with, output);
}

std::vector<double> time_runs(const std::function<void()>& run, double seconds, int least) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  double total = 0;
  while (total < seconds || static_cast<int>(times.size()) < least) {
    const auto start = Clock::now();
    run();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += times.back();
  }
  return times;
}

double median(std::vector<double> numbers) {
  if (numbers.empty()) return 0;
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

double smallest(const std::vector<double>& numbers) {
  return numbers.empty() ? 0 : *std::min_element(numbers.begin(), numbers.end());
}

std::int64_t extra_memory_here(const Line& line, int threads) {
  Subject subject(line);
  // 5 resets the highest resident set to the present one (proc(5))
  if (std::FILE* f = std::fopen("/proc/self/clear_refs", "w"); f != nullptr) {
    std::fputs("5", f);
    std::fclose(f);
  }
  const std::int64_t before = status_bytes("VmRSS");
  subject.run(threads);
  const std::int64_t highest = status_bytes("VmHWM");
  return before < 0 || highest < 0 ? -1 : std::max<std::int64_t>(highest - before, 0);
}

}  // namespace qkv::bench
