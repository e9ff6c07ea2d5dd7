#include "attention/cores.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "qkv/threads.h"

namespace qkv {
namespace {

constexpr int kMostThreads = 1 << 14;  // no machine has more cores; the pool counts in 15 bits

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// The start of a small file; empty if there is none.
std::string read_start(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return {};
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  return text;
}

// Quota and period, in microseconds, as cores; 0 where there is no quota ("max", −1).
int cores_of(const std::string& quota, const std::string& period) {
  const long long q = std::atoll(quota.c_str());
  const long long p = std::atoll(period.c_str());
  if (q <= 0 || p <= 0) return 0;
  return static_cast<int>(std::min<long long>((q + p - 1) / p, kMostThreads));
}

// Version 2 writes "quota period" to one file, version 1 a file for each.
int quota_in(const std::string& folder, bool version2) {
  if (!version2)
    return cores_of(read_start(folder + "/cpu.cfs_quota_us"),
                    read_start(folder + "/cpu.cfs_period_us"));
  const std::string both = read_start(folder + "/cpu.max");
  const std::size_t blank = both.find(' ');
  return blank == std::string::npos ? 0 : cores_of(both, both.substr(blank + 1));
}

int cores_of_affinity() {
#if defined(__linux__)
  for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 4) {  // EINVAL: the kernel knows more CPUs
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(cpus));
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
    const bool read = sched_getaffinity(0, bytes, set) == 0;
    const bool too_small = !read && errno == EINVAL;
    const int count = read ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
    if (!too_small) break;
  }
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

int read_default() {
  const char* asked = std::getenv("QKV_NUM_THREADS");
  if (asked == nullptr || *asked == '\0') return available_cores();
  const std::string_view text(asked);
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error != std::errc() || end != text.data() + text.size() || threads <= 0)
    throw std::invalid_argument("QKV_NUM_THREADS: expected a positive integer, got \"" +
                                std::string(text) + "\"");
  return threads;
}

}  // namespace

int quota_cores(const char* membership, const char* mount) {
  const std::string text = read_start(membership);
  int least = 0;
  // Lines "number:controllers:folder"; version 2 has the number 0 and no controllers.
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool version2 = line.starts_with("0::");
    if (!version2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string root = std::string(mount) + (version2 ? "" : "/cpu");
    // A quota of a parent holds too. In a container the folder may be named as the host sees it: what is missing is skipped.
    std::string folder = line.substr(second + 1);
    for (;;) {
      if (folder == "/") folder.clear();
      const int cores = quota_in(root + folder, version2);
      if (cores > 0) least = least > 0 ? std::min(least, cores) : cores;
      if (folder.empty()) break;
      folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
    }
  }
  return least;
}

int available_cores() {
  static const int cores = [] {
    const int allowed = std::clamp(cores_of_affinity(), 1, kMostThreads);
    const int quota = quota_cores("/proc/self/cgroup", "/sys/fs/cgroup");
    return quota > 0 ? std::min(allowed, quota) : allowed;
  }();
  return cores;
}

int default_threads() {
  static const int threads = read_default();  // one that throws is read again by the next call
  return threads;
}

}  // namespace qkv
