// Inserts, deletes and questions of a MemoryIndex drawn from bytes, beside a plain list of its rows. What is refused throws
// std::invalid_argument and changes nothing; an answer is no further from the sum over every row than it says.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <stdexcept>
#include <vector>

#include "qkv/index.h"

namespace {

void require(bool fact) {
  if (!fact) std::abort();
}

struct Row {
  std::vector<float> key, value;
};
using Rows = std::map<std::int64_t, Row>;

class Draw {
 public:
  explicit Draw(FuzzedDataProvider& from)
      : from_(from), odd_(from.ConsumeIntegralInRange(0, 3) == 0) {}
  // Eighths, or now and then any bits of a float.
  float number() {
    if (odd_ && from_.ConsumeIntegralInRange(0, 30) == 0)
      return std::bit_cast<float>(from_.ConsumeIntegral<std::uint32_t>());
    return static_cast<float>(from_.ConsumeIntegral<std::int8_t>()) / 8;
  }
  // Of the right size but for now and then.
  std::vector<float> vector(std::int64_t dim) {
    auto size = static_cast<std::size_t>(dim);
    if (odd_ && from_.ConsumeIntegralInRange(0, 60) == 0)
      size = from_.ConsumeIntegralInRange<std::size_t>(0, size + 2);
    std::vector<float> numbers(size);
    const bool flat = from_.ConsumeBool();  // a long vector from few bytes
    const float all = flat ? number() : 0;
    for (float& x : numbers) x = flat ? all : number();
    if (flat && size > 0)
      numbers[from_.ConsumeIntegralInRange<std::size_t>(0, size - 1)] = number();
    return numbers;
  }

 private:
  FuzzedDataProvider& from_;
  bool odd_;
};

bool right(const std::vector<float>& numbers, std::int64_t dim) {
  return static_cast<std::int64_t>(numbers.size()) == dim &&
         std::all_of(numbers.begin(), numbers.end(), [](float x) { return std::isfinite(x); });
}

// Weights of all rows and their mean value.
std::map<std::int64_t, long double> weigh(const Rows& rows, const std::vector<float>& query,
                                          float scale, std::vector<long double>& mean) {
  std::map<std::int64_t, long double> weights;
  long double most = -INFINITY, sum = 0;
  for (const auto& [id, row] : rows) {
    long double dot = 0;
    for (std::size_t d = 0; d < query.size(); ++d)
      dot += static_cast<long double>(query[d]) * row.key[d];
    most = std::max(most, weights[id] = scale * dot);
  }
  for (auto& [id, w] : weights) sum += w = std::exp(w - most);
  for (auto& [id, w] : weights) {
    w /= sum;
    for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += w * rows.at(id).value[d];
  }
  return weights;
}

void ask(FuzzedDataProvider& from, Draw& draw, const qkv::MemoryIndex& index, const Rows& rows) {
  std::vector<float> query = draw.vector(index.dim());
  const float scale = draw.number() / 4;
  qkv::IndexQuery options;
  options.scale = double{scale};
  options.threads = 1;
  constexpr double kErrors[] = {0, 1e-6, 1e-3, 0.01, 0.1, 1, 30, -1, NAN};
  options.max_error = kErrors[from.ConsumeIntegralInRange<std::size_t>(0, std::size(kErrors) - 1)];
  const bool wrong =
      !right(query, index.dim()) || !std::isfinite(scale) || !(options.max_error >= 0);
  try {
    const qkv::IndexAnswer answer = index.attend(query, options);
    const qkv::IndexRanking ranking = index.rank(query, options);
    require(!wrong);
    if (rows.empty()) {
      require(answer.value.empty() && ranking.best.empty());
      return;
    }
    std::vector<long double> mean(static_cast<std::size_t>(index.value_dim()));
    std::map<std::int64_t, long double> weights = weigh(rows, query, scale, mean);
    long double squares = 0, off = 0;
    for (std::size_t d = 0; d < mean.size(); ++d)
      squares += (answer.value[d] - mean[d]) * (answer.value[d] - mean[d]);
    require(std::sqrt(squares) <= answer.err_bound);
    require(answer.err_bound <= options.max_error || answer.everything());
    for (const qkv::IndexRow& row : ranking.best) weights.at(row.id) -= row.weight;
    for (const auto& [id, w] : weights) off += std::fabs(w) / 2;
    require(off <= ranking.err_bound + 1e-15);  // weights are float64
    require(ranking.err_bound <= options.max_error || ranking.everything());
  } catch (const std::invalid_argument&) {
    require(wrong);
  }
}

void change(FuzzedDataProvider& from, Draw& draw, qkv::MemoryIndex& index, Rows& rows) {
  const std::int64_t id = from.ConsumeIntegralInRange(0, 400);
  if (from.ConsumeIntegralInRange(0, 3) == 0) {
    require(index.erase(id) == (rows.erase(id) > 0));
    return;
  }
  Row row{draw.vector(index.dim()), draw.vector(index.value_dim())};
  if (index.dim() == index.value_dim() && from.ConsumeBool()) row.value = row.key;
  // A run of rows that are alike, so that a few bytes fill blocks and split them.
  std::int64_t more = from.ConsumeIntegralInRange(0, 8) == 0 ? 140 : 1;
  for (std::int64_t next = id; more > 0; ++next, --more) {
    const bool wrong =
        !right(row.key, index.dim()) || !right(row.value, index.value_dim()) || rows.contains(next);
    try {
      index.insert(next, row.key, row.value);
      require(!wrong);
      rows[next] = row;
    } catch (const std::invalid_argument&) {
      require(wrong);
    }
    if (!row.key.empty() && std::isfinite(row.key[0]))
      row.key[0] += static_cast<float>(next % 7) / 64;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider from(data, size);
  Draw draw(from);
  const std::int64_t dim =
      from.PickValueInArray<std::int64_t>({1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 513});
  const std::int64_t value_dim =
      from.ConsumeBool() ? dim : from.ConsumeIntegralInRange<std::int64_t>(0, 20);
  qkv::MemoryIndex index(dim, value_dim, from.ConsumeIntegral<std::uint8_t>());
  Rows rows;
  for (int turn = 0; turn < 40 && from.remaining_bytes() > 0; ++turn) {
    if (from.ConsumeIntegralInRange(0, 3) == 0)
      ask(from, draw, index, rows);
    else
      change(from, draw, index, rows);
    require(index.size() == static_cast<std::int64_t>(rows.size()));
    if (from.ConsumeIntegralInRange(0, 9) == 0 && !rows.empty()) {
      const auto& [id, row] = *rows.begin();
      const std::span<const float> key = index.key(id);
      require(std::equal(key.begin(), key.end(), row.key.begin(), row.key.end()));
    }
  }
  if (!rows.empty()) ask(from, draw, index, rows);
  return 0;
}
