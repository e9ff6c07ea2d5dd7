// Which arithmetic the two products of a call use, query·key and weight·value, and a chunk of keys or values as that
// arithmetic reads it: floats, or bfloat16 in pairs where the CPU has a dot instruction for them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/chunk.h"
#include "attention/problem.h"
#include "kernels/kernels.h"
#include "kernels/pairs.h"

namespace qkv {

bool scores_in_pairs(const kernels::Kernels& kernel, const Problem& p);
bool values_in_pairs(const kernels::Kernels& kernel, const Problem& p);

// What a score is multiplied by after its product: with floats the query carries it already.
float factor_of(const Problem& p);

// Keys of one head. Exactly one of floats and halves is set; row r lies (r − range.begin)·stride elements behind it.
struct KeyChunk {
  Range range;
  const float* floats = nullptr;
  const std::uint16_t* halves = nullptr;
  std::int64_t stride = 0;
  const float* scale = nullptr;  // of each int8 key; null for the other types

  // The part that one panel looks at, out of what its neighbours look at too.
  KeyChunk part(Range keys) const;
};

// Values of one head. Exactly one of floats (as above) and pairs is set: pairs[(k − range.begin)/2][d].
struct ValueChunk {
  Range range;
  const float* floats = nullptr;
  std::int64_t stride = 0;
  const kernels::Pair* pairs = nullptr;
  int dim = 0;
  const float* scale = nullptr;  // of each int8 value; null for the other types

  ValueChunk part(Range keys) const;
};

// Floats of scratch that loading at most kMaxChunk keys or values may need.
std::size_t key_scratch_floats(const kernels::Kernels& kernel, const Problem& p);
std::size_t value_scratch_floats(const kernels::Kernels& kernel, const Problem& p);

KeyChunk load_keys(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
                   std::int64_t kv_head, Range keys, float* scratch);
// keys.begin is even.
ValueChunk load_values(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
                       std::int64_t kv_head, Range keys, float* scratch);

// Values of one head in pairs, those that queries [begin, end) see, packed once for many row blocks. They lie in this thread's memory
// until the next ones. Empty where values are no pairs, or are too many to be kept.
class PackedValues {
 public:
  PackedValues(const kernels::Kernels& kernel, const Problem& p, std::int64_t b,
               std::int64_t kv_head, Range queries);
  bool empty() const { return pairs_ == nullptr; }
  // Keys of one chunk.
  ValueChunk chunk(Range keys) const;

 private:
  int dim_;
  std::int64_t first_;  // a multiple of kMaxChunk
  const kernels::Pair* pairs_ = nullptr;
};

// Whether no value, nor scale, is Inf or NaN.
bool is_finite(const kernels::Kernels& kernel, const ValueChunk& values);

}  // namespace qkv
