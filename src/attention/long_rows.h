// Traced rows with so many keys that their weights could not stay in cache, nor perhaps in memory.
#pragma once

#include "attention/forward.h"
#include "attention/record.h"

namespace qkv {

// The rows of one panel: output, `lse` (unless null, one for each row) and trace, of the bits that forward_rows and a kept strip
// would give. The keys are shared by threads at the ends of stretches. No weight is kept: once the rows' sums are known, scores
// are computed again, a stretch at a time, and if nothing but the largest weights is asked for, in those stretches only that
// may hold one. So memory beyond the trace is 8 bytes for each row and chunk of keys, and a fixed amount.
void trace_long_rows(const RowBlock& block, int threads, const MutableRows& out, float* lse,
                     const TraceRecorder& recorder, TraceRecorder::Sums& sums);

}  // namespace qkv
