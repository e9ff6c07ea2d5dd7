// What a query and its scale must be.
#pragma once

#include <cmath>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "memory/limits.h"

namespace qkv {

// Throws std::invalid_argument.
inline std::span<const float> checked_query(std::span<const float> query) {
  if (query.empty() || static_cast<std::int64_t>(query.size()) > kMaxMemoryDim)
    throw std::invalid_argument("q has " + std::to_string(query.size()) +
                                " dimensions, expected 1 to " + std::to_string(kMaxMemoryDim));
  for (const float x : query)
    if (!std::isfinite(x)) throw std::invalid_argument("q holds a number that is NaN or infinite");
  return query;
}

// 1/√(query size) unless given; in float32, as qkv::attention() takes it.
inline double checked_scale(std::span<const float> query, std::optional<double> given) {
  const auto scale =
      static_cast<float>(given.value_or(1 / std::sqrt(static_cast<double>(query.size()))));
  if (!std::isfinite(scale)) throw std::invalid_argument("scale is not a finite number");
  return scale;
}

}  // namespace qkv
