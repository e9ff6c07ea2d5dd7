// What the *_probe.cc programs share: Python tests write them requests, one JSON object a line, and read one line for each.
#pragma once

#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

namespace qkv::testing {

// Answers each line of standard input with answer(request), or with {"error": "…"} where that throws.
template <class Answer>
void answer_requests(const Answer& answer) {
  for (std::string line; std::getline(std::cin, line);) {
    nlohmann::json reply;
    try {
      reply = answer(nlohmann::json::parse(line));
    } catch (const std::exception& error) {
      reply = {{"error", error.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}

}  // namespace qkv::testing
