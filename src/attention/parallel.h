// The one seam to threads: every task of the library passes here, on its way to our pool (pool.h) or to that of the program
// that embeds us (qkv/threads.h, which also says what QKV_NUM_THREADS does).
#pragma once

#include <cstdint>
#include <memory>

namespace qkv {

// What to do with index i: task(data, i). With its data it refers to a callable and does not own it, as the call outlives
// every task; a std::function would allocate for each.
using Task = void (*)(void* data, std::int64_t index);

// How many threads parallel_for(threads, count, …) would use: 1 inside a task.
// Throws std::invalid_argument if threads is 0 and QKV_NUM_THREADS is no positive integer.
int thread_count(int threads, std::int64_t count);

// parallel_for for one who has a Task and may need threads.
void run_tasks(int threads, std::int64_t count, Task task, void* data);

// Calls body(i) once for each i in [0, count), on at most `threads` threads (0: as many as QKV_NUM_THREADS says, else as the
// process has cores), handing out the lowest i first; returns when all are done. threads = 1, count = 1 or a call from
// inside a body runs in the caller and starts nothing. If bodies throw, one of the exceptions is rethrown after all have
// ended; in the caller alone it is the first, and ends the call.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
  if (threads == 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  const Task task = [](void* data, std::int64_t index) {
    (*static_cast<const Body*>(data))(index);
  };
  run_tasks(threads, count, task, const_cast<Body*>(std::addressof(body)));
}

}  // namespace qkv
