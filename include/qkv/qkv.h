// Start here. qkv is an exact attention engine: softmax(Q·Kᵀ / √d_k)·V, in O(N) memory, bitwise repeatable, and able to
// say what each query looked at. The headers, in the order in which they are best read:
//
//   tensor.h      views over memory that you own: [batch, heads, tokens, head_dim]
//   attention.h   attention(), its options, and where the result goes; merge() and weights()
//   trace.h       what a query looked at: top keys, entropy, received mass, block maps
//   memory.h      attention over rows that arrive one at a time: states that merge and travel, sliding windows
//   index.h       attention over a large memory that reads the rows that matter, with a certified error
//   threads.h     how many threads, and an embedding program's own pool
//   isa.h         which instruction set runs, and the version
//   c.h           all of it for C and for languages that call C; not included here
#pragma once

#include "qkv/attention.h"
#include "qkv/index.h"
#include "qkv/isa.h"
#include "qkv/memory.h"
#include "qkv/tensor.h"
#include "qkv/threads.h"
#include "qkv/trace.h"
