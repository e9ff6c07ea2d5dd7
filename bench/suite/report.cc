#include "bench/suite/report.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "bench/suite/reached.h"
#include "bench/suite/table.h"
#include "qkv/isa.h"

namespace qkv::bench {
namespace {

constexpr const char* kNothing = "–";

// The results of one table, and the peers that have a figure in it.
struct Part {
  std::vector<const Result*> results;
  std::vector<std::string> peers;
};

// `type` is not asked for where it is null.
Part part_of(const std::vector<Result>& results, const std::vector<Peer>& peers, int threads,
             Kind kind, const Type* type) {
  Part part;
  for (const Result& r : results) {
    if (r.threads != threads || r.line.kind != kind || (type != nullptr && r.line.type != *type))
      continue;
    const bool measured = r.ours().measured() ||
                          std::any_of(peers.begin(), peers.end(),
                                      [&](const Peer& p) { return r.peer(p.name) != nullptr; });
    if (measured) part.results.push_back(&r);
  }
  for (const Peer& p : peers)
    if (std::any_of(part.results.begin(), part.results.end(),
                    [&](const Result* r) { return r->peer(p.name) != nullptr; }))
      part.peers.push_back(p.name);
  return part;
}

std::string targets_text(const Result& result, const std::vector<Result>& all) {
  std::string out;
  for (const Check& check : checks(result, all)) out += (out.empty() ? "" : ", ") + check.text();
  return out.empty() ? kNothing : out;
}

// The columns of qkv itself, by kind.
Row our_head(Kind kind, const std::string& name) {
  switch (kind) {
    case Kind::decode:
      return {name, "time", "GB/s", "of read bandwidth"};
    case Kind::trace:
      return {name, "without", "with", "more time"};
    case Kind::call:
      return {name, "time", "best", "on one thread"};
    default:
      return {name, "time", "GFLOP/s", "best", "of peak"};
  }
}

Row our_cells(const Result& r) {
  const std::string name = r.line.name();
  if (!r.qkv.measured()) {
    Row row(our_head(r.line.kind, name).size(), kNothing);
    row.front() = name;
    return row;
  }
  switch (r.line.kind) {
    case Kind::decode:
      return {name, time_text(r.qkv.median), text("%.1f", r.gigabytes(r.qkv)),
              text("%.0f%%", 100 * r.gigabytes(r.qkv) / r.bandwidth)};
    case Kind::trace:
      return {name, time_text(r.qkv.median), time_text(r.traced.median),
              text("%.1f%%", 100 * (r.traced.median / r.qkv.median - 1))};
    case Kind::call:
      return {name, time_text(r.qkv.median), time_text(r.qkv.best),
              r.alone.measured() ? time_text(r.alone.median) : kNothing};
    default:
      return {name, time_text(r.qkv.median), text("%.0f", r.gflops(r.qkv)),
              text("%.0f", r.best_gflops(r.qkv)), text("%.0f%%", 100 * r.gflops(r.qkv) / r.peak)};
  }
}

// A peer's figure, in the unit of the table.
std::string peer_cell(const Result& r, const Timing& t) {
  if (r.line.kind == Kind::trace || r.line.kind == Kind::call) return time_text(t.median);
  return r.line.kind == Kind::decode ? text("%.1f", r.gigabytes(t)) : text("%.0f", r.gflops(t));
}

std::string part_table(const std::vector<Result>& all, const Part& part, Kind kind,
                       const std::string& name) {
  Row head = our_head(kind, name);
  for (const std::string& peer : part.peers)
    head.insert(head.end(), {kind == Kind::trace ? peer + " eager" : peer, "qkv is"});
  head.insert(head.end(), {"extra memory", "target"});
  std::vector<Row> rows = {head};
  for (const Result* r : part.results) {
    Row row = our_cells(*r);
    for (const std::string& peer : part.peers) {
      const Timing* theirs = r->peer(peer);
      const std::optional<double> times = r->speedup(peer);
      row.push_back(theirs != nullptr ? peer_cell(*r, *theirs) : kNothing);
      row.push_back(times ? text("%.2f×", *times) : kNothing);
    }
    row.push_back(r->extra_memory ? bytes_text(*r->extra_memory) : kNothing);
    row.push_back(targets_text(*r, all));
    rows.push_back(row);
  }
  return table(rows);
}

// Every table of one thread count: prefill by type, then decode, backward, trace and short calls.
std::vector<std::string> tables(const std::vector<Result>& results, const std::vector<Peer>& peers,
                                int threads) {
  std::vector<std::string> out;
  const auto add = [&](Kind kind, const Type* type, const std::string& name) {
    const std::string now =
        part_table(results, part_of(results, peers, threads, kind, type), kind, name);
    if (!now.empty()) out.push_back(now);
  };
  for (const Type type : {Type::f32, Type::bf16, Type::f16, Type::i8})
    add(Kind::prefill, &type, "prefill " + std::string(name_of(type)));
  add(Kind::decode, nullptr, "decode");
  add(Kind::backward, nullptr, "backward");
  add(Kind::trace, nullptr, "trace (top 8, received, blocks of 64)");
  add(Kind::call, nullptr, "short calls");
  return out;
}

// "multiply-add peak 448 to 464 GFLOP/s, bf16 dot-product peak 890 to 910 GFLOP/s"
std::string peaks_text(const std::vector<Result>& results, int threads) {
  std::map<Type, std::vector<double>> peaks;
  bool bf16_by_fp32 = false;
  for (const Result& r : results) {
    if (r.threads != threads) continue;
    peaks[r.peak_type].push_back(r.peak);
    bf16_by_fp32 |= r.line.type == Type::bf16 && r.peak_type != Type::bf16;
  }
  std::string out;
  for (const auto& [type, values] : peaks) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    out += text("%s%s peak %.0f to %.0f GFLOP/s", out.empty() ? "" : ", ",
                type == Type::bf16 ? "bf16 dot-product" : "multiply-add", *low, *high);
  }
  if (bf16_by_fp32)
    out += "; no bf16 dot products here, so the peak of the bf16 lines is that of fp32";
  return out;
}

// The reasons why something has no figure: engine and reason, with the lines.
std::string reasons(const std::vector<Result>& results) {
  std::map<std::string, std::vector<std::string>> lines;
  const auto add = [&](const std::string& name, const Timing& t, const Line& line) {
    if (t.why.empty()) return;
    std::vector<std::string>& of = lines[name + ", " + t.why];
    if (std::find(of.begin(), of.end(), line.name()) == of.end()) of.push_back(line.name());
  };
  for (const Result& r : results) {
    add("qkv", r.qkv, r.line);
    for (const auto& [name, timing] : r.peers) add(name, timing, r.line);
  }
  std::string out;
  for (const auto& [reason, of] : lines) {
    constexpr std::size_t kShown = 4;
    out += "- " + reason + ": " + of.front();
    for (std::size_t i = 1; i < std::min(of.size(), kShown); ++i) out += "; " + of[i];
    if (of.size() > kShown) out += text("; and %zu more", of.size() - kShown);
    out += "\n";
  }
  return out;
}

std::string summary(const std::vector<Result>& results) {
  int ok = 0, known = 0, unknown = 0;
  for (const Result& r : results)
    for (const Check& check : checks(r, results)) {
      ok += check.ok();
      ++(check.reached ? known : unknown);
    }
  if (known + unknown == 0) return "";
  return text("\nTargets: %d of %d reached", ok, known) +
         (unknown > 0 ? text(", %d unknown\n", unknown) : "\n");
}

nlohmann::json timing_json(const Timing& t) {
  if (!t.why.empty()) {
    nlohmann::json out = {{"why", t.why}};
    if (t.difference) out["difference"] = *t.difference;
    return out;
  }
  nlohmann::json out = {{"median_s", t.median}, {"best_s", t.best}, {"runs", t.runs}};
  if (t.difference) out["difference"] = *t.difference;
  return out;
}

nlohmann::json result_json(const Result& r, const std::vector<Result>& all) {
  const Line& l = r.line;
  nlohmann::json entry = {{"shape", l.name()},         {"kind", name_of(l.kind)},
                          {"type", name_of(l.type)},   {"threads", r.threads},
                          {"flops", l.flops()},        {"key_value_bytes", l.key_value_bytes()},
                          {"peak_gflops", r.peak},     {"peak_type", name_of(r.peak_type)},
                          {"qkv", timing_json(r.qkv)}, {"targets", nlohmann::json::array()}};
  if (l.kind == Kind::decode) entry["read_gb_per_s"] = r.bandwidth;
  if (l.kind == Kind::trace && r.traced.measured()) entry["traced"] = timing_json(r.traced);
  if (r.alone.measured()) entry["one_thread"] = timing_json(r.alone);
  if (r.extra_memory) entry["extra_memory_bytes"] = *r.extra_memory;
  for (const auto& [name, timing] : r.peers) entry["peers"][name] = timing_json(timing);
  for (const Check& check : checks(r, all)) {
    const nlohmann::json reached =
        check.reached ? nlohmann::json(*check.reached) : nlohmann::json(nullptr);
    entry["targets"].push_back({{"of", check.of},
                                {"unit", check.unit},
                                {"at_most", check.at_most},
                                {"needed", check.needed},
                                {"reached", reached},
                                {"ok", check.ok()}});
  }
  return entry;
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
  std::string out = "qkv " + std::string(version()) + ", " + machine.isa + ", " +
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
    out += "\n" + std::to_string(threads) + (threads == 1 ? " thread; " : " threads; ") +
           peaks_text(results, threads) + "\n";
    for (const std::string& now : tables(results, peers, threads)) out += "\n" + now;
  }
  if (const std::string why = reasons(results); !why.empty()) out += "\nNot measured:\n" + why;
  return out + summary(results);
}

nlohmann::json json(const Machine& machine, const std::vector<Result>& results,
                    const std::vector<Peer>& peers, const std::vector<std::string>& missing) {
  nlohmann::json out = {{"schema", 2},
                        {"qkv", version()},
                        {"isa", machine.isa},
                        {"machine",
                         {{"features", machine.features},
                          {"cores", machine.cores},
                          {"l1", machine.l1},
                          {"l2", machine.l2},
                          {"l3", machine.l3}}},
                        {"peers", nlohmann::json::array()},
                        {"missing", missing},
                        {"results", nlohmann::json::array()}};
  for (const Peer& peer : peers)
    out["peers"].push_back({{"name", peer.name}, {"version", peer.version}});
  for (const Result& r : results) out["results"].push_back(result_json(r, results));
  return out;
}

}  // namespace qkv::bench
