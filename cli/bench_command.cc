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
  std::string shapes, json_file, python = "python3", memory_of;
  bool peers = false, quick = false, all = false, isa = false;
  int rounds = 7;
};

// Of the user's own, or one the bench asks about itself.
bench::Line parsed(const std::string& shape) {
  try {
    return bench::parse_line(shape);
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
    return write_output(
        std::to_string(bench::extra_memory_here(parsed(options.memory_of), threads)) + "\n");
  }
  const int cores = thread_count(0, std::numeric_limits<int>::max());
  bench::RunOptions run;
  run.lines = bench::matching(bench::lines(options.all, options.quick), options.shapes);
  if (run.lines.empty()) run.lines = {parsed(options.shapes)};
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
  if (options.peers) {
    peers = std::make_unique<bench::Peers>(options.python);
    present = peers->present();
    for (const std::string& missing : peers->missing()) std::cerr << missing << "\n";
  }
  const bench::Machine machine = bench::machine();
  const std::vector<bench::Result> results = bench::run(run, peers.get());
  write_output(bench::markdown(machine, results, present));
  if (file.is_open()) {
    file << bench::json(machine, results, present).dump(1) << "\n";
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
      "Only lines whose name contains this (several: a;b), or one shape of your own: "
      "batch,heads_q,heads_kv,queries,keys,dim[:dim_v][ causal]");
  command->add_flag("--quick", options->quick, "Three lines, a few seconds");
  command->add_flag("--all", options->all, "Also decode and the trace's cost");
  command->add_flag("--peers", options->peers,
                    "Beside PyTorch and ONNX Runtime, run by turns in the same minute");
  command->add_option("--python", options->python, "The interpreter that has the peers")
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "Turns per line")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", options->json_file, "Write every figure to this file");
  command->add_flag("--isa", options->isa, "Print the instruction sets and stop");
  command->add_option("--memory-of", options->memory_of)->group("");
  command->callback([options] { run_bench(*options); });
}

}  // namespace qkv::cli
