// Rows in groups of similar ones: k-means, the groups that are too large again, and so on (hierarchical k-means).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace qkv {

struct ClusterOptions {
  std::int64_t dim = 0;
  std::int64_t largest = 0;  // rows in a group
  std::uint64_t seed = 1;
  int threads = 0;
  std::function<void(double)> progress;  // 0 to 1, in the caller's thread
};

// Group g holds rows order[begin[g]] … order[begin[g + 1] − 1] of rows [n, dim]. Depends on rows and seed alone.
struct Clusters {
  std::vector<std::int64_t> order, begin;
};
Clusters cluster(std::span<const float> rows, const ClusterOptions& options);

}  // namespace qkv
