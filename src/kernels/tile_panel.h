// The shape of a panel and of its tiles in vectors of one vec_*.h, which is included before this file.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vec_math.h"

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

// What tiles of sums are looked at for on their way to memory: nothing, or the largest of each lane.
struct NoTops {
  template <int kRows, int kVecs>
  void add(const Vec (&)[kRows][kVecs]) {}
};
template <int kVecs>
struct Tops {
  Vec most[kVecs];

  Tops() { QKV_UNROLL for (int v = 0; v < kVecs; ++v) most[v] = set1(-kInfinity); }
  // A NaN is left out: max gives its second operand then.
  template <int kRows>
  void add(const Vec (&sum)[kRows][kVecs]) {
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      QKV_UNROLL for (int v = 0; v < kVecs; ++v) most[v] = max(sum[r][v], most[v]);
    }
  }
  void store_to(float* top) const {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) store(top + v * kLanes, most[v]);
  }
};

// What a tile of weighted sums begins with: 0, or what it came to so far times alpha, of which null stands for ones.
template <int kDims, int kVecs>
inline void start_sums(const float* acc, const float* alpha, bool fresh, Vec (&sum)[kDims][kVecs]) {
  QKV_UNROLL for (int d = 0; d < kDims; ++d) {
    QKV_UNROLL for (int v = 0; v < kVecs; ++v) {
      sum[d][v] = fresh ? set1(0.0f) : load(acc + d * kPanel + v * kLanes);
      if (!fresh && alpha != nullptr) sum[d][v] = mul(sum[d][v], load(alpha + v * kLanes));
    }
  }
}

// f(seen), which looks for the largest numbers unless nobody asks for them.
template <int kVecs, typename F>
inline void with_tops(float* top, const F& f) {
  if (top == nullptr) {
    NoTops none;
    return f(none);
  }
  Tops<kVecs> tops;
  f(tops);
  tops.store_to(top);
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
