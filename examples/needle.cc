// A needle in a million tokens: one head, a million keys, four queries, and each finds the one key that it is like.
//
//   make examples && build/release/examples/needle [--keys N]
//
// The trace tells the largest weights of each query and where they lie. What the program needs beyond its own tensors is
// measured and printed, the engine's memory, the trace and the program itself: it ends with 1 if that is a gigabyte or more,
// or if a needle was missed.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace {

constexpr std::int64_t kDim = 64, kQueries = 4, kMostKeys = 10'000'000;
constexpr int kTop = 3;
constexpr double kMiB = 1 << 20;

// Splitmix64 (Steele et al. 2014): the same numbers on every machine, and fast enough for 128 million of them.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Mean 0, variance 1, nearly normal: four uniform numbers of 16 bits, each with variance 1/12.
  float normal() {
    const std::uint64_t b = bits();
    const auto sum =
        static_cast<float>((b & 0xffff) + (b >> 16 & 0xffff) + (b >> 32 & 0xffff) + (b >> 48));
    return (sum / 65536 - 2) * 1.7320508F;
  }

 private:
  std::uint64_t state_;
};

// The most memory this process ever held, in bytes; 0 where the system does not say. (getrusage would count what the process
// that started us held before.)
double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::stod(line.substr(6));
  return 0;
}

// The number after --keys, a million without it; 0 after saying what is wrong.
std::int64_t keys_asked_for(int argc, char** argv) {
  if (argc == 1) return 1'000'000;
  std::int64_t keys = 0;
  if (argc == 3 && std::strcmp(argv[1], "--keys") == 0) {
    const char* const end = argv[2] + std::strlen(argv[2]);
    const auto [stopped, error] = std::from_chars(argv[2], end, keys);
    if (error == std::errc() && stopped == end && keys >= 1 && keys <= kMostKeys) return keys;
    std::fprintf(stderr, "needle: --keys takes a whole number from 1 to %lld, not '%s'\n",
                 static_cast<long long>(kMostKeys), argv[2]);
    return 0;
  }
  std::fprintf(stderr, "usage: needle [--keys N]     N keys instead of a million\n");
  return 0;
}

// Returns the exit code.
int search(std::int64_t count) {
  Random random(1);
  std::vector<float> keys(static_cast<std::size_t>(count * kDim)), values(keys.size());
  std::vector<float> queries(kQueries * kDim), out(queries.size());
  std::generate(keys.begin(), keys.end(), [&] { return random.normal(); });
  std::generate(values.begin(), values.end(), [&] { return random.normal(); });

  // A query is some key, blurred, and three times as loud: its score is about 3·64/√64 = 24, and e²⁴ is heard among a
  // million strangers, whose e^N(0,9) add up to a million times e^4.5 only. At its own loudness e⁸ would not be.
  std::int64_t needles[kQueries];
  for (std::int64_t q = 0; q < kQueries; ++q) {
    needles[q] = static_cast<std::int64_t>(random.bits() % static_cast<std::uint64_t>(count));
    for (std::int64_t d = 0; d < kDim; ++d)
      queries[q * kDim + d] = 3 * (keys[needles[q] * kDim + d] + 0.2F * random.normal());
  }

  qkv::AttentionOptions options;
  options.trace.top = kTop;
  qkv::Trace trace;
  const auto start = std::chrono::steady_clock::now();
  qkv::attention({queries.data(), {1, 1, kQueries, kDim}}, {keys.data(), {1, 1, count, kDim}},
                 {values.data(), {1, 1, count, kDim}}, options,
                 {{out.data(), {1, 1, kQueries, kDim}}, {}, &trace});
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;

  int found = 0;
  for (std::int64_t q = 0; q < kQueries; ++q) {
    std::printf("query %d is like key %lld and read", static_cast<int>(q),
                static_cast<long long>(needles[q]));
    for (std::int64_t i = q * kTop; i < (q + 1) * kTop && trace.top_keys[i] >= 0; ++i)
      std::printf("  %d: %.2f%%", trace.top_keys[i], 100 * double{trace.top_weights[i]});
    // what it brings back is the needle's value, as far as the needle has the weight (values are at most 3.5 apart from 0)
    const float weight = trace.top_weights[q * kTop];
    bool right = trace.top_keys[q * kTop] == needles[q] && weight > 0.5F;
    for (std::int64_t d = 0; d < kDim; ++d)
      right &=
          std::fabs(out[q * kDim + d] - values[needles[q] * kDim + d]) < 7 * (1 - weight) + 1e-4F;
    std::printf("  %s\n", right ? "found" : "MISSED");
    found += right ? 1 : 0;
  }

  const double tensors =
      static_cast<double>(keys.size() + values.size() + queries.size() + out.size()) *
      sizeof(float);
  const double beyond = peak_memory() - tensors;
  std::printf("found %d of %d among %lld keys in %.1f ms\n", found, static_cast<int>(kQueries),
              static_cast<long long>(count), took.count());
  if (peak_memory() > 0)
    std::printf("memory: tensors %.1f MiB, everything else at most %.1f MiB\n", tensors / kMiB,
                beyond / kMiB);
  return found == kQueries && beyond < 1e9 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t keys = keys_asked_for(argc, argv);
  if (keys == 0) return 2;
  try {
    return search(keys);
  } catch (const std::exception& error) {  // no memory, or QKV_NUM_THREADS or QKV_ISA are wrong
    std::fprintf(stderr, "needle: %s\n", error.what());
    return 1;
  }
}
