// What people say about attention, computed by the engine: each claim with its numbers, whether they bear it out or not.
#pragma once

#include <string>
#include <vector>

namespace qkv::lens {

struct Claim {
  std::string id{};         // "variance"
  std::string statement{};  // one or two sentences
  bool holds = false;       // by the numbers below
  bool expected =
      true;  // what mathematics says; a run in which holds differs from it has found a bug
  std::string method{};  // how the numbers came about
  std::vector<std::string> columns{};
  std::vector<std::vector<double>> rows{};
};

// Every claim, in about two seconds and 200 MB. Seeded: the numbers are the same in every run, but for time and memory.
std::vector<Claim> check_claims();

}  // namespace qkv::lens
