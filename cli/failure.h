// How a command ends when it cannot do what was asked. docs/exit-codes.md lists the codes.
#pragma once

#include <stdexcept>
#include <string>

namespace qkv::cli {

enum class Exit : int {
  ok = 0,
  failure = 1,  // reading, writing, memory: anything that is nobody's input
  usage = 2,    // options and arguments
  input = 3,    // the text, or a word that is not in it
  model = 4,    // the model's folder: missing or damaged
  closed = 5,   // whoever reads the output went away
};

// Thrown by commands, caught by main, which prints "qkv: " and the message on standard error.
class Failure : public std::runtime_error {
 public:
  Failure(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

}  // namespace qkv::cli
