// Random numbers that are the same on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <iterator>

namespace qkv::tests {

// splitmix64 (Steele, Lea, Flood 2014)
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  float uniform(float low, float high) {
    return low + (high - low) * (static_cast<float>(bits() >> 40) * 0x1p-24f);
  }
  // Mean 0, variance 1 (Box and Muller).
  float normal() {
    const float radius = std::sqrt(-2 * std::log(uniform(0x1p-24f, 1)));
    return radius * std::cos(uniform(0, 6.2831853f));
  }
  int below(int n) { return static_cast<int>(bits() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool chance(double p) { return static_cast<double>(bits() >> 11) * 0x1p-53 < p; }
  template <class T, std::size_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(static_cast<int>(N))];
  }

 private:
  std::uint64_t state_;
};

}  // namespace qkv::tests
