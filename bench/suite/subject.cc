#include "bench/suite/subject.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace qkv::bench {
namespace {

// ---- The engine's types and calls: the one place that a new one is entered

DType engine_type(Type type) {
  switch (type) {
    case Type::bf16:
      return DType::bf16;
    case Type::f16:
      return DType::f16;
    case Type::i8:
      return DType::i8;
    default:
      return DType::f32;
  }
}

void set_scales(AttentionOptions& options, const Stored& key, const Stored& value) {
  options.k_scale = key.scales();
  options.v_scale = value.scales();
}

}  // namespace

void Subject::backward(const AttentionOptions& options) {
  AttentionGradients gradients;
  gradients.d_query = d_query_.view();
  gradients.d_key = d_key_.view();
  gradients.d_value = d_value_.view();
  attention_backward(std::as_const(query_).view(), std::as_const(key_).view(),
                     std::as_const(value_).view(), options, {std::as_const(out_).view(), lse_},
                     std::as_const(d_out_).view(), gradients);
}

// ---- Numbers

namespace {

// Uniform in [−1, 1): a multiplicative congruence is random enough for timing, and quick on a billion numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2654435769u + 1) {}
  float operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-31f;
  }

 private:
  std::uint64_t state_;
};

// To the nearest, ties to even. Good for finite numbers that are not close to the largest.
std::uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}

// For |x| ≤ 1: 2^24·x is a whole number of the smallest steps that such an fp16 has.
std::uint16_t f16_bits(float x) {
  const std::uint32_t sign = std::signbit(x) ? 0x8000u : 0u;
  const float size = std::fabs(x);
  if (size < 0x1p-14f)
    return static_cast<std::uint16_t>(sign |
                                      static_cast<std::uint32_t>(std::nearbyint(size * 0x1p24f)));
  const auto bits = std::bit_cast<std::uint32_t>(size);
  const std::uint32_t rounded = bits + 0xFFFu + ((bits >> 13) & 1);  // 13 fewer bits
  return static_cast<std::uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

// The scale of a row, 1/127 of its largest size, and the row in multiples of it.
float quantise(const std::vector<float>& row, std::int8_t* to) {
  float largest = 0;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  const float scale = largest > 0 ? largest / 127 : 1;
  for (std::size_t i = 0; i < row.size(); ++i)
    to[i] = static_cast<std::int8_t>(std::lrintf(row[i] / scale));
  return scale;
}

}  // namespace

Stored::Stored(Type type, const Shape4& shape) : type_(type), shape_(shape) {
  constexpr std::size_t kLine = 64;
  const auto size = static_cast<std::size_t>(count() * size_of(type));
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(kLine, (size + kLine) / kLine * kLine)));
  if (!bytes_) throw std::bad_alloc();
  std::memset(bytes_.get(), 0, size);  // its pages are there before anything is measured
}

void Stored::fill(std::uint64_t seed) {
  Random random(seed);
  const auto all = static_cast<std::size_t>(count());
  if (type_ == Type::f32) {
    auto* to = reinterpret_cast<float*>(bytes_.get());
    for (std::size_t i = 0; i < all; ++i) to[i] = random();
  } else if (type_ != Type::i8) {
    auto* to = reinterpret_cast<std::uint16_t*>(bytes_.get());
    for (std::size_t i = 0; i < all; ++i)
      to[i] = type_ == Type::bf16 ? bf16_bits(random()) : f16_bits(random());
  } else {
    std::vector<float> row(static_cast<std::size_t>(shape_[3]));
    scales_.clear();
    for (auto* to = reinterpret_cast<std::int8_t*>(bytes_.get()); scales_.size() < all / row.size();
         to += row.size()) {
      for (float& x : row) x = random();
      scales_.push_back(quantise(row, to));
    }
  }
}

TensorView Stored::view() const {
  return {static_cast<const void*>(bytes_.get()), engine_type(type_), shape_,
          dense_strides(shape_)};
}
MutableTensorView Stored::view() {
  return {static_cast<void*>(bytes_.get()), engine_type(type_), shape_, dense_strides(shape_)};
}

void Stored::write(const std::filesystem::path& file) const {
  std::ofstream stream(file, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(bytes_.get()), count() * size_of(type_));
  if (!scales_.empty()) {
    std::ofstream scales(file.string() + "_scale", std::ios::binary);
    scales.write(reinterpret_cast<const char*>(scales_.data()),
                 static_cast<std::streamsize>(scales_.size() * sizeof(float)));
  }
  if (!stream) throw std::runtime_error("bench: cannot write " + file.string());
}

// ---- The line

Subject::Subject(const Line& line) : line_(line) {
  const Type outside = line.type == Type::i8 ? Type::f32 : line.type;
  query_ = Stored(outside, {line.batch, line.heads, line.queries, line.dim});
  key_ = Stored(line.type, {line.batch, line.heads_kv, line.keys, line.dim});
  value_ = Stored(line.type, {line.batch, line.heads_kv, line.keys, line.dim_v});
  out_ = Stored(outside, {line.batch, line.heads, line.queries, line.dim_v});
  query_.fill(1);
  key_.fill(2);
  value_.fill(3);
  if (line.kind != Kind::backward) return;
  d_out_ = Stored(outside, {line.batch, line.heads, line.queries, line.dim_v});
  d_out_.fill(4);
  d_query_ = Stored(outside, {line.batch, line.heads, line.queries, line.dim});
  d_key_ = Stored(outside, {line.batch, line.heads_kv, line.keys, line.dim});
  d_value_ = Stored(outside, {line.batch, line.heads_kv, line.keys, line.dim_v});
  lse_.resize(static_cast<std::size_t>(line.batch * line.heads * line.queries));
}

AttentionOptions Subject::options(int threads) const {
  AttentionOptions options;
  options.threads = threads;
  if (line_.causal) options.causal = Causal::bottom_right;
  if (line_.type == Type::i8) set_scales(options, key_, value_);
  return options;
}

void Subject::forward(const AttentionOptions& options, const AttentionOutput& output) {
  attention(std::as_const(query_).view(), std::as_const(key_).view(), std::as_const(value_).view(),
            options, output);
}

void Subject::prepare(int threads) {
  if (line_.kind != Kind::backward) return;
  AttentionOutput output;
  output.out = out_.view();
  output.lse = lse_;
  forward(options(threads), output);
}

void Subject::run(int threads) {
  if (line_.kind == Kind::backward) return backward(options(threads));
  AttentionOutput output;
  output.out = out_.view();
  forward(options(threads), output);
}

void Subject::run_traced(int threads) {
  AttentionOutput output;
  output.out = out_.view();
  output.trace = &trace_;
  AttentionOptions with = options(threads);
  with.trace = {.top = 8, .received = true, .block = 64};
  forward(with, output);
}

void Subject::write_inputs(const std::filesystem::path& folder) const {
  query_.write(folder / "query");
  key_.write(folder / "key");
  value_.write(folder / "value");
  if (line_.kind == Kind::backward) d_out_.write(folder / "d_out");
}

void Subject::write_outputs(const std::filesystem::path& folder) const {
  if (line_.kind != Kind::backward) return out_.write(folder / "out");
  d_query_.write(folder / "d_query");
  d_key_.write(folder / "d_key");
  d_value_.write(folder / "d_value");
}

// ---- Time and memory

std::vector<double> time_runs(const std::function<void()>& run, double seconds, int least) {
  using Clock = std::chrono::steady_clock;
  constexpr double kLong = 2;
  std::vector<double> times;
  double total = 0;
  while (total < seconds || (total < kLong && static_cast<int>(times.size()) < least)) {
    const auto start = Clock::now();
    run();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += times.back();
  }
  return times;
}

double median(std::vector<double> numbers) {
  if (numbers.empty()) return 0;
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

double smallest(const std::vector<double>& numbers) {
  return numbers.empty() ? 0 : *std::min_element(numbers.begin(), numbers.end());
}

namespace {

// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes.
std::int64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return 1024 * std::stoll(line.substr(field.size() + 1));
  return -1;
}

}  // namespace

std::int64_t extra_memory_here(const Line& line, int threads) {
  Subject subject(line);
  subject.prepare(threads);
  // 5 resets the highest resident set to the present one (proc(5))
  if (std::FILE* f = std::fopen("/proc/self/clear_refs", "w"); f != nullptr) {
    std::fputs("5", f);
    std::fclose(f);
  }
  const std::int64_t before = status_bytes("VmRSS");
  if (line.kind == Kind::trace)
    subject.run_traced(threads);
  else
    subject.run(threads);
  const std::int64_t highest = status_bytes("VmHWM");
  return before < 0 || highest < 0 ? -1 : std::max<std::int64_t>(highest - before, 0);
}

}  // namespace qkv::bench
