// A line on standard error that says how far a long command is: on a terminal, from the third second on, five times a second.
#pragma once

#include <chrono>
#include <string>

namespace qkv::cli {

class Progress {
 public:
  Progress() = default;
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // In place of what was shown before.
  void show(const std::string& text);
  void clear();
  double seconds() const;  // since it was made

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_;
  bool visible_ = false;
};

}  // namespace qkv::cli
