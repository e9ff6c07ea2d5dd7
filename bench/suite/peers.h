// Other engines on the same line: a Python process (peers.py, carried inside the program) that is asked over pipes.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/suite/line.h"

namespace qkv::bench {

struct Peer {
  std::string name, version;
};

class Peers {
 public:
  // Starts `python` and asks which peers it has. Throws std::runtime_error when the interpreter cannot be started.
  explicit Peers(const std::string& python);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  const std::vector<Peer>& present() const { return present_; }
  // One sentence for each peer that is missing: which, and how to install it.
  const std::vector<std::string>& missing() const { return missing_; }

  // Seconds of each run as time_runs counts them; empty, with the reason in `why`, where the peer cannot do the line.
  std::vector<double> time(const std::string& peer, const Line& line, int threads, double seconds,
                           int least, std::string& why);
  // The peers forget their tensors.
  void forget();

 private:
  nlohmann::json ask(const nlohmann::json& request);
  nlohmann::json answer();

  int process_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
  std::vector<Peer> present_;
  std::vector<std::string> missing_;
};

}  // namespace qkv::bench
