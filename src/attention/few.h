// Attention of few queries over few keys, as in a decoder's step: without panels, whose other lanes would stand empty. The
// bits are those of forward.h.
#pragma once

#include <cstdint>

#include "attention/problem.h"

namespace qkv {

// Whether attend_few() can do this problem.
bool is_few(const Problem& p);

// Output and, if lse is not null, log-sum-exp of all queries of head h of batch entry b; lse as in AttentionOutput.
void attend_few(const Problem& p, std::int64_t b, std::int64_t h, const MutableRows& out,
                float* lse);

}  // namespace qkv
