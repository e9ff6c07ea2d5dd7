// The shape of a panel and of its tiles in vectors of one vec_*.h, which is included before this file.
#pragma once

#include "kernels/kernels.h"

namespace qkv::kernels {
namespace {

inline constexpr int kPanel = kLanes * kPanelVecs;
static_assert(kPanel <= kMaxPanel);
inline constexpr float kInfinity = __builtin_inff();

// Rows of a tile that is kVecs wide: fewer vectors leave registers for more rows.
template <int kVecs>
inline constexpr int kRowsOf = kVecs == kPanelVecs     ? kTileRows
                               : kTileSums / kVecs > 8 ? 8
                                                       : kTileSums / kVecs;

// 8 rows left are two tiles of 4 rather than a tile of 6 and one of 2, which has too few sums to keep the units busy.
constexpr bool full_tile_fits(int rows, int tile) {
  return rows >= tile && !(rows == 8 && tile == 6);
}

// f.template operator()<n>() for the n vectors of a panel from first_lane on.
template <int kVecs = kPanelVecs, typename F>
inline void for_vectors_from(int first_lane, const F& f) {
  if constexpr (kVecs > 1) {
    if (first_lane > kPanel - kVecs * kLanes) return for_vectors_from<kVecs - 1>(first_lane, f);
  }
  f.template operator()<kVecs>();
}

}  // namespace
}  // namespace qkv::kernels
