// The results as one report: a Markdown table, which is also what the terminal shows, and JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/suite/peers.h"
#include "bench/suite/run.h"

namespace qkv::bench {

// What a figure depends on, told by features and not by a product's name.
struct Machine {
  std::string isa;
  std::vector<std::string> features;  // those of the CPU that matter to the kernels
  int cores = 0;
  std::int64_t l1 = 0, l2 = 0, l3 = 0;  // bytes; data, one core's
};
Machine machine();

std::string markdown(const Machine& machine, const std::vector<Result>& results,
                     const std::vector<Peer>& peers);
// `missing` are the sentences of Peers::missing().
nlohmann::json json(const Machine& machine, const std::vector<Result>& results,
                    const std::vector<Peer>& peers, const std::vector<std::string>& missing);

}  // namespace qkv::bench
