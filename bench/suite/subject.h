// Running and timing the engine on one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "bench/suite/line.h"
#include "qkv/qkv.h"

namespace qkv::bench {

// A dense tensor as a line stores it. At a multiple of 64 bytes, where the peers' own tensors lie too.
class Stored {
 public:
  Stored() = default;
  Stored(Type type, const Shape4& shape);

  // The numbers in [−1, 1) that `seed` stands for, rounded to the type.
  void fill(std::uint64_t seed);
  TensorView view() const;
  MutableTensorView view();
  // Its bytes, as they lie.
  void write(const std::filesystem::path& file) const;
  // float32 [batch, heads, tokens, 1]: what the rows of an int8 tensor are multiplied by.
  TensorView scales() const { return {scales_.data(), {shape_[0], shape_[1], shape_[2], 1}}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::int64_t count() const { return shape_[0] * shape_[1] * shape_[2] * shape_[3]; }

  Type type_ = Type::f32;
  Shape4 shape_{};
  std::unique_ptr<std::byte, Free> bytes_;
  std::vector<float> scales_;
};

// Tensors of a line, filled with repeatable random numbers, and the call on them.
class Subject {
 public:
  explicit Subject(const Line& line);
  // What the call needs and is not measured: for backward, the forward pass.
  void prepare(int threads);
  // The call.
  void run(int threads);
  // The same call with everything a trace can record: top 8, received mass, block map of 64.
  void run_traced(int threads);
  // One file each in `folder`: query, key, value, and d_out for backward.
  void write_inputs(const std::filesystem::path& folder) const;
  // What the last run computed: out, or d_query, d_key and d_value for backward.
  void write_outputs(const std::filesystem::path& folder) const;

 private:
  AttentionOptions options(int threads) const;
  void forward(const AttentionOptions& options, const AttentionOutput& output);
  void backward(const AttentionOptions& options);

  Line line_;
  Stored query_, key_, value_, out_;
  Stored d_out_, d_query_, d_key_, d_value_;  // backward only
  std::vector<float> lse_;                    // likewise
  Trace trace_;
};

// Seconds of each of at least `least` runs, and more until `seconds` are over; one is enough where it takes seconds.
std::vector<double> time_runs(const std::function<void()>& run, double seconds, int least);

double median(std::vector<double> numbers);
double smallest(const std::vector<double>& numbers);

// Bytes by which the resident set grows at its highest while this process makes its first call of the line: what the call
// itself needs beside its tensors, thread stacks and all. −1 where the system does not tell.
std::int64_t extra_memory_here(const Line& line, int threads);

}  // namespace qkv::bench
