#include "attention/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

namespace qkv {

int thread_count(int threads, std::int64_t count) {
  const int available = omp_get_max_threads();
  // more than this can end the process when the machine refuses to start them
  const int most = threads > 0 ? std::min(threads, std::max(available, 64)) : available;
  return static_cast<int>(std::min<std::int64_t>(most, std::max<std::int64_t>(count, 1)));
}

void parallel_for(int threads, std::int64_t count, const std::function<void(std::int64_t)>& body) {
  const int workers = thread_count(threads, count);
  if (workers <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
#pragma omp parallel num_threads(workers)
  {
    for (std::int64_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::scoped_lock lock(failure_mutex);
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qkv
