// What a call to parallel_for costs beyond its tasks (google benchmark; times are wall clock).
#include "attention/parallel.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// range: threads, tasks; calls follow each other, so helpers may still be awake
void empty_tasks(benchmark::State& state) {
  for (auto _ : state)
    qkv::parallel_for(static_cast<int>(state.range(0)), state.range(1),
                      [](std::int64_t i) { benchmark::DoNotOptimize(i); });
}
BENCHMARK(empty_tasks)
    ->ArgNames({"threads", "tasks"})
    ->Args({1, 2})
    ->Args({2, 1})
    ->Args({2, 2})
    ->Args({2, 1000})
    ->UseRealTime();

// The time of `call` after every helper has fallen asleep. The median and the best of all iterations say more than the mean
// where other programs run.
template <class Call>
void after_a_pause(benchmark::State& state, const Call& call) {
  std::vector<double> seconds;
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const auto start = Clock::now();
    call();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    state.SetIterationTime(seconds.back());
  }
  std::sort(seconds.begin(), seconds.end());
  state.counters["median_us"] = 1e6 * seconds[seconds.size() / 2];
  state.counters["best_us"] = 1e6 * seconds.front();
}

// The caller wakes a helper, but need not wait for it.
void empty_tasks_asleep(benchmark::State& state) {
  after_a_pause(
      state, [] { qkv::parallel_for(2, 2, [](std::int64_t i) { benchmark::DoNotOptimize(i); }); });
}
BENCHMARK(empty_tasks_asleep)->UseManualTime()->Iterations(1000);

// Each of the two tasks waits until the other has started: the time until a helper that slept is at work.
void wake_a_helper(benchmark::State& state) {
  after_a_pause(state, [] {
    std::atomic<int> started{0};
    qkv::parallel_for(2, 2, [&](std::int64_t) {
      ++started;
      while (started.load() < 2) benchmark::DoNotOptimize(started);
    });
  });
}
BENCHMARK(wake_a_helper)->UseManualTime()->Iterations(1000);

// Half a call's work in each of two tasks, in µs: from which size on is a second thread worth it?
void two_halves(benchmark::State& state) {
  const auto half = std::chrono::nanoseconds(state.range(1) * 1000 / 2);
  after_a_pause(state, [&] {
    qkv::parallel_for(static_cast<int>(state.range(0)), 2, [&](std::int64_t) {
      const auto start = Clock::now();
      while (Clock::now() - start < half) {
      }
    });
  });
}
BENCHMARK(two_halves)
    ->ArgNames({"threads", "work_us"})
    ->ArgsProduct({{1, 2}, {10, 20, 50, 100, 200}})
    ->UseManualTime()
    ->Iterations(300);

}  // namespace

BENCHMARK_MAIN();
