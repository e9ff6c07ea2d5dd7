// Building and changing; index_query.cc answers.
#include "qkv/index.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "attention/parallel.h"
#include "kernels/dots.h"
#include "memory/cluster.h"
#include "memory/index_store.h"
#include "memory/limits.h"
#include "qkv/memory.h"

namespace qkv {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::int64_t checked_dim(std::int64_t dim, std::int64_t least, const char* what) {
  if (dim < least || dim > kMaxMemoryDim)
    throw std::invalid_argument("MemoryIndex: " + std::string(what) + " have " +
                                std::to_string(dim) + " dimensions, expected " +
                                std::to_string(least) + " to " + std::to_string(kMaxMemoryDim));
  return dim;
}

void check_size(std::size_t got, std::int64_t rows, std::int64_t dim, const char* what) {
  if (got != at(rows * dim))
    throw std::invalid_argument("MemoryIndex: " + std::string(what) + " hold " +
                                std::to_string(got) + " numbers, expected " + std::to_string(rows) +
                                " × " + std::to_string(dim));
}

}  // namespace

double distance(const float* a, const float* b, std::int64_t size) {
  double squares[4] = {0, 0, 0, 0};  // four chains, as an addition waits for the one before
  for (std::int64_t d = 0; d < size; ++d) {
    const double x = b == nullptr ? double{a[d]} : double{a[d]} - double{b[d]};
    squares[d % 4] += x * x;
  }
  // A difference that is not 0 is at least 2⁻¹⁴⁹, its square above what float64 holds: nothing is lost below.
  return std::sqrt(squares[0] + squares[1] + squares[2] + squares[3]) * kWiden;
}

void query_dot_rows(std::span<const float> query, const float* rows, std::int64_t count,
                    double* out) {
  const std::size_t dim = query.size();
  kernels::dot_kernels().query_dot_rows(query.data(), rows, static_cast<int>(count),
                                        static_cast<int>(dim), out);
  for (std::size_t i = 0; i < at(count); ++i) {
    if (std::isfinite(out[i])) continue;
    out[i] = 0;
    for (std::size_t d = 0; d < dim; ++d) out[i] += double{query[d]} * double{rows[i * dim + d]};
  }
}

// A row at the end of ids, keys and values.
void IndexBlock::append(std::int64_t id, std::span<const float> key, std::span<const float> value) {
  if (ids.empty()) {
    values.clear();
    mirrored = key.size() == value.size();
  }
  if (mirrored && std::memcmp(key.data(), value.data(), key.size_bytes()) != 0) {
    values = keys;
    mirrored = false;
  }
  ids.push_back(id);
  keys.insert(keys.end(), key.begin(), key.end());
  if (!mirrored) values.insert(values.end(), value.begin(), value.end());
}

void MemoryIndex::Store::measure(std::size_t b) {
  IndexBlock& block = blocks[b];
  const std::int64_t n = block.rows();
  block.changes = 0;
  if (n == 0) return;
  // mean = Σ row / n, rounded to float32; drift is what that took away, and what float64 lost in the sum: of n additions each
  // at most 2⁻⁵³·Σ‖row‖, divided by n.
  std::vector<double> sum;
  const auto average = [&](const float* rows, std::int64_t size, float* mean) {
    sum.assign(at(size), 0);
    double largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float* row = rows + i * size;
      for (std::int64_t d = 0; d < size; ++d) sum[at(d)] += double{row[d]};
      largest = std::max(largest, distance(row, nullptr, size));
    }
    double squares = 0;
    for (std::int64_t d = 0; d < size; ++d) {
      const double exact = sum[at(d)] / static_cast<double>(n);
      mean[d] = static_cast<float>(exact);
      squares += (exact - double{mean[d]}) * (exact - double{mean[d]});
    }
    return (std::sqrt(squares) + static_cast<double>(n) * std::ldexp(1.0, -52) * largest) * kWiden;
  };
  float* centre = centroids.data() + b * at(dim);
  float* mean = means.data() + b * at(value_dim);
  block.key_drift = average(block.keys.data(), dim, centre);
  block.value_drift = average(block.value_rows(), value_dim, mean);
  block.centroid_norm = distance(centre, nullptr, dim);
  block.mean_norm = distance(mean, nullptr, value_dim);
  block.key_radius = block.value_radius = block.code_error = 0;
  double widest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float* key = block.keys.data() + i * dim;
    for (std::int64_t d = 0; d < dim; ++d)
      widest = std::max(widest, std::fabs(double{key[d]} - double{centre[d]}));
  }
  block.step = widest / std::numeric_limits<std::int8_t>::max();
  IndexBlock old;
  std::swap(old.ids, block.ids);
  std::swap(old.keys, block.keys);
  std::swap(old.values, block.values);
  old.mirrored = block.mirrored;
  block.codes.clear();
  block.keys.reserve(old.keys.size());
  block.values.reserve(old.values.size());
  block.codes.reserve(old.keys.size());
  for (std::int64_t i = 0; i < n; ++i)
    put(b, old.ids[at(i)], {old.keys.data() + i * dim, at(dim)},
        {old.value_rows() + i * value_dim, at(value_dim)});
}

// Adds a row under the block's centroid, mean and step as they are; the caller sees to the drifts and to `places`.
void MemoryIndex::Store::put(std::size_t b, std::int64_t id, std::span<const float> key,
                             std::span<const float> value) {
  IndexBlock& block = blocks[b];
  const float* centre = centroids.data() + b * at(dim);
  block.append(id, key, value);
  block.key_radius = std::max(block.key_radius, distance(key.data(), centre, dim));
  block.value_radius = std::max(
      block.value_radius, distance(value.data(), means.data() + b * at(value_dim), value_dim));
  double squares = 0;
  for (std::int64_t d = 0; d < dim; ++d) {
    const double residual = double{key[at(d)]} - double{centre[d]};
    const double code =
        block.step > 0 ? std::clamp(std::nearbyint(residual / block.step), -127.0, 127.0) : 0.0;
    block.codes.push_back(static_cast<std::int8_t>(code));
    squares += (residual - block.step * code) * (residual - block.step * code);
  }
  block.code_error = std::max(block.code_error, std::sqrt(squares) * kWiden);
}

// Two blocks of the rows of one, each measured anew.
void MemoryIndex::Store::split(std::size_t b) {
  IndexBlock old;
  std::swap(old, blocks[b]);
  const Clusters parts = cluster(old.keys, {.dim = dim,
                                            .largest = kBlockRows,
                                            .seed = seed + blocks.size(),
                                            .threads = 1,
                                            .progress = {}});
  for (std::size_t p = 0; p + 1 < parts.begin.size(); ++p) {
    std::size_t to = b;
    if (p > 0) {  // a block that lost its rows, or a new one
      to = at(std::find_if(blocks.begin(), blocks.end(),
                           [&](const IndexBlock& block) { return block.rows() == 0; }) -
              blocks.begin());
      if (to == blocks.size()) add_block();
    }
    for (std::int64_t i = parts.begin[p]; i < parts.begin[p + 1]; ++i) {
      const std::int64_t row = parts.order[at(i)];
      IndexBlock& block = blocks[to];
      places[old.ids[at(row)]] = {static_cast<std::uint32_t>(to),
                                  static_cast<std::uint32_t>(block.ids.size())};
      block.append(old.ids[at(row)], {old.keys.data() + row * dim, at(dim)},
                   {old.value_rows() + row * value_dim, at(value_dim)});
    }
    measure(to);
  }
}

MemoryIndex::MemoryIndex(std::int64_t dim, std::int64_t value_dim, std::uint64_t seed)
    : store_(std::make_unique<Store>()) {
  store_->dim = checked_dim(dim, 1, "keys");
  store_->value_dim = checked_dim(value_dim, 0, "values");
  store_->seed = seed;
}

MemoryIndex::MemoryIndex(std::span<const std::int64_t> ids, std::span<const float> keys,
                         std::int64_t dim, std::span<const float> values, std::int64_t value_dim,
                         const Options& options)
    : MemoryIndex(dim, value_dim, options.seed) {
  const auto n = static_cast<std::int64_t>(ids.size());
  check_size(keys.size(), n, dim, "keys");
  check_size(values.size(), n, value_dim, "values");
  Store& store = *store_;
  store.places.reserve(ids.size());
  for (std::int64_t i = 0; i < n; ++i) {
    if (!store.places.try_emplace(ids[at(i)]).second)
      throw std::invalid_argument("MemoryIndex: two rows have the id " +
                                  std::to_string(ids[at(i)]));
    require_finite(ids[at(i)], "k", keys.subspan(at(i * dim), at(dim)));
    require_finite(ids[at(i)], "v", values.subspan(at(i * value_dim), at(value_dim)));
  }
  if (n == 0) return;
  constexpr double kClustering = 0.9;  // of the time
  const auto part = [&](double done) {
    if (options.progress) options.progress(kClustering * done);
  };
  const Clusters groups = cluster(keys, {.dim = dim,
                                         .largest = kBlockRows,
                                         .seed = options.seed,
                                         .threads = options.threads,
                                         .progress = part});
  const auto count = static_cast<std::int64_t>(groups.begin.size()) - 1;
  store.blocks.resize(at(count));
  store.centroids.resize(at(count * dim));
  store.means.resize(at(count * value_dim));
  constexpr std::int64_t kStep = 1024;  // blocks between two calls of progress
  for (std::int64_t from = 0; from < count; from += kStep) {
    parallel_for(options.threads, std::min(kStep, count - from), [&](std::int64_t g) {
      const std::size_t b = at(from + g);
      IndexBlock& block = store.blocks[b];
      for (std::int64_t i = groups.begin[b]; i < groups.begin[b + 1]; ++i) {
        const std::int64_t row = groups.order[at(i)];
        store.places.find(ids[at(row)])->second = {static_cast<std::uint32_t>(b),
                                                   static_cast<std::uint32_t>(block.ids.size())};
        block.append(ids[at(row)], keys.subspan(at(row * dim), at(dim)),
                     values.subspan(at(row * value_dim), at(value_dim)));
      }
      store.measure(b);
    });
    if (options.progress)
      options.progress(kClustering + (1 - kClustering) *
                                         static_cast<double>(std::min(count, from + kStep)) /
                                         static_cast<double>(count));
  }
}

MemoryIndex::MemoryIndex(MemoryIndex&&) noexcept = default;
MemoryIndex& MemoryIndex::operator=(MemoryIndex&&) noexcept = default;
MemoryIndex::~MemoryIndex() = default;

std::int64_t MemoryIndex::size() const { return store_->rows(); }
std::int64_t MemoryIndex::dim() const { return store_->dim; }
std::int64_t MemoryIndex::value_dim() const { return store_->value_dim; }

std::int64_t MemoryIndex::blocks() const {
  return std::count_if(store_->blocks.begin(), store_->blocks.end(),
                       [](const IndexBlock& block) { return block.rows() > 0; });
}

std::vector<std::int64_t> MemoryIndex::ids() const {
  std::vector<std::int64_t> ids;
  ids.reserve(store_->places.size());
  for (const auto& [id, place] : store_->places) ids.push_back(id);
  return ids;
}

std::span<const float> MemoryIndex::key(std::int64_t id) const {
  const auto place = store_->places.find(id);
  if (place == store_->places.end()) return {};
  return std::span(store_->blocks[place->second.block].keys)
      .subspan(place->second.row * at(store_->dim), at(store_->dim));
}

void MemoryIndex::insert(std::int64_t id, std::span<const float> key,
                         std::span<const float> value) {
  Store& store = *store_;
  check_size(key.size(), 1, store.dim, "keys");
  check_size(value.size(), 1, store.value_dim, "values");
  require_finite(id, "k", key);
  require_finite(id, "v", value);
  if (store.places.contains(id))
    throw std::invalid_argument("MemoryIndex: there is a row with the id " + std::to_string(id));
  if (store.blocks.empty()) store.add_block();
  // nearest: the largest key·centroid − ‖centroid‖²/2
  std::size_t best = 0;
  double most = -std::numeric_limits<double>::infinity();
  double dots[kPartBlocks];
  for (std::size_t b = 0; b < store.blocks.size(); ++b) {
    if (b % at(kPartBlocks) == 0)
      query_dot_rows(key, store.centroids.data() + b * at(store.dim),
                     static_cast<std::int64_t>(std::min(store.blocks.size() - b, at(kPartBlocks))),
                     dots);
    const double norm = store.blocks[b].centroid_norm;
    const double near = dots[b % at(kPartBlocks)] - norm * norm / 2;
    if (store.blocks[b].rows() > 0 && near > most) {
      most = near;
      best = b;
    }
  }
  IndexBlock& block = store.blocks[best];
  const auto n = static_cast<double>(block.rows());
  store.places[id] = {static_cast<std::uint32_t>(best),
                      static_cast<std::uint32_t>(block.ids.size())};
  store.put(best, id, key, value);
  // mean' − centre = (n·(mean − centre) + (row − centre)) / (n + 1)
  const auto drifted = [&](double drift, const float* row, const float* centre, std::int64_t size) {
    return (n * drift + distance(row, centre, size)) / (n + 1) * kWiden;
  };
  block.key_drift = drifted(block.key_drift, key.data(), store.centroid(best).data(), store.dim);
  block.value_drift =
      drifted(block.value_drift, value.data(), store.mean(best).data(), store.value_dim);
  ++block.changes;
  if (block.rows() > kBlockRows)
    store.split(best);
  else if (2 * block.changes >= block.rows())
    store.measure(best);
}

bool MemoryIndex::erase(std::int64_t id) {
  Store& store = *store_;
  const auto found = store.places.find(id);
  if (found == store.places.end()) return false;
  const Store::Place place = found->second;
  IndexBlock& block = store.blocks[place.block];
  const auto n = static_cast<double>(block.rows());
  const std::size_t row = place.row, last = block.ids.size() - 1;
  // mean' − centre = (n·(mean − centre) − (row − centre)) / (n − 1)
  const auto drifted = [&](double drift, const float* rows, const float* centre,
                           std::int64_t size) {
    return (n * drift + distance(rows + row * at(size), centre, size)) / (n - 1) * kWiden;
  };
  if (n > 1) {
    block.key_drift =
        drifted(block.key_drift, block.keys.data(), store.centroid(place.block).data(), store.dim);
    block.value_drift = drifted(block.value_drift, block.value_rows(),
                                store.mean(place.block).data(), store.value_dim);
  }
  // The last row takes its place.
  const auto move_last = [&](auto& rows, std::int64_t size) {
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(last * at(size)), size,
                rows.begin() + static_cast<std::ptrdiff_t>(row * at(size)));
    rows.resize(last * at(size));
  };
  store.places[block.ids[last]].row = place.row;
  store.places.erase(id);
  move_last(block.ids, 1);
  move_last(block.keys, store.dim);
  if (!block.mirrored) move_last(block.values, store.value_dim);
  move_last(block.codes, store.dim);
  if (2 * ++block.changes >= block.rows()) store.measure(place.block);
  return true;
}

}  // namespace qkv
