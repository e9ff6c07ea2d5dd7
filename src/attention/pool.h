// Our own threads. See qkv/threads.h for what they promise.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <utility>

#include "attention/parallel.h"

namespace qkv {

// Runs the tasks on the caller and up to threads − 1 workers, with parallel_for's promises. False, with nothing done: the
// pool is busy, closed, or no thread could be started.
bool run_in_pool(int threads, std::int64_t count, Task task, void* data);

// While one lives, its thread is inside a task.
class InsideTask {
 public:
  InsideTask() : outer_(std::exchange(inside_, true)) {}
  ~InsideTask() { inside_ = outer_; }
  InsideTask(const InsideTask&) = delete;
  InsideTask& operator=(const InsideTask&) = delete;
  static bool now() { return inside_; }

 private:
  bool outer_;
  inline static thread_local bool inside_ = false;
};

// The first exception that one of several threads met.
class FirstFailure {
 public:
  // Keeps the exception being handled, if it is the first.
  void keep() {
    if (!kept_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
  }
  // After all threads have ended.
  void rethrow() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  std::atomic<bool> kept_{false};
  std::exception_ptr failure_;
};

}  // namespace qkv
