// Attention of few queries, as in a decoder's step: all query rows that share a key/value head are worked on together, so that
// keys and values are streamed through once, in the type in which they are stored. The bits are those of forward.h.
#pragma once

#include <cstdint>

#include "attention/decode_trace.h"
#include "attention/problem.h"
#include "kernels/bf16_dots.h"

namespace qkv {

// Whether this problem has so few queries that decode() is the faster way.
bool is_decode(const Problem& p);

// Whether queries, keys and values are bfloat16 and multiplied in pairs by the instruction set's own dot product, whose
// roundings differ from those of widened numbers. Prefill and decode must agree on it, or they differ in bits: false until
// prefill can.
bool uses_bf16_dots(const Problem& p);
// The dot products to hand to decode(): null where numbers are widened.
const kernels::Bf16DotKernels* bf16_dots_of(const Problem& p);

// Output and, if lse is not null, log-sum-exp of every row; lse as in AttentionOutput. A trace is given every row's weights and what
// they add up to.
void decode(const Problem& p, const MutableRows& out, float* lse, int threads,
            const kernels::Bf16DotKernels* dots, DecodeTrace* trace = nullptr);

}  // namespace qkv
