#include "bench/suite/run.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "bench/suite/peak.h"
#include "bench/suite/subject.h"
#include "qkv/isa.h"

namespace qkv::bench {
namespace {

// Idle pools of the engine before may spin for some milliseconds; they must not share the cores of the next.
void let_pools_sleep() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

// The peak now. Other work on the machine shows as a peak well below the best seen: then this waits for up to two seconds.
double settled_peak(int threads) {
  static std::map<int, double> best;  // by threads
  double peak = fma_peak(isa(), threads, 0.02);
  for (int tries = 0; tries < 20 && peak < 0.95 * best[threads]; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    peak = fma_peak(isa(), threads, 0.02);
  }
  best[threads] = std::max(best[threads], peak);
  return peak;
}

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

Timing timing_of(const std::vector<double>& times) {
  return {smallest(times), median(times), static_cast<int>(times.size()), {}};
}

// extra_memory_here in a fresh process: there nothing is left from calls before.
std::optional<std::int64_t> extra_memory(const std::string& self, const Line& line, int threads) {
  if (self.empty()) return std::nullopt;
  const std::string command =
      "'" + self + "' bench --memory-of '" + line.name() + "' --threads " + std::to_string(threads);
  std::FILE* answer = popen(command.c_str(), "r");
  if (answer == nullptr) return std::nullopt;
  long long bytes = -1;
  const bool read = std::fscanf(answer, "%lld", &bytes) == 1;
  pclose(answer);
  return read && bytes >= 0 ? std::optional<std::int64_t>(bytes) : std::nullopt;
}

Result measure(const RunOptions& options, const Line& line, int threads, Peers* peers) {
  Result result;
  result.line = line;
  result.threads = threads;
  Subject subject(line);
  const int least = 2;
  const auto plain = [&] { subject.run(threads); };
  const auto traced = [&] { subject.run_traced(threads); };
  std::vector<double> peaks, bandwidths, plain_times, traced_times;
  std::map<std::string, std::vector<double>> peer_times;
  settled_peak(threads);
  plain();  // the first run pays for the pages of scratch memory
  if (line.kind == Kind::trace) traced();
  for (int round = 0; round < options.rounds; ++round) {
    let_pools_sleep();
    peaks.push_back(settled_peak(threads));
    if (line.kind == Kind::decode)
      bandwidths.push_back(read_bandwidth(threads, bandwidth_buffer_bytes()));
    append(plain_times, time_runs(plain, options.seconds, least));
    if (line.kind == Kind::trace) append(traced_times, time_runs(traced, options.seconds, least));
    if (peers == nullptr || line.kind == Kind::trace) continue;
    for (const Peer& peer : peers->present()) {
      Timing& t = result.peers[peer.name];
      if (!t.why.empty()) continue;
      let_pools_sleep();
      append(peer_times[peer.name],
             peers->time(peer.name, line, threads, options.seconds, least, t.why));
    }
  }
  result.fma_peak = median(peaks);
  result.bandwidth = median(bandwidths);
  result.qkv = timing_of(plain_times);
  if (line.kind == Kind::trace) result.traced = timing_of(traced_times);
  for (auto& [name, timing] : result.peers)
    if (timing.why.empty()) timing = timing_of(peer_times[name]);
  if (peers != nullptr) peers->forget();
  if (line.kind != Kind::trace) result.extra_memory = extra_memory(options.self, line, threads);
  return result;
}

}  // namespace

double Result::speedup(const std::string& peer) const {
  const auto found = peers.find(peer);
  return found == peers.end() || found->second.runs == 0 ? 0 : found->second.median / qkv.median;
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
