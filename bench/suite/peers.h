// Other engines on the same line: a Python process (peers.py, carried inside the program) that is asked over pipes.
#pragma once

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/suite/line.h"

namespace qkv::bench {

struct Peer {
  std::string name, version;
};

struct PeerTimes {
  std::vector<double> times;  // seconds of each run as time_runs counts them
  std::string why;            // the peer cannot do the line: the reason
  // Largest difference from our output over our largest number, told once per line, where we have one.
  std::optional<double> difference;
};

class Peers {
 public:
  // Starts `python` and asks which peers it has; `ggml` is the folder of libggml*.so, or empty. Throws std::runtime_error
  // when the interpreter cannot be started.
  Peers(const std::string& python, const std::string& ggml);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  const std::vector<Peer>& present() const { return present_; }
  // One sentence for each peer that is missing: which, and how to install it.
  const std::vector<std::string>& missing() const { return missing_; }

  // `folder` holds what Subject::write_inputs wrote, and write_outputs where this build does the line.
  PeerTimes time(const std::string& peer, const Line& line, int threads, double seconds, int least,
                 const std::filesystem::path& folder);
  // The peers forget their tensors.
  void forget();

 private:
  void start();
  void stop();
  nlohmann::json ask(const nlohmann::json& request);
  nlohmann::json answer();

  std::string python_, ggml_;
  int process_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
  std::vector<Peer> present_;
  std::vector<std::string> missing_;
};

}  // namespace qkv::bench
