// The kernels of a trace (kernels.h) over the vectors of one vec_*.h: what is read off the weights of a panel's rows once
// their sums are known. Included by tile.h.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

// sums[i] = Σ_lane of block[i], added in a fixed order.
inline void store_lane_sums(Vec (&block)[kLanes], float* sums) {
  transpose(block);
  QKV_UNROLL for (int half = kLanes / 2; half > 0; half /= 2) {
    QKV_UNROLL for (int i = 0; i < half; ++i) block[i] = add(block[i], block[i + half]);
  }
  store(sums, block[0]);
}

// Σ over the vectors of one key, and the largest of each lane.
inline Vec weigh_key(const float* weights, const Vec (&factor)[kPanelVecs],
                     Vec (&top)[kPanelVecs]) {
  Vec sum = set1(0.0f);
  QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) {
    const Vec w = load(weights + v * kLanes);
    top[v] = max(w, top[v]);  // a NaN leaves what was there
    sum = v == 0 ? mul(factor[v], w) : fma(factor[v], w, sum);
  }
  return sum;
}

void weigh_keys(const float* weights, int key_count, const float* factor, float* largest,
                float* mass) {
  Vec f[kPanelVecs];
  QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) f[v] = load(factor + v * kLanes);
  // as many keys at a time as lanes, or a group of them if that is more
  constexpr int kKeys = kLanes > kKeyGroup ? kLanes : kKeyGroup;
  for (int k = 0; k < key_count; k += kKeys) {
    Vec sums[kKeys / kLanes][kLanes];
    QKV_UNROLL for (int group = 0; group < kKeys; group += kKeyGroup) {
      if (k + group >= key_count) {
        QKV_UNROLL for (int i = group; i < group + kKeyGroup; ++i) sums[i / kLanes][i % kLanes] =
            set1(0.0f);
        continue;
      }
      Vec top[kPanelVecs];
      QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) top[v] = set1(0.0f);
      QKV_UNROLL for (int i = group; i < group + kKeyGroup; ++i) sums[i / kLanes][i % kLanes] =
          weigh_key(weights + (k + i) * kPanel, f, top);
      float* to = largest + (k + group) / kKeyGroup * kPanel;
      // the largest p is the factor times the largest weight: rounding keeps the order
      QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) store(to + v * kLanes, mul(f[v], top[v]));
    }
    if (k + kKeys <= key_count) {
      QKV_UNROLL for (int i = 0; i < kKeys; i += kLanes)
          store_lane_sums(sums[i / kLanes], mass + k + i);
    } else {
      float rest[kKeys];
      QKV_UNROLL for (int i = 0; i < kKeys; i += kLanes)
          store_lane_sums(sums[i / kLanes], rest + i);
      for (int i = 0; k + i < key_count; ++i) mass[k + i] = rest[i];
    }
  }
}

// A list per lane, largest first, of numbers and what they stand for.
template <int kSlots>
struct BestOfLanes {
  Vec value[kSlots];
  IVec index[kSlots];

  BestOfLanes() {
    QKV_UNROLL for (int s = 0; s < kSlots; ++s) {
      value[s] = set1(0.0f);
      index[s] = iset1(-1);
    }
  }
  // x goes in front of the first smaller one; where there is none nothing changes. A NaN is smaller than nothing.
  void offer(Vec x, IVec i) {
    if (!any(less(value[kSlots - 1], x))) return;
    VMask here = less(value[kSlots - 1], x);
    QKV_UNROLL for (int s = kSlots - 1; s > 0; --s) {
      const VMask above = less(value[s - 1], x);  // goes further up: this slot takes its neighbour
      value[s] = select(here, select(above, value[s - 1], x), value[s]);
      index[s] = iselect(here, iselect(above, index[s - 1], i), index[s]);
      here = above;
    }
    value[0] = select(here, x, value[0]);
    index[0] = iselect(here, i, index[0]);
  }
};

template <int kSlots>
void best_groups_of(const float* largest, int group_count, std::int32_t* groups) {
  for (int v = 0; v < kPanel; v += kLanes) {
    BestOfLanes<kSlots> best;
    for (int g = 0; g < group_count; ++g)
      best.offer(load(largest + static_cast<std::int64_t>(g) * kPanel + v), iset1(g));
    // sorted by neighbours that change places (odd-even transposition)
    QKV_UNROLL for (int round = 0; round < kSlots; ++round) {
      QKV_UNROLL for (int s = round % 2; s + 1 < kSlots; s += 2) {
        const VMask wrong = iless(best.index[s + 1], best.index[s]);
        const IVec low = iselect(wrong, best.index[s + 1], best.index[s]);
        best.index[s + 1] = iselect(wrong, best.index[s], best.index[s + 1]);
        best.index[s] = low;
      }
    }
    QKV_UNROLL for (int s = 0; s < kSlots; ++s) istore(groups + s * kPanel + v, best.index[s]);
  }
}

void best_groups(const float* largest, int group_count, int slots, std::int32_t* groups) {
  if (slots <= 4) return best_groups_of<4>(largest, group_count, groups);
  if (slots <= 8) return best_groups_of<8>(largest, group_count, groups);
  return best_groups_of<16>(largest, group_count, groups);
}

template <int kSlots>
void best_keys_of(const float* weights, const float* factor, int first, const std::int32_t* groups,
                  float* top_weights, std::int32_t* top_keys) {
  float candidates[kSlots * kKeyGroup][kLanes];
  for (int v = 0; v < kPanel; v += kLanes) {
    // lanes have groups of their own: gathered one by one, compared together
    for (int s = 0; s < kSlots; ++s) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const std::int32_t group = groups[s * kPanel + v + lane];
        float* to = candidates[s * kKeyGroup] + lane;
        if (group < 0) {
          QKV_UNROLL for (int i = 0; i < kKeyGroup; ++i) to[i * kLanes] = 0;
          continue;
        }
        const std::int64_t key = static_cast<std::int64_t>(group) * kKeyGroup;
        const float f = factor[(first + key) / kMaxChunk * kPanel + v + lane];
        const float* from = weights + key * kPanel + v + lane;
        QKV_UNROLL for (int i = 0; i < kKeyGroup; ++i) to[i * kLanes] = f * from[i * kPanel];
      }
    }
    // groups rise, and so do the keys: of equal weights the lower key comes first and stays in front
    BestOfLanes<kSlots> best;
    for (int s = 0; s < kSlots; ++s) {
      IVec key = iload(groups + s * kPanel + v);
      key = iadd(key, key);
      key = iadd(key, key);
      key = iadd(key, key);
      static_assert(kKeyGroup == 8);
      for (int i = 0; i < kKeyGroup; ++i, key = iadd(key, iset1(1)))
        best.offer(load(candidates[s * kKeyGroup + i]), key);
    }
    QKV_UNROLL for (int s = 0; s < kSlots; ++s) {
      store(top_weights + s * kPanel + v, best.value[s]);
      istore(top_keys + s * kPanel + v, best.index[s]);
    }
  }
}

void best_keys(const float* weights, const float* factor, int first, const std::int32_t* groups,
               int slots, float* top_weights, std::int32_t* top_keys) {
  if (slots <= 4) return best_keys_of<4>(weights, factor, first, groups, top_weights, top_keys);
  if (slots <= 8) return best_keys_of<8>(weights, factor, first, groups, top_weights, top_keys);
  return best_keys_of<16>(weights, factor, first, groups, top_weights, top_keys);
}

}  // namespace
}  // namespace qkv::kernels
