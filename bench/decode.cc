// Decode (one query row a head) for every type of keys and values, in GB/s of stored keys and values, beside a loop that only
// reads the same bytes; both take turns, the counters are medians and best of all turns (google benchmark).
//   build/release/bench/decode --benchmark_filter=bf16
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "attention/parallel.h"
#include "kernels/half.h"
#include "qkv/attention.h"

namespace {

using qkv::DType;
using Clock = std::chrono::steady_clock;

struct Shape {
  std::int64_t batch, heads, heads_kv, queries, keys, dim;
};
constexpr Shape kShapes[] = {{1, 32, 32, 1, 4096, 128},
                             {1, 32, 8, 1, 4096, 128},
                             {1, 32, 8, 1, 32768, 128},
                             {16, 32, 8, 1, 4096, 128}};

// `count` small numbers of any type.
std::vector<std::byte> numbers(DType dtype, std::int64_t count, std::uint32_t seed) {
  const auto size = static_cast<std::size_t>(qkv::size_of(dtype));
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * size);
  for (std::size_t i = 0; i < bytes.size(); i += size) {
    seed = seed * 1664525u + 1013904223u;
    const float x = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
    const std::uint16_t half =
        dtype == DType::f16 ? qkv::kernels::float_to_half(x) : qkv::kernels::float_to_bfloat16(x);
    const auto byte = static_cast<std::int8_t>(x * 127);
    if (dtype == DType::f32)
      std::memcpy(&bytes[i], &x, size);
    else if (dtype == DType::i8)
      std::memcpy(&bytes[i], &byte, size);
    else
      std::memcpy(&bytes[i], &half, size);
  }
  return bytes;
}

// One line of 64 bytes after the other, several streams at once, so that memory and not the loop is the limit.
std::uint64_t read(const std::vector<std::byte>& bytes, int threads) {
  std::atomic<std::uint64_t> total = 0;
  const std::int64_t lines = static_cast<std::int64_t>(bytes.size() / 64);
  qkv::parallel_for(threads, threads, [&](std::int64_t t) {
    constexpr std::int64_t kStreams = 4;
    const std::int64_t share = lines / threads / kStreams;
    const auto* words =
        reinterpret_cast<const std::uint64_t*>(bytes.data()) + lines / threads * t * 8;
    std::uint64_t sum[8] = {};
    for (std::int64_t i = 0; i < share; ++i)
      for (std::int64_t s = 0; s < kStreams; ++s) {
        const std::uint64_t* line = words + (s * share + i) * 8;
        __builtin_prefetch(line + 64);
        for (int w = 0; w < 8; ++w) sum[w] += line[w];
      }
    for (const std::uint64_t s : sum) total += s;
  });
  return total;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + std::ssize(times) / 2, times.end());
  return times[times.size() / 2];
}

// range: shape, threads
void decode(benchmark::State& state, DType dtype) {
  const Shape s = kShapes[state.range(0)];
  const int threads = static_cast<int>(state.range(1));
  const DType query_type = dtype == DType::i8 ? DType::f32 : dtype;
  const qkv::Shape4 query_shape = {s.batch, s.heads, s.queries, s.dim};
  const qkv::Shape4 key_shape = {s.batch, s.heads_kv, s.keys, s.dim};
  const std::int64_t key_count = s.batch * s.heads_kv * s.keys * s.dim;
  const auto view = [](const auto& bytes, DType type, const qkv::Shape4& shape) {
    return qkv::TensorView(bytes.data(), type, shape, qkv::dense_strides(shape));
  };
  const auto query = numbers(query_type, s.batch * s.heads * s.queries * s.dim, 1);
  const auto key = numbers(dtype, key_count, 2), value = numbers(dtype, key_count, 3);
  std::vector<float> out(static_cast<std::size_t>(s.batch * s.heads * s.queries * s.dim));
  const std::vector<float> scale(static_cast<std::size_t>(s.heads_kv), 0.01f);
  qkv::AttentionOptions options;
  options.threads = threads;
  if (dtype == DType::i8)
    options.k_scale = options.v_scale = qkv::TensorView(scale.data(), {1, s.heads_kv, 1, 1});
  std::vector<double> reads, decodes;
  for (auto _ : state) {
    auto start = Clock::now();
    benchmark::DoNotOptimize(read(key, threads) + read(value, threads));
    reads.push_back(seconds_since(start));
    start = Clock::now();
    qkv::attention(view(query, query_type, query_shape), view(key, dtype, key_shape),
                   view(value, dtype, key_shape), options,
                   {qkv::MutableTensorView(out.data(), query_shape), {}, nullptr});
    decodes.push_back(seconds_since(start));
  }
  const double gigabytes = static_cast<double>(key.size() + value.size()) * 1e-9;
  const double best = *std::min_element(decodes.begin(), decodes.end());
  const double best_read = *std::min_element(reads.begin(), reads.end());
  state.counters["GB/s"] = gigabytes / median(decodes);
  state.counters["read GB/s"] = gigabytes / median(reads);
  state.counters["best GB/s"] = gigabytes / best;
  state.counters["best read GB/s"] = gigabytes / best_read;
  state.counters["of read"] = median(reads) / median(decodes);
  state.counters["best of read"] = best_read / best;
}

// What a call costs that has nothing to do.
void tiny(benchmark::State& state) {
  const std::int64_t keys = state.range(0);
  const std::vector<float> query(64, 0.5f), key(static_cast<std::size_t>(keys * 64), 0.25f);
  std::vector<float> out(64);
  const qkv::AttentionOptions options;
  for (auto _ : state)
    qkv::attention({query.data(), {1, 1, 1, 64}}, {key.data(), {1, 1, keys, 64}},
                   {key.data(), {1, 1, keys, 64}}, options,
                   {qkv::MutableTensorView(out.data(), {1, 1, 1, 64}), {}, nullptr});
}
BENCHMARK(tiny)->ArgName("keys")->Arg(1)->Arg(16)->Arg(128);

#define QKV_DECODE(type)                       \
  BENCHMARK_CAPTURE(decode, type, DType::type) \
      ->ArgNames({"shape", "threads"})         \
      ->ArgsProduct({{0, 1, 2, 3}, {1, 2}})    \
      ->UseRealTime()                          \
      ->Unit(benchmark::kMillisecond)
QKV_DECODE(f32);
QKV_DECODE(f16);
QKV_DECODE(bf16);
QKV_DECODE(i8);

}  // namespace

BENCHMARK_MAIN();
