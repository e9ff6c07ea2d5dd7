#include "openmp.h"

#include <pthread.h>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "qkv/threads.h"

namespace qkv::python {

namespace {

// GNU's entry to a parallel region, which LLVM's and Intel's runtimes have too.
using GompParallel = void (*)(void (*body)(void* data), void* data, unsigned threads,
                              unsigned flags);

GompParallel loaded_runtime() {
#if defined(__linux__)
  std::string path;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* found) {
        const char* slash = std::strrchr(info->dlpi_name, '/');
        const char* name = slash == nullptr ? info->dlpi_name : slash + 1;
        for (const char* runtime : {"libgomp", "libomp", "libiomp"})
          if (std::strncmp(name, runtime, std::strlen(runtime)) == 0) {
            *static_cast<std::string*>(found) = info->dlpi_name;
            return 1;
          }
        return 0;
      },
      &path);
  if (path.empty()) return nullptr;
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr
                            : reinterpret_cast<GompParallel>(dlsym(library, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

GompParallel parallel = nullptr;
std::atomic_flag busy = ATOMIC_FLAG_INIT;

struct Tasks {
  std::atomic<std::int64_t> next{0};
  std::int64_t count;
  void (*body)(void* data, std::int64_t index);
  void* data;

  void work() {
    for (std::int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < count;
         i = next.fetch_add(1, std::memory_order_relaxed))
      body(data, i);
  }
};

// A second caller works alone, as with qkv's own pool: the runtime would make it a team of its own.
void run(void* /*context*/, int threads, std::int64_t count,
         void (*body)(void* data, std::int64_t index), void* data) {
  Tasks tasks{{}, count, body, data};
  if (busy.test_and_set(std::memory_order_acquire)) return tasks.work();
  parallel([](void* all) { static_cast<Tasks*>(all)->work(); }, &tasks,
           static_cast<unsigned>(threads), 0);
  busy.clear(std::memory_order_release);
}

}  // namespace

bool share_openmp(bool share) {
  if (share && parallel == nullptr) {
    parallel = loaded_runtime();
    if (parallel != nullptr)
      pthread_atfork(nullptr, nullptr, [] { set_parallel_for(nullptr, nullptr); });
  }
  const bool shared = share && parallel != nullptr;
  set_parallel_for(shared ? &run : nullptr, nullptr);
  return shared;
}

}  // namespace qkv::python
