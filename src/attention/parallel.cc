#include "attention/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#include "attention/cores.h"
#include "attention/pool.h"
#include "qkv/threads.h"

namespace qkv {
namespace {

// The embedding program's pool. Atomic only so that a call at the wrong moment is no undefined behaviour.
std::atomic<ParallelFor> foreign_pool{nullptr};
std::atomic<void*> foreign_context{nullptr};

// A task whose exceptions stop here: a foreign pool need not know what to do with them.
struct Guarded {
  Task task;
  void* data;
  FirstFailure failure;
};

void run_guarded(void* guarded, std::int64_t index) {
  auto& g = *static_cast<Guarded*>(guarded);
  const InsideTask inside;
  try {
    g.task(g.data, index);
  } catch (...) {
    g.failure.keep();
  }
}

}  // namespace

void set_parallel_for(ParallelFor pool, void* context) {
  foreign_context.store(context, std::memory_order_relaxed);
  foreign_pool.store(pool, std::memory_order_release);
}

int thread_count(int threads, std::int64_t count) {
  if (threads == 1 || count <= 1 || InsideTask::now()) return 1;
  // more threads than this are a mistake, and may be more than the machine lets a process have
  const int most = std::max(available_cores(), 64);
  const int wanted = std::min(threads > 0 ? threads : default_threads(), most);
  return static_cast<int>(std::min<std::int64_t>(wanted, count));
}

void run_tasks(int threads, std::int64_t count, Task task, void* data) {
  const int workers = thread_count(threads, count);
  if (workers > 1) {
    if (const ParallelFor pool = foreign_pool.load(std::memory_order_acquire)) {
      Guarded guarded{task, data, {}};
      pool(foreign_context.load(std::memory_order_relaxed), workers, count, run_guarded, &guarded);
      guarded.failure.rethrow();
      return;
    }
    if (run_in_pool(workers, count, task, data)) return;
  }
  for (std::int64_t i = 0; i < count; ++i) task(data, i);
}

}  // namespace qkv
