#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "attention/parallel.h"
#include "bench/suite/line.h"
#include "bench/suite/lines.h"
#include "bench/suite/peers.h"
#include "bench/suite/report.h"
#include "bench/suite/run.h"
#include "bench/suite/subject.h"
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "qkv/isa.h"

namespace qkv::cli {
namespace {

struct BenchOptions {
  std::vector<int> threads;
  std::string shapes, json_file, python = "python3", ggml, memory_of;
  bool peers = false, quick = false, all = false, isa = false;
  int rounds = 7;
};

// A wrong shape is the user's own, or one the bench asks about itself.
template <class Ask>
auto asked(const Ask& ask) {
  try {
    return ask();
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::usage, std::string("bench: ") + error.what());
  }
}

void print_isa() {
  std::string text = "in use: " + std::string(isa()) + "\nsupported:";
  for (const std::string_view name : supported_isas()) text += " " + std::string(name);
  write_output(text + "\nforce one with QKV_ISA=name\n");
}

void run_bench(const BenchOptions& options) {
  if (options.isa) return print_isa();
  if (!options.memory_of.empty()) {  // asked by the bench itself, in a fresh process
    const int threads = options.threads.empty() ? 1 : options.threads.front();
    const bench::Line line = asked([&] { return bench::parse_line(options.memory_of); });
    return write_output(std::to_string(bench::extra_memory_here(line, threads)) + "\n");
  }
  const int cores = thread_count(0, std::numeric_limits<int>::max());
  bench::RunOptions run;
  run.lines = asked(
      [&] { return bench::matching(bench::lines(options.all, options.quick), options.shapes); });
  run.threads = options.threads;
  if (run.threads.empty()) run.threads = {1, cores};
  if (run.threads.size() == 2 && run.threads[0] == run.threads[1]) run.threads.pop_back();
  run.rounds = options.quick ? std::min(options.rounds, 3) : options.rounds;
  std::error_code unknown;  // then memory is not measured
  run.self = std::filesystem::read_symlink("/proc/self/exe", unknown).string();
  run.progress = [](const std::string& now) { std::cerr << now << "\n"; };

  std::ofstream file;
  if (!options.json_file.empty()) {
    file.open(options.json_file);
    if (!file) throw Failure(Exit::failure, "bench --json: cannot write " + options.json_file);
  }
  std::unique_ptr<bench::Peers> peers;
  std::vector<bench::Peer> present;
  std::vector<std::string> missing;
  if (options.peers) {
    peers = std::make_unique<bench::Peers>(options.python, options.ggml);
    present = peers->present();
    missing = peers->missing();
    for (const std::string& sentence : missing) std::cerr << sentence << "\n";
  }
  const bench::Machine machine = bench::machine();
  const std::vector<bench::Result> results = bench::run(run, peers.get());
  write_output(bench::markdown(machine, results, present));
  if (file.is_open()) {
    file << bench::json(machine, results, present, missing).dump(1) << "\n";
    if (!file.flush())
      throw Failure(Exit::failure, "bench --json: cannot write " + options.json_file);
  }
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "How fast attention is here, beside the machine's peak and other engines");
  command
      ->add_option("--threads", options->threads,
                   "Thread counts, e.g. 1,2 (default: 1 and every core)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  command->add_option(
      "--shapes", options->shapes,
      "Only lines whose name contains this (several: a;b), or shapes of your own: "
      "batch,heads_q,heads_kv,queries,keys,dim[:dim_v][ causal][ fp32|bf16|fp16|int8]"
      "[ prefill|decode|backward|trace|call]");
  command->add_flag("--quick", options->quick, "Three lines, a few seconds");
  command->add_flag("--all", options->all,
                    "Also bf16, decode, backward, the trace's cost and short calls");
  command->add_flag("--peers", options->peers,
                    "Beside PyTorch, ONNX Runtime, OpenVINO and ggml, by turns in the same minute");
  command->add_option("--python", options->python, "The interpreter that has the peers")
      ->capture_default_str();
  command->add_option("--ggml", options->ggml,
                      "The folder of ggml's libraries (libggml-base.so, libggml-cpu.so)");
  command->add_option("--rounds", options->rounds, "Turns per line")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", options->json_file, "Write every figure to this file");
  command->add_flag("--isa", options->isa, "Print the instruction sets and stop");
  command->add_option("--memory-of", options->memory_of)->group("");
  command->callback([options] { run_bench(*options); });
}

}  // namespace qkv::cli
