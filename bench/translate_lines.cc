// Times the translation of lines, as `qkv translate` does it: bench/translate_peers.py runs it beside other engines.
//   translate_lines FOLDER --beams N [--batch N | --one-by-one] [--alignment] [--threads N] < lines
// prints {"seconds": …, "tokens": …, "texts": […]}.
#include <chrono>
#include <cstddef>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/translator.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: translate_lines FOLDER [options] < lines\n";
    return 2;
  }
  qkv::models::TranslateOptions options;
  bool one_by_one = false;
  int repeats = 1;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::stoi(argv[++i]) : 0; };
    if (word == "--beams")
      options.beams = number();
    else if (word == "--batch")
      options.batch = number();
    else if (word == "--threads")
      options.threads = number();
    else if (word == "--repeats")
      repeats = number();
    else if (word == "--alignment")
      options.alignment = true;
    else if (word == "--one-by-one")
      one_by_one = true;
  }
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(line);
  const auto translator = qkv::models::Translator::load(argv[1]);
  if (!lines.empty()) translator.translate(lines[0], options);  // wakes the threads

  nlohmann::json report;
  double best = 1e30;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<qkv::models::Translation> results;
    if (one_by_one) {
      for (const std::string& line : lines) results.push_back(translator.translate(line, options));
    } else {
      results = translator.translate(lines, options);
    }
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::size_t tokens = 0;
    report["texts"] = nlohmann::json::array();
    for (const auto& result : results) {
      tokens += result.target.size();
      report["texts"].push_back(result.text);
    }
    report["tokens"] = tokens;
  }
  report["seconds"] = best;
  std::cout << report.dump() << "\n";
}
