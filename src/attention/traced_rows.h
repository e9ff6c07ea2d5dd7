// How the rows of a traced call are worked on; it changes no bit of a row.
#pragma once

#include <cstdint>

#include "attention/problem.h"
#include "kernels/kernels.h"

namespace qkv {

struct TracedRows {
  const kernels::Kernels* kernel;
  std::int64_t count;  // rows at a time
  bool are_long;       // one panel of them, by trace_long_rows
};

// What attention() takes, given the panels that suit the queries.
TracedRows traced_rows(const Problem& p, const kernels::Kernels& widest);

// attention() with a trace, its arguments checked.
void attention_traced(const Problem& problem, const AttentionOptions& options,
                      const AttentionOutput& output, const TracedRows& rows);

}  // namespace qkv
