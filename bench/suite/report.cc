#include "bench/suite/report.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "qkv/isa.h"

namespace qkv::bench {
namespace {

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
std::string
text(const char* format, ...) {
  std::array<char, 256> buffer;
  va_list values;
  va_start(values, format);
  std::vsnprintf(buffer.data(), buffer.size(), format, values);
  va_end(values);
  return buffer.data();
}

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 10 << 10) return text("%lld B", static_cast<long long>(bytes));
  return bytes < 10 << 20 ? text("%lld KiB", static_cast<long long>(bytes >> 10))
                          : text("%lld MiB", static_cast<long long>(bytes >> 20));
}

std::string time_text(double seconds) {
  return seconds < 1e-3 ? text("%.1f µs", seconds * 1e6) : text("%.2f ms", seconds * 1e3);
}

// Characters, not bytes: every character here is one column wide.
std::size_t width_of(const std::string& cell) {
  return static_cast<std::size_t>(std::count_if(cell.begin(), cell.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

using Row = std::vector<std::string>;

// A Markdown table whose columns line up in a terminal too; the first column to the left, the others to the right.
std::string table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 3);
  for (const Row& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string padding(widths[c] - width_of(rows[r][c]), ' ');
      out += c == 0 ? "| " + rows[r][c] + padding : " | " + padding + rows[r][c];
    }
    out += " |\n";
    if (r > 0) continue;
    for (std::size_t c = 0; c < widths.size(); ++c)
      out += "|" + std::string(c == 0 ? "" : " ") + std::string(widths[c] + (c == 0 ? 2 : 0), '-') +
             (c == 0 ? "" : ":");
    out += "|\n";
  }
  return out;
}

std::string prefill_table(const std::vector<Result>& results, const std::vector<Peer>& peers,
                          int threads) {
  Row head = {"shape", "time", "GFLOP/s", "best", "of peak"};
  for (const Peer& peer : peers) head.insert(head.end(), {peer.name, "qkv is"});
  head.emplace_back("extra memory");
  std::vector<Row> rows = {head};
  for (const Result& r : results) {
    if (r.threads != threads || r.line.kind != Kind::prefill) continue;
    Row row = {r.line.name(), time_text(r.qkv.median), text("%.0f", r.gflops(r.qkv)),
               text("%.0f", r.best_gflops(r.qkv)),
               text("%.0f%%", 100 * r.gflops(r.qkv) / r.fma_peak)};
    for (const Peer& peer : peers) {
      const auto found = r.peers.find(peer.name);
      const bool measured = found != r.peers.end() && found->second.runs > 0;
      row.push_back(measured ? text("%.0f", r.gflops(found->second)) : "–");
      row.push_back(measured ? text("%.2f×", r.speedup(peer.name)) : "–");
    }
    row.push_back(r.extra_memory ? bytes_text(*r.extra_memory) : "–");
    rows.push_back(row);
  }
  return rows.size() > 1 ? table(rows) : "";
}

std::string decode_table(const std::vector<Result>& results, const std::vector<Peer>& peers,
                         int threads) {
  Row head = {"decode", "time", "GB/s", "of read bandwidth"};
  for (const Peer& peer : peers) head.insert(head.end(), {peer.name, "qkv is"});
  std::vector<Row> rows = {head};
  for (const Result& r : results) {
    if (r.threads != threads || r.line.kind != Kind::decode) continue;
    Row row = {r.line.name(), time_text(r.qkv.median), text("%.1f", r.gigabytes(r.qkv)),
               text("%.0f%%", 100 * r.gigabytes(r.qkv) / r.bandwidth)};
    for (const Peer& peer : peers) {
      const auto found = r.peers.find(peer.name);
      const bool measured = found != r.peers.end() && found->second.runs > 0;
      row.push_back(measured ? text("%.1f", r.gigabytes(found->second)) : "–");
      row.push_back(measured ? text("%.2f×", r.speedup(peer.name)) : "–");
    }
    rows.push_back(row);
  }
  return rows.size() > 1 ? table(rows) : "";
}

std::string trace_table(const std::vector<Result>& results, int threads) {
  std::vector<Row> rows = {
      {"trace (top 8, received, blocks of 64)", "without", "with", "more time"}};
  for (const Result& r : results) {
    if (r.threads != threads || r.line.kind != Kind::trace) continue;
    rows.push_back({r.line.name(), time_text(r.qkv.median), time_text(r.traced.median),
                    text("%.1f%%", 100 * (r.traced.median / r.qkv.median - 1))});
  }
  return rows.size() > 1 ? table(rows) : "";
}

// The reasons why a peer has no figure, once each.
std::string reasons(const std::vector<Result>& results) {
  std::set<std::string> lines;
  for (const Result& r : results)
    for (const auto& [name, timing] : r.peers)
      if (!timing.why.empty())
        lines.insert("- " + name + ", " + r.line.name() + ": " + timing.why + "\n");
  std::string out;
  for (const std::string& line : lines) out += line;
  return out;
}

nlohmann::json timing_json(const Timing& t) {
  if (!t.why.empty()) return {{"why", t.why}};
  return {{"median_s", t.median}, {"best_s", t.best}, {"runs", t.runs}};
}

std::string kind_text(Kind kind) {
  return kind == Kind::prefill ? "prefill" : kind == Kind::decode ? "decode" : "trace";
}

}  // namespace

Machine machine() {
  Machine m;
  m.isa = isa();
  m.cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  m.l1 = std::max(0L, sysconf(_SC_LEVEL1_DCACHE_SIZE));
  m.l2 = std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE));
  m.l3 = std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  const std::set<std::string> wanted = {"avx2",        "fma",         "avx512f",  "avx512_bf16",
                                        "avx512_fp16", "avx512_vnni", "amx_bf16", "amx_int8",
                                        "asimd",       "bf16",        "i8mm",     "sve"};
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line) && m.features.empty();) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (wanted.contains(word)) m.features.push_back(word);
  }
  return m;
}

std::string markdown(const Machine& machine, const std::vector<Result>& results,
                     const std::vector<Peer>& peers) {
  std::string out = "qkv " + std::string(version()) + ", fp32, " + machine.isa + ", " +
                    std::to_string(machine.cores) + " cores (L1 " + bytes_text(machine.l1) +
                    ", L2 " + bytes_text(machine.l2) + ", L3 " + bytes_text(machine.l3) + ")";
  for (const Peer& peer : peers) out += "; " + peer.name + " " + peer.version;
  out += "\nCPU:";
  for (const std::string& feature : machine.features) out += " " + feature;
  out += "\n";
  std::vector<int> counts;
  for (const Result& r : results)
    if (std::find(counts.begin(), counts.end(), r.threads) == counts.end())
      counts.push_back(r.threads);
  for (const int threads : counts) {
    std::vector<double> peaks;
    for (const Result& r : results)
      if (r.threads == threads) peaks.push_back(r.fma_peak);
    const auto [low, high] = std::minmax_element(peaks.begin(), peaks.end());
    out += text("\n%d %s; multiply-add peak %.0f to %.0f GFLOP/s\n\n", threads,
                threads == 1 ? "thread" : "threads", *low, *high);
    std::string gap;
    for (const std::string& part :
         {prefill_table(results, peers, threads), decode_table(results, peers, threads),
          trace_table(results, threads)}) {
      if (part.empty()) continue;
      out += gap + part;
      gap = "\n";
    }
  }
  if (const std::string why = reasons(results); !why.empty()) out += "\nNot measured:\n" + why;
  return out;
}

nlohmann::json json(const Machine& machine, const std::vector<Result>& results,
                    const std::vector<Peer>& peers) {
  nlohmann::json out = {{"schema", 1},
                        {"qkv", version()},
                        {"dtype", "float32"},
                        {"isa", machine.isa},
                        {"machine",
                         {{"features", machine.features},
                          {"cores", machine.cores},
                          {"l1", machine.l1},
                          {"l2", machine.l2},
                          {"l3", machine.l3}}},
                        {"peers", nlohmann::json::array()},
                        {"results", nlohmann::json::array()}};
  for (const Peer& peer : peers)
    out["peers"].push_back({{"name", peer.name}, {"version", peer.version}});
  for (const Result& r : results) {
    const Line& l = r.line;
    nlohmann::json entry = {{"shape", l.name()},
                            {"kind", kind_text(l.kind)},
                            {"threads", r.threads},
                            {"flops", l.flops()},
                            {"key_value_bytes", l.key_value_bytes()},
                            {"peak_gflops", r.fma_peak},
                            {"qkv", timing_json(r.qkv)}};
    if (l.kind == Kind::decode) entry["read_gb_per_s"] = r.bandwidth;
    if (l.kind == Kind::trace) entry["traced"] = timing_json(r.traced);
    if (r.extra_memory) entry["extra_memory_bytes"] = *r.extra_memory;
    for (const auto& [name, timing] : r.peers) entry["peers"][name] = timing_json(timing);
    out["results"].push_back(entry);
  }
  return out;
}

}  // namespace qkv::bench
