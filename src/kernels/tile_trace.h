// The kernels of a trace (kernels.h) over the vectors of one vec_*.h: what is read off the weights of a panel's rows once
// their sums are known. Included by tile.h.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

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
          store(mass + k + i, sums_of_lanes(sums[i / kLanes]));
    } else {
      float rest[kKeys];
      QKV_UNROLL for (int i = 0; i < kKeys; i += kLanes)
          store(rest + i, sums_of_lanes(sums[i / kLanes]));
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

// What one vector of lanes gathers before it is compared: lane by lane, since each lane has keys of its own. Where branches
// could not be foretold, places are written that a later number may take again.
template <int kSlots>
struct Candidates {
  static constexpr int kGroups = 4 * kSlots;  // groups of a lane; few more than kSlots are expected
  static constexpr int kAtOnce = 4;
  float weight[(kGroups * kKeyGroup + 2) * kLanes];
  std::int32_t key[(kGroups * kKeyGroup + 2) * kLanes];
  std::int32_t group[kLanes][kGroups + kAtOnce];
  int groups[kLanes];  // more than kGroups: there was no room for the last

  // Lists the groups first + i of all bits i that are set.
  void list(int lane, std::int32_t first, std::uint64_t bits) {
    const int count = __builtin_popcountll(bits);
    int n = groups[lane];
    groups[lane] = n + count;
    if (n + count > kGroups) return;
    for (int rest = count; rest > 0; rest -= kAtOnce) {
      QKV_UNROLL for (int i = 0; i < kAtOnce; ++i) {
        group[lane][n + i] = first + __builtin_ctzll(bits | std::uint64_t{1} << 63);
        bits &= bits - 1;
      }
      n += kAtOnce;
    }
  }

  // Takes those keys of the listed groups that weigh at least `least`; returns how many, times kLanes. weights and factor
  // point to the lane.
  std::int64_t take(int lane, const float* weights, const float* factor, int first, float least) {
    std::int64_t n = lane;
    const int count = groups[lane];
    for (int g = 0; g < count; ++g) {
      const std::int32_t at = group[lane][g] * kKeyGroup;
      const float* const from = weights + static_cast<std::int64_t>(at) * kPanel;
      const float f = factor[(static_cast<std::int64_t>(first) + at) / kMaxChunk * kPanel];
      static_assert(kKeyGroup == 8);
      std::uint32_t heavy = bits_at_least<kPanel>(from, f, least);
      const auto put = [&](int i) {
        weight[n] = f * from[i * kPanel];
        key[n] = at + i;
      };
      put(__builtin_ctz(heavy | 1u << (kKeyGroup - 1)));
      n += heavy != 0 ? kLanes : 0;
      heavy &= heavy - 1;
      put(__builtin_ctz(heavy | 1u << (kKeyGroup - 1)));
      n += heavy != 0 ? kLanes : 0;
      for (heavy &= heavy - 1; heavy != 0; heavy &= heavy - 1, n += kLanes)
        put(__builtin_ctz(heavy));
    }
    weight[n] = 0;  // written, but not taken
    return n - lane;
  }
};

// The groups of one lane that hold its kSlots largest weights, in rising order: where so many are as large as the threshold
// that there is no room for them.
template <int kSlots>
int best_groups(const float* largest, int group_count, std::int32_t* groups) {
  float best[kSlots];
  int count = 0;
  for (int g = 0; g < group_count; ++g) {
    const float x = largest[static_cast<std::int64_t>(g) * kPanel];
    if (!(x > 0) || (count == kSlots && !(x > best[kSlots - 1]))) continue;
    int s = count < kSlots ? count++ : kSlots - 1;
    for (; s > 0 && best[s - 1] < x; --s) {
      best[s] = best[s - 1];
      groups[s] = groups[s - 1];
    }
    best[s] = x;
    groups[s] = g;
  }
  for (int i = 1; i < count; ++i) {
    const std::int32_t g = groups[i];
    int s = i;
    for (; s > 0 && groups[s - 1] > g; --s) groups[s] = groups[s - 1];
    groups[s] = g;
  }
  return count;
}

// At most the kSlots-th largest weight of each lane: the kSlots-th largest among the maxima of stretches of groups.
template <int kSlots>
Vec least_of_best(const float* largest, int group_count) {
  constexpr int kStretches = 4 * kSlots;
  const int stretch = (group_count + kStretches - 1) / kStretches;
  Vec best[kSlots];
  QKV_UNROLL for (int s = 0; s < kSlots; ++s) best[s] = set1(0.0f);
  for (int first = 0; first < group_count; first += stretch) {
    Vec x = set1(0.0f);
    for (int g = first; g < first + stretch && g < group_count; ++g)
      x = max(load(largest + static_cast<std::int64_t>(g) * kPanel), x);
    QKV_UNROLL for (int s = kSlots - 1; s > 0; --s) best[s] = max(best[s], min(best[s - 1], x));
    best[0] = max(best[0], x);
  }
  return max(best[kSlots - 1], set1(0x1p-149f));  // a weight of 0 is none
}

template <int kSlots>
void best_keys_of(const float* weights, const float* factor, int first, const float* largest,
                  int group_count, float* top_weights, std::int32_t* top_keys) {
  constexpr int kRun = 64;  // groups whose bits fill a word
  Candidates<kSlots> found;
  for (int v = 0; v < kPanel; v += kLanes) {
    const Vec threshold = least_of_best<kSlots>(largest + v, group_count);
    for (int lane = 0; lane < kLanes; ++lane) found.groups[lane] = 0;
    for (int run = 0; run < group_count; run += kRun) {
      std::uint32_t words[2][kLanes];
      for (int half = 0; half < 2; ++half) {
        IVec bits = iset1(0);
        IVec bit = iset1(1);
        const int begin = run + half * kRun / 2;
        for (int g = begin; g < begin + kRun / 2 && g < group_count; ++g, bit = iadd(bit, bit)) {
          const Vec x = load(largest + static_cast<std::int64_t>(g) * kPanel + v);
          bits = iselect(less(x, threshold), bits, iadd(bits, bit));
        }
        istore(reinterpret_cast<std::int32_t*>(words[half]), bits);
      }
      for (int lane = 0; lane < kLanes; ++lane)
        found.list(lane, run, words[0][lane] | static_cast<std::uint64_t>(words[1][lane]) << 32);
    }
    float least[kLanes];
    store(least, threshold);
    // lanes that end before others are followed by zeros; mostly within the first of them
    constexpr std::int64_t kZeros = 2 * kSlots * kLanes;
    QKV_UNROLL for (int n = 0; n < kZeros; n += kLanes) store(found.weight + n, set1(0.0f));
    std::int64_t count[kLanes];
    std::int64_t most = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (found.groups[lane] > Candidates<kSlots>::kGroups)
        found.groups[lane] =
            best_groups<kSlots>(largest + v + lane, group_count, found.group[lane]);
      count[lane] = found.take(lane, weights + v + lane, factor + v + lane, first, least[lane]);
      most = count[lane] > most ? count[lane] : most;
    }
    for (int lane = 0; most > kZeros && lane < kLanes; ++lane)
      for (std::int64_t n = count[lane]; n < most; n += kLanes) found.weight[n + lane] = 0;
    // keys rise: of equal weights the lower one comes first and stays in front
    BestOfLanes<kSlots> best;
    for (std::int64_t n = 0; n < most; n += kLanes)
      best.offer(load(found.weight + n), iload(found.key + n));
    QKV_UNROLL for (int s = 0; s < kSlots; ++s) {
      store(top_weights + s * kPanel + v, best.value[s]);
      istore(top_keys + s * kPanel + v, best.index[s]);
    }
  }
}

void best_keys(const float* weights, const float* factor, int first, const float* largest,
               int group_count, int slots, float* top_weights, std::int32_t* top_keys) {
  if (slots <= 4)
    return best_keys_of<4>(weights, factor, first, largest, group_count, top_weights, top_keys);
  if (slots <= 8)
    return best_keys_of<8>(weights, factor, first, largest, group_count, top_weights, top_keys);
  return best_keys_of<16>(weights, factor, first, largest, group_count, top_weights, top_keys);
}

}  // namespace
}  // namespace qkv::kernels
