// Attention from C: four tokens of a toy sentence, each looking back at what came before, and what it looked at most.
//
//   make examples && build/release/examples/attention
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "qkv/c.h"

enum { kTokens = 4, kDim = 2 };

int main(void) {
  static const char* const words[kTokens] = {"the", "cat", "saw", "itself"};
  const float queries[kTokens][kDim] = {{1, 0}, {0, 1}, {1, 1}, {0, 6}};
  const float keys[kTokens][kDim] = {{1, 0}, {0, 1}, {1, -1}, {-1, 0}};
  const float values[kTokens][kDim] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
  float out[kTokens][kDim];

  const qkv_tensor query = qkv_dense(queries, QKV_F32, 1, 1, kTokens, kDim);
  const qkv_tensor key = qkv_dense(keys, QKV_F32, 1, 1, kTokens, kDim);
  const qkv_tensor value = qkv_dense(values, QKV_F32, 1, 1, kTokens, kDim);
  qkv_options options = QKV_OPTIONS_DEFAULT;
  options.causal = QKV_BOTTOM_RIGHT;

  // The arrays of a trace are the caller's: say how much is wanted, ask for the sizes, give the memory.
  qkv_trace trace = QKV_TRACE_DEFAULT;
  trace.top = 1;
  if (qkv_trace_sizes(&query, &key, &options, &trace) != QKV_OK) {
    fprintf(stderr, "%s\n", qkv_last_error());
    return 1;
  }
  trace.entropy = malloc((size_t)trace.rows * sizeof *trace.entropy);
  trace.top_keys = malloc((size_t)trace.tops * sizeof *trace.top_keys);
  trace.top_weights = malloc((size_t)trace.tops * sizeof *trace.top_weights);

  qkv_output output = QKV_OUTPUT_DEFAULT;
  output.out = qkv_dense(out, QKV_F32, 1, 1, kTokens, kDim);
  output.trace = &trace;
  int status = QKV_NO_MEMORY;
  if (trace.entropy != NULL && trace.top_keys != NULL && trace.top_weights != NULL)
    status = qkv_attention(&query, &key, &value, &options, &output);
  if (status != QKV_OK) fprintf(stderr, "%s\n", qkv_last_error());

  for (int i = 0; status == QKV_OK && i < kTokens; ++i)
    printf("%-7s out (%5.2f, %5.2f)  looks at %-4s %3.0f%%  as if at %.1f words\n", words[i],
           (double)out[i][0], (double)out[i][1], words[trace.top_keys[i]],
           100 * (double)trace.top_weights[i], exp((double)trace.entropy[i]));
  free(trace.entropy);
  free(trace.top_keys);
  free(trace.top_weights);
  return status;
}
