// Rows, states and JSON vectors drawn from bytes, as the SQL extensions hand them to src/memory and sql/common. What is refused throws
// std::invalid_argument; what is taken gives the answer of a plain sum in float64.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "qkv/memory.h"
#include "sql/common/json.h"
#include "sql/common/rows.h"

namespace {

using qkv::MemoryReader;
using qkv::MemoryState;

void require(bool fact) {
  if (!fact) std::abort();
}

// The checksum at a state's end (qkv/memory.h), so that hostile counts come past it.
std::uint64_t fnv1a(const std::string& bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// Every answer of a state can be asked for.
void look(const MemoryState& state) {
  if (state.nothing()) return;
  std::vector<double> mean(static_cast<std::size_t>(state.value_dim()));
  state.value(mean);
  const double entropy = state.entropy();
  require(entropy >= 0 || std::isnan(entropy));
  require(static_cast<int>(state.best().size()) <= state.top());
  require(state.max_weight() > 0 && !std::isnan(state.log_sum_exp()));
  require(!qkv::sql::top_to_json(state).empty() && !qkv::sql::stats_to_json(state).empty());
}

// Any bytes as a state, alone and merged with a true one.
void states(FuzzedDataProvider& from) {
  MemoryState state(from.ConsumeIntegralInRange(0, 4), from.ConsumeIntegralInRange(0, 3),
                    from.ConsumeIntegralInRange<std::uint64_t>(0, 2));
  const std::vector<float> value(static_cast<std::size_t>(state.value_dim()), 0.5f);
  for (int i = from.ConsumeIntegralInRange(0, 4); i > 0; --i)
    state.add(from.ConsumeIntegralInRange(-3, 3), value, "label");
  std::string bytes = state.bytes();
  if (from.ConsumeBool()) {  // broken here and there, or all new behind the version
    for (int i = from.ConsumeIntegralInRange(1, 6); i > 0; --i)
      bytes[from.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1)] =
          from.ConsumeIntegral<char>();
    bytes.resize(from.ConsumeIntegralInRange<std::size_t>(0, bytes.size()));
  } else {
    bytes = bytes.substr(0, 8) + from.ConsumeRemainingBytesAsString();
  }
  const std::uint64_t sum = fnv1a(bytes);
  bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  std::optional<MemoryState> merged = state;
  try {
    const MemoryState read = MemoryState::from_bytes(bytes);
    require(read.bytes() == bytes);
    look(read);
    qkv::sql::merge_bytes(1, bytes, merged);
    look(*merged);
  } catch (const std::invalid_argument&) {
  }
}

// Any text as a JSON vector.
void json(FuzzedDataProvider& from) {
  std::vector<float> numbers;
  try {
    numbers = qkv::sql::vector_from_json(from.ConsumeRemainingBytesAsString());
  } catch (const std::invalid_argument&) {
    return;
  }
  require(!numbers.empty());
  const std::vector<float> again = qkv::sql::vector_from_json(qkv::sql::vector_to_json(numbers));
  require(again.size() == numbers.size() &&
          std::memcmp(again.data(), numbers.data(), numbers.size() * sizeof(float)) == 0);
}

class Rows {
 public:
  Rows(FuzzedDataProvider& from, bool odd) : from_(from), odd_(odd) {}
  float number() {
    if (odd_ && from_.ConsumeIntegralInRange(0, 40) == 0)
      return std::bit_cast<float>(from_.ConsumeIntegral<std::uint32_t>());
    return static_cast<float>(from_.ConsumeIntegralInRange(-32, 32)) / 8;
  }
  std::vector<float> vector(std::size_t dim) {
    if (odd_ && from_.ConsumeIntegralInRange(0, 60) == 0)
      dim = from_.ConsumeIntegralInRange<std::size_t>(0, dim + 2);
    std::vector<float> numbers(dim);
    for (float& x : numbers) x = number();
    return numbers;
  }

 private:
  FuzzedDataProvider& from_;
  bool odd_;
};

bool finite(const std::vector<float>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](float x) { return std::isfinite(x); });
}

// Rows through two readers whose states merge by way of bytes, the oldest of the first leaving again.
void rows(FuzzedDataProvider& from) {
  const bool odd = from.ConsumeBool();
  Rows draw(from, odd);
  const auto dim = from.ConsumeIntegralInRange<std::size_t>(1, 40);
  const auto value_dim = from.ConsumeIntegralInRange<std::size_t>(0, 20);
  MemoryReader::Options options;
  options.value_dim = static_cast<std::int64_t>(value_dim);
  options.top = from.ConsumeIntegralInRange(0, 3);
  options.keep = std::numeric_limits<std::size_t>::max();
  if (from.ConsumeBool()) options.scale = draw.number();
  const std::vector<float> query = draw.vector(dim);
  struct Row {
    std::vector<float> key, value;
  };
  std::vector<Row> seen;
  bool wrong = !finite(query) || query.empty() || (options.scale && !std::isfinite(*options.scale));
  bool large = false;  // a product may overflow, or be too large to compare
  const int count = from.ConsumeIntegralInRange(0, 300);
  std::size_t leave = 0;
  double scale = 0;
  std::optional<MemoryState> state;
  try {
    MemoryReader first(query, options), second(query, options);
    require(!wrong);
    scale = first.scale();
    for (int i = 0; i < count; ++i) {
      Row row{draw.vector(dim), draw.vector(value_dim)};
      wrong |= row.key.size() != query.size() || row.value.size() != value_dim ||
               !finite(row.key) || !finite(row.value);
      const std::vector<float>* const parts[] = {&query, &row.key, &row.value};
      for (const std::vector<float>* part : parts)
        for (const float x : *part) large |= std::abs(x) > 4;
      (i % 3 == 0 ? second : first).add(i + 1, row.key, row.value, std::to_string(i));
      if (i % 3 != 0) seen.push_back(row);
      if (i % 3 == 0)
        seen.insert(seen.begin(), row);  // those of the second reader stand in front …
    }
    if (options.top == 0) leave = from.ConsumeIntegralInRange<std::size_t>(0, seen.size());
    const std::size_t in_second = static_cast<std::size_t>((count + 2) / 3);
    leave = std::min(leave, seen.size() - in_second);
    for (std::size_t i = 0; i < leave; ++i) first.pop();
    seen.erase(seen.begin() + static_cast<std::ptrdiff_t>(in_second),
               seen.begin() + static_cast<std::ptrdiff_t>(
                                  in_second + leave));  // … so these are the oldest of the first
    state = MemoryState::from_bytes(first.state().bytes());
    state->merge(MemoryState::from_bytes(second.state().bytes()));
  } catch (const std::invalid_argument&) {
    require(wrong || large);
    return;
  }
  require(!wrong);
  require(state->rows() == static_cast<std::int64_t>(seen.size()));
  look(*state);
  if (large || std::abs(scale) > 4 || seen.empty()) return;
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  std::vector<double> scores, mean(value_dim), got(value_dim);
  for (const Row& row : seen) {
    double score = 0;
    for (std::size_t d = 0; d < query.size(); ++d) score += double{query[d]} * row.key[d];
    scores.push_back(scale * score);
    max = std::max(max, scores.back());
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double weight = std::exp(scores[i] - max);
    sum += weight;
    for (std::size_t d = 0; d < value_dim; ++d) mean[d] += weight * seen[i].value[d];
  }
  // A score is a float32 of at most |scale|·40·16 = 2560 and a chain of 40 sums: off by 45·2⁻²⁴·2560 < 0.007; twice that, above and below
  // the fraction, of values up to 4.
  state->value(got);
  for (std::size_t d = 0; d < value_dim; ++d) require(std::abs(got[d] - mean[d] / sum) < 0.12);
  require(std::abs(state->log_sum_exp() - (max + std::log(sum))) < 0.014);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider from(data, size);
  switch (from.ConsumeIntegralInRange(0, 3)) {
    case 0:
      states(from);
      break;
    case 1:
      json(from);
      break;
    default:
      rows(from);
  }
  return 0;
}
