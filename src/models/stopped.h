#pragma once

#include <stdexcept>

namespace qkv::models {

// Work that its caller wanted ended (TranslateOptions::stop).
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace qkv::models
