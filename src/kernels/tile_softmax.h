// One chunk of the running softmax of a panel, over the vectors of one vec_*.h, which is included before this file. What it
// computes stands in kernels.h; where the weights go is the caller's: over the scores, or rounded to pairs.
#pragma once

#include "kernels/kernels.h"
#include "kernels/tile_panel.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

// Where the weights of four neighbouring keys go: over the scores.
struct WeightsInPlace {
  float* scores;

  template <int kKeys>
  void put(int k, int v, const Vec (&weight)[4]) const {
    QKV_UNROLL for (int i = 0; i < kKeys; ++i)
        store(scores + (k + i) * kPanel + v * kLanes, weight[i]);
  }
};

// Weights 2^(score − shift) of kKeys neighbouring keys from k on, at most four. They are added in pairs, a missing one being 0
// as a masked one is; so are their products with score − shift.
template <int kKeys, bool kTraced, class Weights>
inline void weigh_four(const float* scores, int k, int v, Vec shift, const Weights& weights,
                       Vec& sum, Vec& spread) {
  Vec away[kKeys];
  Vec weight[kKeys];
  QKV_UNROLL for (int i = 0; i < kKeys; ++i) weight[i] = away[i] =
      sub(load(scores + (k + i) * kPanel + v * kLanes), shift);
  exp2_each(weight);
  Vec w[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  QKV_UNROLL for (int i = 0; i < kKeys; ++i) w[i] = weight[i];
  weights.template put<kKeys>(k, v, w);
  sum = add(sum, add(add(w[0], w[1]), add(w[2], w[3])));
  if constexpr (kTraced) {
    // 2^x is 0 below −256, and 0 times that is 0 where 0 · −inf would be NaN; a NaN passes, as second operand
    Vec x[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
    QKV_UNROLL for (int i = 0; i < kKeys; ++i) x[i] = max(set1(-256.0f), away[i]);
    spread = add(spread, add(fma(w[1], x[1], mul(w[0], x[0])), fma(w[3], x[3], mul(w[2], x[2]))));
  }
}

// One body for both softmaxes: that a trace is wanted changes no bit of the rest.
template <bool kTraced, class Weights>
inline void softmax_panel(const float* scores, int key_count, const SoftmaxState& state,
                          const Weights& weights) {
  Vec top[kPanelVecs];
  QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) top[v] = load(state.max + v * kLanes);
  if (state.top != nullptr) {
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) top[v] =
        max(load(state.top + v * kLanes), top[v]);
  }
  for (int k = 0; state.top == nullptr && k < key_count; ++k) {
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) top[v] =
        max(load(scores + k * kPanel + v * kLanes), top[v]);
  }
  Vec shift[kPanelVecs];
  Vec sum[kPanelVecs];
  Vec spread[kPanelVecs];
  QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) {
    const Vec old_max = load(state.max + v * kLanes);
    const Vec old_sum = load(state.sum + v * kLanes);
    // a lane that has seen nothing keeps max = −inf: subtract 0 there, so that −inf − −inf does not arise
    shift[v] = select(equal(top[v], set1(-kInfinity)), set1(0.0f), top[v]);
    const Vec alpha = exp2(sub(old_max, shift[v]));
    sum[v] = mul(old_sum, alpha);
    spread[v] = set1(0.0f);
    if constexpr (kTraced)
      spread[v] =
          mul(moved_spread(load(state.spread + v * kLanes), old_max, shift[v], old_sum), alpha);
    store(state.max + v * kLanes, top[v]);
    store(state.alpha + v * kLanes, alpha);
  }
  int k = 0;
  for (; k + 4 <= key_count; k += 4) {
    QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v)
        weigh_four<4, kTraced>(scores, k, v, shift[v], weights, sum[v], spread[v]);
  }
  for (int v = 0; v < kPanelVecs; ++v) {
    const int rest = key_count - k;
    if (rest == 3) weigh_four<3, kTraced>(scores, k, v, shift[v], weights, sum[v], spread[v]);
    if (rest == 2) weigh_four<2, kTraced>(scores, k, v, shift[v], weights, sum[v], spread[v]);
    if (rest == 1) weigh_four<1, kTraced>(scores, k, v, shift[v], weights, sum[v], spread[v]);
  }
  QKV_UNROLL for (int v = 0; v < kPanelVecs; ++v) {
    store(state.sum + v * kLanes, sum[v]);
    if constexpr (kTraced) store(state.spread + v * kLanes, spread[v]);
  }
}

}  // namespace
}  // namespace qkv::kernels
