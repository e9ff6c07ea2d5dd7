#include "bench/suite/run.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "bench/suite/peak.h"
#include "bench/suite/subject.h"
#include "qkv/isa.h"

namespace qkv::bench {
namespace {

// Idle pools of the engine before may spin for some milliseconds; they must not share the cores of the next.
void let_pools_sleep() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

// The peak now. Other work on the machine shows as a peak well below the best seen: then this waits for up to two seconds.
double settled_peak(Type type, int threads) {
  static std::map<std::pair<Type, int>, double> bests;
  double& best = bests[{type, threads}];
  double now = peak(type, isa(), threads, 0.02);
  for (int tries = 0; tries < 20 && now < 0.95 * best; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    now = peak(type, isa(), threads, 0.02);
  }
  best = std::max(best, now);
  return now;
}

// A folder that ends with its object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "qkv-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      throw std::runtime_error("bench: cannot make a folder " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

Timing timing_of(const std::vector<double>& times) {
  return {smallest(times), median(times), static_cast<int>(times.size()), {}, {}};
}

// extra_memory_here in a fresh process: there nothing is left from calls before.
std::optional<std::int64_t> extra_memory(const std::string& self, const Line& line, int threads) {
  if (self.empty()) return std::nullopt;
  const std::string command = "'" + self + "' bench --memory-of '" + line.name() + "' --threads " +
                              std::to_string(threads) + " 2>/dev/null";
  std::FILE* answer = popen(command.c_str(), "r");
  if (answer == nullptr) return std::nullopt;
  long long bytes = -1;
  const bool read = std::fscanf(answer, "%lld", &bytes) == 1;
  pclose(answer);
  return read && bytes >= 0 ? std::optional<std::int64_t>(bytes) : std::nullopt;
}

// One peer's turn; what it cannot do, or does differently, ends its part of the line.
void turn_of(const Peer& peer, Peers& peers, const RunOptions& options, Result& result,
             const std::filesystem::path& folder, std::vector<double>& times) {
  Timing& t = result.peers[peer.name];
  if (!t.why.empty()) return;
  let_pools_sleep();
  const PeerTimes now =
      peers.time(peer.name, result.line, result.threads, options.seconds, 2, folder);
  t.why = now.why;
  if (now.difference) t.difference = now.difference;
  append(times, now.times);
}

Result measure(const RunOptions& options, const Line& line, int threads, Peers* peers) {
  constexpr int kLeast = 2;
  Result result;
  result.line = line;
  result.threads = threads;
  result.peak_type = line.type == Type::bf16 && has_bf16_dot(isa()) ? Type::bf16 : Type::f32;
  Subject subject(line);
  const auto plain = [&] { subject.run(threads); };
  const auto alone = [&] { subject.run(1); };
  const bool is_alone = threads == 1 || line.kind != Kind::call;
  const auto traced = [&] { subject.run_traced(threads); };
  std::vector<double> peaks, bandwidths, plain_times, alone_times, traced_times;
  std::map<std::string, std::vector<double>> peer_times;
  std::unique_ptr<TemporaryFolder> folder;
  settled_peak(result.peak_type, threads);
  subject.prepare(threads);
  plain();  // the first run pays for the pages of scratch memory
  if (line.kind == Kind::trace) traced();
  if (peers != nullptr) {
    folder = std::make_unique<TemporaryFolder>();
    subject.write_inputs(folder->path());
    subject.write_outputs(folder->path());
  }
  for (int round = 0; round < options.rounds; ++round) {
    let_pools_sleep();
    peaks.push_back(settled_peak(result.peak_type, threads));
    if (line.kind == Kind::decode)
      bandwidths.push_back(read_bandwidth(threads, bandwidth_buffer_bytes()));
    append(plain_times, time_runs(plain, options.seconds, kLeast));
    if (!is_alone) append(alone_times, time_runs(alone, options.seconds, kLeast));
    if (line.kind == Kind::trace) append(traced_times, time_runs(traced, options.seconds, kLeast));
    if (peers == nullptr) continue;
    for (const Peer& peer : peers->present())
      turn_of(peer, *peers, options, result, folder->path(), peer_times[peer.name]);
  }
  result.peak = median(peaks);
  result.bandwidth = median(bandwidths);
  result.qkv = timing_of(plain_times);
  if (!is_alone) result.alone = timing_of(alone_times);
  if (line.kind == Kind::trace) result.traced = timing_of(traced_times);
  result.extra_memory = extra_memory(options.self, line, threads);
  for (auto& [name, timing] : result.peers) {
    if (!timing.why.empty()) continue;
    const std::optional<double> difference = timing.difference;
    timing = timing_of(peer_times[name]);
    timing.difference = difference;
  }
  if (peers != nullptr) peers->forget();
  return result;
}

}  // namespace

const Timing* Result::peer(const std::string& name) const {
  const auto found = peers.find(name);
  return found != peers.end() && found->second.measured() ? &found->second : nullptr;
}

std::optional<double> Result::speedup(const std::string& name) const {
  const Timing* theirs = peer(name);
  if (theirs == nullptr || !ours().measured()) return std::nullopt;
  return theirs->median / ours().median;
}

std::vector<Result> run(const RunOptions& options, Peers* peers) {
  std::vector<Result> results;
  const std::size_t total = options.lines.size() * options.threads.size();
  for (const int threads : options.threads) {
    for (const Line& line : options.lines) {
      if (options.progress)
        options.progress(std::to_string(results.size() + 1) + "/" + std::to_string(total) + "  " +
                         line.name() + "  " + std::to_string(threads) +
                         (threads == 1 ? " thread" : " threads"));
      results.push_back(measure(options, line, threads, peers));
    }
  }
  return results;
}

}  // namespace qkv::bench
