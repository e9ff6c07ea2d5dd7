// The layers at the bundled model's shapes, in GFLOP/s (google benchmark; bench/linear_peers.py sets PyTorch beside it).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/half.h"
#include "layers/linear.h"

namespace {

using qkv::layers::Buffer;

Buffer random_values(std::int64_t count, bool halves) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  Buffer values(static_cast<std::size_t>(count));
  for (float& v : values)
    v = halves ? static_cast<float>(static_cast<int>(normal(generator) * 256)) / 256
               : normal(generator);
  return values;
}

// range: rows, in, out, weights in fp16, threads
void linear(benchmark::State& state) {
  const std::int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const Buffer weight = random_values(in * out, state.range(3) != 0);
  const qkv::layers::Linear layer(in, {weight.data(), nullptr, out});
  const Buffer x = random_values(rows * in, false);
  Buffer y(static_cast<std::size_t>(rows * out));
  for (auto _ : state) {
    layer.forward(x.data(), in, rows, y.data(), out, static_cast<int>(state.range(4)));
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(rows * in * out * state.iterations()),
                         benchmark::Counter::kIsRate);
}
BENCHMARK(linear)
    ->ArgNames({"rows", "in", "out", "half", "threads"})
    ->ArgsProduct({{1, 4, 16, 32, 64, 128}, {256}, {768, 1024, 8192}, {0, 1}, {1, 2}})
    ->ArgsProduct({{1, 4, 16, 32, 64, 128}, {1024}, {256}, {0, 1}, {1, 2}})
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
