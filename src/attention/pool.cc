// One call has the pool at a time. It opens as many seats as it may use helpers and calls workers; a worker that comes takes
// a seat and then one index after the other. When no index is left the caller closes the seats and waits for those who sit,
// not for those who were called and have not come: on a busy machine their turn may be milliseconds away. Whoever comes too
// late finds no seat, or one of the next call, and is welcome there.
#include "attention/pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

namespace qkv {
namespace {

// What a caller burns at most before it sleeps until the last helper is done; to be woken takes about as long.
constexpr std::chrono::microseconds kSpin{20};
// Workers that one thread wakes before it starts to work; each of them wakes as many, so that 64 are awake after 3 rounds.
constexpr int kWakes = 4;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Blocks the signals that somebody sends while it lives: a thread started then inherits this, and handlers go on running in
// the program's own threads. Signals of the thread's own doing, and a profiler's, stay.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF})
      sigdelset(&blocked, own);
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

// Never destroyed, as threads and other static objects may outlive the end of main.
class Pool {
 public:
  bool run(int threads, std::int64_t count, Task task, void* data) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    helpers_ = hire(threads - 1);
    if (helpers_ == 0) {
      busy_.store(false, std::memory_order_release);
      return false;
    }
    FirstFailure failure;
    task_ = task;
    data_ = data;
    count_ = count;
    failure_ = &failure;
    called_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    state_.store(static_cast<std::uint32_t>(helpers_) * kSeat, std::memory_order_release);
    {
      const InsideTask inside;
      call_some();
      work();
    }
    close();
    busy_.store(false, std::memory_order_release);
    failure.rethrow();
    return true;
  }

  // Ends the workers, and keeps the pool busy for good. A call that is under way keeps its workers: waiting for it here, at
  // exit, could last for ever, and a task that calls exit() would wait for itself.
  void shut() {
    if (busy_.exchange(true, std::memory_order_acquire)) return;
    stop_.store(true, std::memory_order_relaxed);
    for (const auto& worker : workers_) call(*worker);
    for (const auto& worker : workers_) worker->thread.join();
  }

  Pool* next_forgotten = nullptr;

 private:
  struct alignas(64) Worker {
    std::atomic<std::uint32_t> calls{0};
    std::thread thread;
  };

  // state_ holds how many sit (15 bits), whether the caller sleeps (1 bit), and the free seats (16 bits).
  static constexpr std::uint32_t kSitting = 0x7fff;
  static constexpr std::uint32_t kCallerSleeps = 0x8000;
  static constexpr std::uint32_t kSeat = 0x10000;

  // Has up to `wanted` workers, and says how many there are: the machine may refuse to start one.
  int hire(int wanted) {
    while (static_cast<int>(workers_.size()) < wanted) {
      try {
        workers_.push_back(std::make_unique<Worker>());
        Worker& worker = *workers_.back();
        const SignalsBlocked blocked;
        worker.thread = std::thread([this, &worker] { live(worker); });
      } catch (const std::exception&) {
        if (!workers_.empty() && !workers_.back()->thread.joinable()) workers_.pop_back();
        break;
      }
    }
    return std::min(wanted, static_cast<int>(workers_.size()));
  }

  static void call(Worker& worker) {
    worker.calls.fetch_add(1, std::memory_order_release);
    worker.calls.notify_one();
  }

  // Only from a seat, or by the caller: workers_ and helpers_ do not change then.
  void call_some() {
    for (int i = 0; i < kWakes; ++i) {
      if (called_.load(std::memory_order_relaxed) >= helpers_) return;
      if (next_.load(std::memory_order_relaxed) >= count_) return;
      const int k = called_.fetch_add(1, std::memory_order_relaxed);
      if (k >= helpers_) return;
      call(*workers_[static_cast<std::size_t>(k)]);
    }
  }

  void live(Worker& self) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "qkv");
#endif
    const InsideTask inside;  // nothing else ever happens here
    for (std::uint32_t seen = 0;;) {
      self.calls.wait(seen, std::memory_order_acquire);
      seen = self.calls.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      if (!sit()) continue;
      call_some();
      work();
      rise();
    }
  }

  bool sit() {
    std::uint32_t state = state_.load(std::memory_order_relaxed);
    while (state >= kSeat)
      if (state_.compare_exchange_weak(state, state - kSeat + 1, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return true;
    return false;
  }

  void rise() {
    const std::uint32_t before = state_.fetch_sub(1, std::memory_order_release);
    if ((before & kSitting) == 1 && (before & kCallerSleeps) != 0) state_.notify_one();
  }

  void work() {
    for (std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed); i < count_;
         i = next_.fetch_add(1, std::memory_order_relaxed)) {
      try {
        task_(data_, i);
      } catch (...) {
        failure_->keep();
      }
    }
  }

  void close() {
    if ((state_.fetch_and(kSitting, std::memory_order_acquire) & kSitting) == 0) return;
    const auto patience = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 16; ++i) {
        if (state_.load(std::memory_order_acquire) == 0) return;
        relax();
      }
    } while (std::chrono::steady_clock::now() < patience);
    std::uint32_t state = state_.fetch_or(kCallerSleeps, std::memory_order_acquire) | kCallerSleeps;
    while ((state & kSitting) != 0) {
      state_.wait(state, std::memory_order_acquire);
      state = state_.load(std::memory_order_acquire);
    }
    state_.store(0, std::memory_order_relaxed);
  }

  std::atomic<bool> busy_{false};
  std::atomic<bool> stop_{false};
  std::vector<std::unique_ptr<Worker>> workers_;  // the caller's, as long as nobody sits
  // The call that has the pool.
  Task task_ = nullptr;
  void* data_ = nullptr;
  std::int64_t count_ = 0;
  FirstFailure* failure_ = nullptr;
  int helpers_ = 0;
  std::atomic<int> called_{0};
  alignas(64) std::atomic<std::uint32_t> state_{0};
  alignas(64) std::atomic<std::int64_t> next_{0};
};

std::atomic<Pool*> the_pool{nullptr};
std::atomic<bool> ended{false};
Pool* forgotten = nullptr;  // what the parent processes had

Pool& pool() {
  Pool* found = the_pool.load(std::memory_order_acquire);
  if (found == nullptr) {
    auto made = std::make_unique<Pool>();
    if (the_pool.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel))
      found = made.release();
  }
  return *found;
}

// In a child process only the thread lives that called fork: the workers are gone, and a call that was under way in another
// thread will never end.
void forget_workers() {
  Pool* const parents = the_pool.exchange(nullptr, std::memory_order_relaxed);
  if (parents == nullptr) return;
  parents->next_forgotten = forgotten;  // still reachable, so that no leak is reported
  forgotten = parents;
}

// Lives as long as the library is loaded.
struct Lifetime {
  Lifetime() { pthread_atfork(nullptr, nullptr, forget_workers); }
  ~Lifetime() {
    ended.store(true, std::memory_order_relaxed);
    if (Pool* const found = the_pool.load(std::memory_order_acquire)) found->shut();
  }
  Lifetime(const Lifetime&) = delete;
  Lifetime& operator=(const Lifetime&) = delete;
} lifetime;

}  // namespace

bool run_in_pool(int threads, std::int64_t count, Task task, void* data) {
  if (ended.load(std::memory_order_relaxed)) return false;
  return pool().run(threads, count, task, data);
}

}  // namespace qkv
