// parallel_for: what it promises, and what our own pool promises beyond (qkv/threads.h).
#include "attention/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "attention/cores.h"
#include "qkv/attention.h"
#include "qkv/threads.h"

#if defined(__has_feature)
#define QKV_HAS(feature) __has_feature(feature)
#else
#define QKV_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || QKV_HAS(thread_sanitizer)
#define QKV_TSAN 1
#else
#define QKV_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || QKV_HAS(address_sanitizer)
#define QKV_ASAN 1
#else
#define QKV_ASAN 0
#endif

namespace qkv {
namespace {

using namespace std::chrono_literals;

// How often each index in [0, count) was handed out.
std::vector<int> visits(int threads, std::int64_t count) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
  parallel_for(threads, count, [&](std::int64_t i) { ++seen[static_cast<std::size_t>(i)]; });
  return {seen.begin(), seen.end()};
}

bool each_once(int threads, std::int64_t count) {
  const std::vector<int> seen = visits(threads, count);
  return std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; });
}

// Waits until `threads` tasks are here at the same time: only as many threads can pass. False after ten seconds.
class Meeting {
 public:
  explicit Meeting(int threads) : threads_(threads) {}
  bool join() {
    ++here_;
    for (int i = 0; i < 10'000 && here_ < threads_; ++i) std::this_thread::sleep_for(1ms);
    return here_ >= threads_;
  }

 private:
  int threads_;
  std::atomic<int> here_{0};
};

#if defined(__linux__)
std::ptrdiff_t threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}
#endif

TEST(ParallelFor, VisitsEveryIndexOnce) {
  for (const int threads : {0, 1, 2, 3, 8})
    for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 1000, 20'000})
      EXPECT_TRUE(each_once(threads, count)) << threads << " threads, " << count << " tasks";
}

TEST(ParallelFor, ANegativeCountIsNone) {
  parallel_for(4, -3, [](std::int64_t) { FAIL(); });
}

TEST(ParallelFor, OneThreadGoesInOrderAndStaysInTheCaller) {
  const auto caller = std::this_thread::get_id();
  std::vector<std::int64_t> order;
  parallel_for(1, 100, [&](std::int64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  std::vector<std::int64_t> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(ParallelFor, HandsOutTheLowestIndexFirst) {
  // Each thread meets rising indices, and nobody starts i before every smaller one was handed out: at most `threads` of them
  // are then still unfinished.
  constexpr int kThreads = 4;
  std::atomic<std::int64_t> finished{0};
  parallel_for(kThreads, 5000, [&](std::int64_t i) {
    EXPECT_GE(finished.load(), i - kThreads + 1);
    ++finished;
  });
}

TEST(ParallelFor, AsManyThreadsAsAskedWorkTogether) {
  for (const int threads : {2, 5, 3, 12, 2, 30}) {  // the pool grows, and serves fewer again
    Meeting meeting(threads);
    std::mutex mutex;
    std::set<std::thread::id> ids;
    parallel_for(threads, threads, [&](std::int64_t) {
      EXPECT_TRUE(meeting.join()) << threads;
      const std::scoped_lock lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
    EXPECT_EQ(std::ssize(ids), threads);
    EXPECT_EQ(ids.count(std::this_thread::get_id()), 1u) << "the caller takes part";
  }
}

TEST(ParallelFor, NeverMoreThreadsThanAsked) {
  parallel_for(8, 64, [](std::int64_t) { std::this_thread::sleep_for(10us); });  // eight are awake
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> inside{0}, most{0};
    parallel_for(2, 20, [&](std::int64_t) {
      const int now = ++inside;
      int before = most;
      while (before < now && !most.compare_exchange_weak(before, now)) {
      }
      --inside;
    });
    ASSERT_LE(most, 2);
  }
}

TEST(ParallelFor, RethrowsOneExceptionAfterAllHaveEnded) {
  for (const int threads : {2, 4}) {
    std::atomic<int> ended{0};
    try {
      parallel_for(threads, 100, [&](std::int64_t i) {
        if (i % 10 == 3) {
          ++ended;
          throw std::runtime_error("task " + std::to_string(i));
        }
        std::this_thread::sleep_for(100us);
        ++ended;
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(std::string(error.what()).substr(0, 5), "task ");
    }
    EXPECT_EQ(ended, 100);
    EXPECT_TRUE(each_once(threads, 100)) << "the pool works on";
  }
}

TEST(ParallelFor, OneThreadPassesTheFirstExceptionOn) {
  int calls = 0;
  const auto fail_at_2 = [&](std::int64_t i) {
    ++calls;
    if (i == 2) throw std::logic_error("two");
  };
  EXPECT_THROW(parallel_for(1, 10, fail_at_2), std::logic_error);
  EXPECT_EQ(calls, 3);
}

TEST(ParallelFor, ACallInsideATaskStaysInItsThread) {
  std::atomic<int> inner{0};
  parallel_for(4, 16, [&](std::int64_t) {
    EXPECT_EQ(thread_count(0, 100), 1);
    EXPECT_EQ(thread_count(8, 100), 1);
    const auto outer = std::this_thread::get_id();
    parallel_for(4, 10, [&](std::int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      ++inner;
    });
  });
  EXPECT_EQ(inner, 160);
  EXPECT_EQ(thread_count(8, 100), 8) << "outside again";
}

TEST(ParallelFor, ASecondCallerWorksAlone) {
  Meeting first_is_inside(2);
  std::atomic<bool> second_done{false};
  std::thread first([&] {
    parallel_for(2, 2, [&](std::int64_t i) {
      if (i == 0) first_is_inside.join();
      for (int k = 0; k < 10'000 && !second_done; ++k) std::this_thread::sleep_for(1ms);
    });
  });
  EXPECT_TRUE(first_is_inside.join());
  const auto caller = std::this_thread::get_id();
  int calls = 0;
  parallel_for(4, 50, [&](std::int64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(calls++, i);
  });
  EXPECT_EQ(calls, 50);
  second_done = true;
  first.join();
}

TEST(ParallelFor, ManyCallersAtOnce) {
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum{0};
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&, c] {
      for (int round = 0; round < 300; ++round) {
        try {
          parallel_for(2 + (c + round) % 5, 1 + round % 13, [&](std::int64_t i) {
            sum += i + 1;
            if (round % 50 == 49 && i == 5) throw std::runtime_error("now and then");
          });
        } catch (const std::runtime_error&) {
          EXPECT_EQ(round % 50, 49);
        }
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(sum, 0);
}

TEST(ParallelFor, ManySmallCalls) {
  std::int64_t expected = 0;
  std::atomic<std::int64_t> sum{0};
  std::vector<int> plain(8);  // not atomic: what a task writes is seen after the call
  for (int round = 0; round < 5000; ++round) {
    const int count = 2 + round % 7;
    parallel_for(2 + round % 4, count, [&](std::int64_t i) {
      sum += i;
      ++plain[static_cast<std::size_t>(i)];
    });
    expected += count * (count - 1) / 2;
  }
  EXPECT_EQ(sum, expected);
  EXPECT_EQ(plain[0], 5000);
}

TEST(ParallelFor, ALateHelperIsNotWaitedFor) {
  // Two tasks that take no time: nearly every call ends before the helper it woke is there. Later calls must not suffer.
  for (int round = 0; round < 2000; ++round) {
    std::atomic<int> calls{0};
    parallel_for(3, 2, [&](std::int64_t) { ++calls; });
    ASSERT_EQ(calls, 2);
    if (round % 100 == 0) std::this_thread::sleep_for(1ms);
  }
}

// µs of all threads of this process in the 200 ms from now on, in which the caller sleeps.
long cpu_time_of_a_pause() {
  const auto cpu = [] {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto of = [](const timeval& t) { return t.tv_sec * 1'000'000L + t.tv_usec; };
    return of(used.ru_utime) + of(used.ru_stime);
  };
  const long before = cpu();
  std::this_thread::sleep_for(200ms);
  return cpu() - before;
}

TEST(ParallelFor, NoTimeIsBurntAfterACall) {
  const int threads = 4;
  Meeting meeting(threads);
  parallel_for(threads, threads, [&](std::int64_t) { meeting.join(); });
  EXPECT_LT(cpu_time_of_a_pause(), 5000) << "µs";
}

// Forward, backward and weights of 4 heads of 256 tokens, enough for several threads.
void call_everything(int threads) {
  const Shape4 shape = {1, 4, 256, 16};
  const std::vector<float> x(4 * 256 * 16, 0.5f);
  std::vector<float> out(x.size()), lse(4 * 256), d_query(x.size()), tile(4 * 256 * 256);
  AttentionOptions options;
  options.threads = threads;
  const TensorView all(x.data(), shape);
  Trace trace;
  attention(all, all, all, options, {{out.data(), shape}, lse, &trace});
  attention_backward(all, all, all, options, {{out.data(), shape}, lse}, all,
                     {{d_query.data(), shape}, {}, {}, {}, {}});
  weights(all, all, options, lse, {0, 256}, {0, 256}, {tile.data(), {1, 4, 256, 256}});
}

TEST(Threads, SleepAfterACall) {
  call_everything(4);
  EXPECT_LT(cpu_time_of_a_pause(), 5000) << "µs";
}

#if defined(__linux__)
TEST(ParallelFor, OneThreadStartsNone) {
  const auto before = threads_of_this_process();
  parallel_for(1, 1000, [](std::int64_t) {});
  parallel_for(8, 1, [](std::int64_t) {});
  parallel_for(0, 0, [](std::int64_t) {});
  call_everything(1);
  EXPECT_EQ(threads_of_this_process(), before);
}

TEST(ParallelFor, ThreadsAreKeptNotAdded) {
  parallel_for(4, 100, [](std::int64_t) {});
  const auto before = threads_of_this_process();
  for (int round = 0; round < 100; ++round) parallel_for(2 + round % 3, 10, [](std::int64_t) {});
  EXPECT_EQ(threads_of_this_process(), before);
}
#endif

TEST(ThreadCount, IsAtMostTasksAndReason) {
  EXPECT_EQ(thread_count(8, 3), 3);
  EXPECT_EQ(thread_count(8, 0), 1);
  EXPECT_EQ(thread_count(1, 1'000'000), 1);
  EXPECT_EQ(thread_count(3, std::int64_t{1} << 40), 3);
  EXPECT_EQ(thread_count(1'000'000, std::int64_t{1} << 40), std::max(available_cores(), 64));
  EXPECT_EQ(thread_count(0, 1'000'000),
            std::min(default_threads(), std::max(available_cores(), 64)));
  EXPECT_GE(available_cores(), 1);
}

// ---- fork: the child has its own threads

// Why a sanitizer's runtime forbids that, or null.
const char* no_threads_after_fork() {
  if (QKV_TSAN) return "the thread sanitizer allows no threads after fork";
  if (QKV_ASAN) return "the address sanitizer's locks are not made for threads after fork";
  return nullptr;
}

// Runs `child` in a child process, which ends with its result; −1 if it does not end within 20 seconds.
template <class Child>
int in_a_child(const Child& child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child());
  for (int i = 0; i < 20'000; ++i) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
    std::this_thread::sleep_for(1ms);
  }
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  return -1;
}

int child_works() {
  Meeting meeting(3);
  std::atomic<int> met{0};
  parallel_for(3, 3, [&](std::int64_t) { met += meeting.join() ? 1 : 0; });
  return met == 3 && each_once(4, 1000) ? 7 : 1;
}

TEST(Fork, TheChildWorks) {
  if (const char* reason = no_threads_after_fork()) GTEST_SKIP() << reason;
  EXPECT_TRUE(each_once(4, 1000));
  EXPECT_EQ(in_a_child(child_works), 7);
  EXPECT_TRUE(each_once(4, 1000)) << "and so does the parent";
}

TEST(Fork, TheChildWorksWhileAnotherThreadOfTheParentIsInACall) {
  if (const char* reason = no_threads_after_fork()) GTEST_SKIP() << reason;
  Meeting inside(3);
  std::atomic<bool> done{false};
  std::thread busy([&] {
    parallel_for(2, 2, [&](std::int64_t) {
      inside.join();
      while (!done) std::this_thread::sleep_for(1ms);
    });
  });
  EXPECT_TRUE(inside.join());
  EXPECT_EQ(in_a_child(child_works), 7);
  done = true;
  busy.join();
}

TEST(Fork, AGrandchildWorksAndAChildMayExit) {
  if (const char* reason = no_threads_after_fork()) GTEST_SKIP() << reason;
  EXPECT_TRUE(each_once(3, 100));
  EXPECT_EQ(in_a_child([] {
              if (child_works() != 7) return 1;
              return in_a_child([]() -> int {
                std::exit(child_works());  // joins its own workers, not the parents'
              });
            }),
            7);
}

// ---- the end of the process

struct WorksAtExit {
  ~WorksAtExit() {
    if (works && !each_once(4, 100)) _exit(1);
  }
  bool works = false;
} works_at_exit;

TEST(ExitDeathTest, StaticObjectsMayStillWork) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        works_at_exit.works = true;
        each_once(4, 100);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(ExitDeathTest, ATaskMayExit) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const std::int64_t at : {0, 1})
    EXPECT_EXIT(
        {
          Meeting meeting(2);
          parallel_for(2, 2, [&](std::int64_t i) {
            meeting.join();
            if (i == at) std::exit(0);
            std::this_thread::sleep_for(1h);
          });
        },
        testing::ExitedWithCode(0), "");
}

// ---- QKV_NUM_THREADS: read once, so each case asks in a process of its own

constexpr int kRefused = 3;

[[noreturn]] void ask_with(const char* value) {
  value == nullptr ? unsetenv("QKV_NUM_THREADS") : setenv("QKV_NUM_THREADS", value, 1);
  try {
    const int threads = thread_count(0, 1'000'000);
    std::fprintf(stderr, "%d threads, %s", threads,
                 threads == thread_count(0, 1'000'000) && each_once(0, 1000) ? "good" : "bad");
    _exit(0);
  } catch (const std::invalid_argument& refused) {
    std::fprintf(stderr, "%s", refused.what());
    _exit(kRefused);
  }
}

TEST(NumThreadsDeathTest, IsObeyed) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(ask_with("3"), testing::ExitedWithCode(0), "^3 threads, good");
  EXPECT_EXIT(ask_with("1"), testing::ExitedWithCode(0), "^1 threads, good");
  const std::string all = "^" + std::to_string(available_cores()) + " threads, good";
  EXPECT_EXIT(ask_with(nullptr), testing::ExitedWithCode(0), all);
  EXPECT_EXIT(ask_with(""), testing::ExitedWithCode(0), all);
}

TEST(NumThreadsDeathTest, ABadValueIsRefusedAndNamed) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const std::string bad : {"0", "-2", "two", "2x", " 2", "2.5", "99999999999"})
    EXPECT_EXIT(ask_with(bad.c_str()), testing::ExitedWithCode(kRefused),
                "QKV_NUM_THREADS: expected a positive integer, got \"" + bad + "\"");
}

// ---- the cgroup's quota

class Quota : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(root_); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  int cores() { return quota_cores((root_ / "membership").c_str(), (root_ / "mount").c_str()); }

  std::filesystem::path root_ =
      std::filesystem::path(testing::TempDir()) / ("qkv_quota_" + std::to_string(getpid()));
};

TEST_F(Quota, OfVersion2IsTheLeastOfAllParents) {
  write("membership", "0::/one/two\n");
  EXPECT_EQ(cores(), 0) << "no such folder";
  write("mount/one/two/cpu.max", "max 100000\n");
  EXPECT_EQ(cores(), 0) << "no limit";
  write("mount/one/two/cpu.max", "350000 100000\n");
  EXPECT_EQ(cores(), 4) << "3.5 cores";
  write("mount/one/cpu.max", "200000 100000\n");
  EXPECT_EQ(cores(), 2);
  write("mount/cpu.max", "50000 100000\n");
  EXPECT_EQ(cores(), 1) << "what a container sees: its own group at the root";
}

TEST_F(Quota, OfVersion1) {
  write("membership", "4:memory:/m\n3:cpu,cpuacct:/a/b\n2:cpuset:/s\n0::/\n");
  write("mount/cpu/a/b/cpu.cfs_quota_us", "-1\n");
  write("mount/cpu/a/b/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores(), 0);
  write("mount/cpu/a/b/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(cores(), 3);
}

TEST_F(Quota, NonsenseIsNoLimit) {
  EXPECT_EQ(cores(), 0) << "no file";
  for (const char* text : {"", "\n\n", "0::", "::", "nonsense", "0::nonsense\n1:cpu:"}) {
    write("membership", text);
    write("mount/cpu.max", "nonsense");
    EXPECT_EQ(cores(), 0) << text;
  }
}

// ---- an embedding program's pool

struct ForeignPool {
  int calls = 0;
  int threads = 0;
  std::int64_t count = 0;
};

// Runs the tasks on two threads of its own, the highest first.
void run_foreign(void* context, int threads, std::int64_t count,
                 void (*body)(void* data, std::int64_t index), void* data) {
  auto& pool = *static_cast<ForeignPool*>(context);
  ++pool.calls;
  pool.threads = threads;
  pool.count = count;
  const auto every_second = [&](std::int64_t last) {
    for (std::int64_t i = last; i >= 0; i -= 2) body(data, i);
  };
  std::thread first(every_second, count - 1), second(every_second, count - 2);
  first.join();
  second.join();
}

class Foreign : public testing::Test {
 protected:
  void SetUp() override { set_parallel_for(run_foreign, &pool_); }
  void TearDown() override { set_parallel_for(nullptr, nullptr); }
  ForeignPool pool_;
};

TEST_F(Foreign, RunsEveryTask) {
  EXPECT_TRUE(each_once(3, 1000));
  EXPECT_EQ(pool_.calls, 1);
  EXPECT_EQ(pool_.threads, 3);
  EXPECT_EQ(pool_.count, 1000);
}

TEST_F(Foreign, IsNotAskedForOneThread) {
  EXPECT_TRUE(each_once(1, 1000));
  EXPECT_TRUE(each_once(3, 1));
  EXPECT_EQ(pool_.calls, 0);
}

TEST_F(Foreign, IsNotAskedFromInsideATask) {
  parallel_for(2, 4, [](std::int64_t) { EXPECT_TRUE(each_once(3, 10)); });
  EXPECT_EQ(pool_.calls, 1);
}

TEST_F(Foreign, NeverSeesAnException) {
  std::atomic<int> calls{0};
  const auto fail = [&](std::int64_t i) {
    ++calls;
    if (i % 2 == 0) throw std::runtime_error("even");
  };
  EXPECT_THROW(parallel_for(2, 10, fail), std::runtime_error);
  EXPECT_EQ(calls, 10);
}

TEST_F(Foreign, NullBringsOursBack) {
  set_parallel_for(nullptr, nullptr);
  EXPECT_TRUE(each_once(3, 1000));
  EXPECT_EQ(pool_.calls, 0);
}

}  // namespace
}  // namespace qkv
