// A panel of neighbouring query rows of one head, ready for the kernels, and its scores against a chunk of keys: the step
// that forward, trace and weights share.
#pragma once

#include <array>
#include <cstdint>

#include "attention/chunk.h"
#include "attention/problem.h"
#include "attention/products.h"
#include "kernels/kernels.h"

namespace qkv {

// Chunks of keys begin at multiples of this whatever the rows, so that a row's bits depend on its own keys only.
inline constexpr std::int64_t kChunk = kernels::kMaxChunk;
// Inside a chunk, work begins at a multiple of this: softmax adds keys in aligned groups of four.
inline constexpr std::int64_t kAlign = 8;

// One number per lane of a panel.
using LaneFloats = std::array<float, kernels::kMaxPanel>;
using LaneInts = std::array<std::int32_t, kernels::kMaxPanel>;

struct Panel {
  std::int64_t batch = 0, head = 0;
  std::int64_t first = 0;  // first query
  int count = 0;           // queries; lanes beyond repeat the last one's visibility
  LaneInts position;       // where each query stands
  LaneInts begin, end;     // the keys each may see; begin = end = 0 where none
  // Over lanes with visible keys: all of them see [inner.begin, inner.end), none sees beyond [outer.begin, outer.end).
  Range inner, outer;
  std::int64_t keys = 0;  // of the batch entry

  Panel() = default;
  Panel(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t first_query,
        int query_count);

  // The part of [chunk, chunk + kChunk) that this panel must look at; empty where begin ≥ end.
  Range keys_in(std::int64_t chunk) const;
};

// The narrowest of these panels that holds every query: a wide one computes as much for one query as for all its lanes.
const kernels::Kernels& narrowest_panel(const kernels::Kernels& widest, std::int64_t queries);

// hidden[k] gets the bit of each lane that may not see key keys.begin + k.
using HiddenLanes = std::array<kernels::LaneBits, kChunk>;
void find_hidden(const Problem& p, const Panel& panel, Range keys, HiddenLanes& hidden);

// Keys of a chunk that the lanes from first_lane on may see, and the others not: along the diagonal of a causal order each
// vector of lanes ends a step later, and what lies beyond is not computed.
struct Run {
  Range keys;
  int first_lane;
};
struct Runs {
  std::array<Run, kernels::kMaxPanel> run;
  int count = 0;

  const Run* begin() const { return run.data(); }
  const Run* end() const { return run.data() + count; }
};
// Every run but the last has an even number of keys.
Runs runs_of(const kernels::Kernels& kernel, const Panel& panel, Range keys);

// Packs the panel's queries: as floats, times factor_of(p), which brings scores to log2 units (with a softcap: to natural ones);
// or as pairs, which have dim/2 of the room.
void pack_panel(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                float* packed);

// Scores of the panel against these keys, at most kChunk of them, in log2 units, after every option; −inf where hidden.
struct ScoresSeen {
  bool some_hidden;  // whether some score may be −inf
  bool
      top_known;  // whether top holds the largest of each lane: not where an option follows the products
};
ScoresSeen panel_scores(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                        const float* packed, const KeyChunk& keys, float* scores, float* top);

// The two halves of panel_scores: query·key · scale → softcap, and what comes after. Between them the backward pass keeps the
// capped scores.
void panel_dots(const kernels::Kernels& kernel, const Problem& p, const Panel& panel,
                const float* packed, const KeyChunk& keys, float* scores, float* top = nullptr);
bool panel_options(const kernels::Kernels& kernel, const Problem& p, const Panel& panel, Range keys,
                   float* scores);

}  // namespace qkv
