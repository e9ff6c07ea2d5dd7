// attention_backward() beside attention() at training shapes, in GFLOP/s (google benchmark). Counted are five products for the
// backward pass and two for the forward one, of the pairs that are visible; a causal call has half of them.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "qkv/attention.h"

namespace {

struct Call {
  qkv::Shape4 query_shape, key_shape;
  std::vector<float> query, key, value, d_out, out, d_query, d_key, d_value, lse;
  qkv::AttentionOptions options;
  double pairs;

  // heads, key heads, tokens, dim, causal, threads
  explicit Call(const benchmark::State& state)
      : query_shape{1, state.range(0), state.range(2), state.range(3)},
        key_shape{1, state.range(1), state.range(2), state.range(3)} {
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    const auto count = [](const qkv::Shape4& s) {
      return static_cast<std::size_t>(s[0] * s[1] * s[2] * s[3]);
    };
    for (auto* v : {&query, &d_out, &out, &d_query}) v->resize(count(query_shape));
    for (auto* v : {&key, &value, &d_key, &d_value}) v->resize(count(key_shape));
    for (auto* v : {&query, &key, &value, &d_out})
      for (float& x : *v) x = normal(generator);
    lse.resize(count(query_shape) / static_cast<std::size_t>(query_shape[3]));
    const auto tokens = static_cast<double>(query_shape[2]);
    const bool causal = state.range(4) != 0;
    options.causal = causal ? qkv::Causal::bottom_right : qkv::Causal::no;
    options.threads = static_cast<int>(state.range(5));
    pairs = static_cast<double>(query_shape[1]) * tokens * (causal ? (tokens + 1) / 2 : tokens);
    forward();
  }

  void forward() {
    qkv::attention({query.data(), query_shape}, {key.data(), key_shape}, {value.data(), key_shape},
                   options, {{out.data(), query_shape}, lse, nullptr});
  }
  void backward() {
    qkv::attention_backward(
        {query.data(), query_shape}, {key.data(), key_shape}, {value.data(), key_shape}, options,
        {qkv::TensorView(out.data(), query_shape), lse}, {d_out.data(), query_shape},
        {{d_query.data(), query_shape},
         {d_key.data(), key_shape},
         {d_value.data(), key_shape},
         {},
         {}});
  }
};

void run(benchmark::State& state, void (Call::*what)(), int products) {
  Call call(state);
  for (auto _ : state) (call.*what)();
  state.counters["GFLOP/s"] = benchmark::Counter(
      2e-9 * products * call.pairs * static_cast<double>(state.range(3) * state.iterations()),
      benchmark::Counter::kIsRate);
}

void forward(benchmark::State& state) { run(state, &Call::forward, 2); }
void backward(benchmark::State& state) { run(state, &Call::backward, 5); }

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"heads", "kv", "tokens", "dim", "causal", "threads"})
      ->ArgsProduct({{8}, {8}, {2048}, {64, 128}, {0, 1}, {1, 2}})
      ->ArgsProduct({{8}, {2}, {2048}, {64}, {0, 1}, {1, 2}})
      ->ArgsProduct({{1}, {1}, {4096}, {64}, {0, 1}, {1, 2}})
      ->ArgsProduct({{8}, {8}, {128}, {64}, {0, 1}, {1, 2}})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
