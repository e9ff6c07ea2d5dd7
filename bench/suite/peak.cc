#include "bench/suite/peak.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace qkv::bench {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int kChains = 14;
constexpr std::int64_t kSteps = 20000;

// Each loop below runs kSteps times kChains multiply-adds on named registers: sums 0–13 += register 14 · register 15, or
// for bf16 the two products of each pair.
// Intrinsics on an array would do the same only where the compiler keeps the array in registers; gcc -O2 does not.
// Everything else is left to the assembler, so this file needs no instruction-set flags, and the callers choose what the
// CPU has. The numbers stay finite and ordinary: 0.5 · 0.25 added again and again.
#define QKV_CHAINS(step)                                                                   \
  step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) \
      step(11) step(12) step(13)
#if defined(__x86_64__)
#define QKV_CLOBBERED                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"
#define QKV_LOOP(width, a_bits, b_bits, clear, step) \
  std::uint32_t a = a_bits, b = b_bits;              \
  std::int64_t steps = kSteps;                       \
  __asm__ volatile("vbroadcastss %[a], %%" width "14\n"                     \
                   "vbroadcastss %[b], %%" width "15\n" QKV_CHAINS(clear)   \
                   ".p2align 5\n"                                           \
                   "1:\n" QKV_CHAINS(step) "dec %[steps]\n"                 \
                   "jnz 1b\n"                                               \
                   "vzeroupper\n"                                           \
                   : [steps] "+r"(steps)                                    \
                   : [a] "m"(a), [b] "m"(b)                                 \
                   : QKV_CLOBBERED)
#define QKV_CLEAR(i) "vxorps %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n"
#define QKV_ZMM(i) "vfmadd231ps %%zmm15, %%zmm14, %%zmm" #i "\n"
#define QKV_YMM(i) "vfmadd231ps %%ymm15, %%ymm14, %%ymm" #i "\n"

#define QKV_DOT(i) "vdpbf16ps %%zmm15, %%zmm14, %%zmm" #i "\n"

// 0.5 and 0.25 as fp32, and as two bf16 side by side
void fma_avx512() { QKV_LOOP("zmm", 0x3F000000u, 0x3E800000u, QKV_CLEAR, QKV_ZMM); }
void fma_avx2() { QKV_LOOP("ymm", 0x3F000000u, 0x3E800000u, QKV_CLEAR, QKV_YMM); }
void dot_avx512() { QKV_LOOP("zmm", 0x3F003F00u, 0x3E803E80u, QKV_CLEAR, QKV_DOT); }
#elif defined(__aarch64__)
#define QKV_CLEAR(i) "movi v" #i ".4s, #0\n"
#define QKV_NEON(i) "fmla v" #i ".4s, v14.4s, v15.4s\n"

void fma_neon() {
  std::int64_t steps = kSteps;
  __asm__ volatile("fmov v14.4s, #0.5\n"
                   "fmov v15.4s, #0.25\n" QKV_CHAINS(QKV_CLEAR)
                   "1:\n" QKV_CHAINS(QKV_NEON) "subs %[steps], %[steps], #1\n"
                   "b.ne 1b\n"
                   : [steps] "+r"(steps)
                   :
                   : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
                     "v15", "cc");
}
#endif

// What portable C++ does: a multiplication and an addition, one float at a time.
void fma_scalar() {
  float sum[kChains] = {};
  float a = 0.5f;
  float b = 0.25f;
  __asm__ volatile("" : "+m"(a), "+m"(b));
  for (std::int64_t i = 0; i < kSteps; ++i)
    for (float& s : sum) s += a * b;
  __asm__ volatile("" : : "r"(sum) : "memory");
}

struct Loop {
  void (*run)();
  int products;  // of one instruction
};

Loop loop_of([[maybe_unused]] std::string_view isa, [[maybe_unused]] bool dot) {
#if defined(__x86_64__)
  if (dot) return {dot_avx512, 32};
  if (isa.starts_with("avx512")) return {fma_avx512, 16};
  if (isa.starts_with("avx2")) return {fma_avx2, 8};
#elif defined(__aarch64__)
  if (isa.starts_with("neon")) return {fma_neon, 4};
#endif
  return {fma_scalar, 1};
}

// Calls body(t) for each t in [0, threads) on a thread of its own, all at the same time: a pool may give one thread two of
// them. Returns the seconds from when all have started until all have ended.
template <class Body>
double on_threads(int threads, const Body& body) {
  Clock::time_point start;
  std::barrier everyone(threads, [&]() noexcept { start = Clock::now(); });
  const auto run = [&](int t) {
    everyone.arrive_and_wait();
    body(t);
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
    run(0);
  }
  return since(start);
}

// Sum of the words in [words, words + count): four streams, a quarter each, keep more lines in flight than one.
std::uint64_t read_words(const std::uint64_t* words, std::size_t count) {
  constexpr std::size_t kStreams = 4;
  constexpr std::size_t kBlock = 8;   // one cache line
  constexpr std::size_t kAhead = 64;  // 512 bytes
  const std::size_t length = count / kStreams / kBlock * kBlock;
  std::uint64_t sum[kBlock] = {};
  for (std::size_t i = 0; i < length; i += kBlock) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::uint64_t* line = words + s * length + i;
      __builtin_prefetch(line + kAhead);
      for (std::size_t w = 0; w < kBlock; ++w) sum[w] += line[w];
    }
  }
  return std::accumulate(std::begin(sum), std::end(sum), std::uint64_t{0});
}

}  // namespace

bool has_bf16_dot([[maybe_unused]] std::string_view isa) {
#if defined(__x86_64__)
  return isa.starts_with("avx512") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

double peak(Type type, std::string_view isa, int threads, double seconds) {
  const Loop loop = loop_of(isa, type == Type::bf16 && has_bf16_dot(isa));
  std::atomic<double> flops = 0;
  on_threads(threads, [&](int) {
    loop.run();
    const auto start = Clock::now();
    std::int64_t rounds = 0;
    double elapsed = 0;
    do {
      loop.run();
      ++rounds;
      elapsed = since(start);
    } while (elapsed < seconds);
    flops += static_cast<double>(rounds) * static_cast<double>(kSteps) * kChains * 2 *
             loop.products / elapsed;
  });
  return flops * 1e-9;
}

std::size_t bandwidth_buffer_bytes() {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  std::size_t cache = 64 * kMiB;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (l3 > 0) cache = static_cast<std::size_t>(l3);
#endif
  const auto memory = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                      static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return std::min({std::max(4 * cache, 256 * kMiB), 1024 * kMiB, memory / 4});
}

double read_bandwidth(int threads, std::size_t bytes) {
  static std::vector<std::uint64_t> buffer;
  if (buffer.size() != bytes / sizeof(std::uint64_t))
    buffer.assign(bytes / sizeof(std::uint64_t), 1);
  std::atomic<std::uint64_t> total = 0;
  const std::size_t share = buffer.size() / static_cast<std::size_t>(threads);
  const double elapsed = on_threads(threads, [&](int t) {
    total += read_words(buffer.data() + static_cast<std::size_t>(t) * share, share);
  });
  return static_cast<double>(share * static_cast<std::size_t>(threads) * sizeof(std::uint64_t)) /
         elapsed * 1e-9;
}

}  // namespace qkv::bench
