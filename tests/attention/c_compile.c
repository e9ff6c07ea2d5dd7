// What a C compiler makes of qkv/c.h, and a call with nothing but C: tests/attention/c_test.cc runs it.
#include "qkv/c.h"

#include <math.h>
#include <string.h>

// Null if all is well, else what is not.
const char* qkv_c_compile(void);

const char* qkv_c_compile(void) {
  const float query[1] = {1};
  const float key[2] = {1, 0};
  const float value[2] = {8, 4};
  float out[1] = {0};
  float lse[1] = {0};
  const qkv_tensor q = qkv_dense(query, QKV_F32, 1, 1, 1, 1);
  const qkv_tensor k = qkv_dense(key, QKV_F32, 1, 1, 2, 1);
  const qkv_tensor v = qkv_dense(value, QKV_F32, 1, 1, 2, 1);
  qkv_options options = QKV_OPTIONS_DEFAULT;
  qkv_output output = QKV_OUTPUT_DEFAULT;
  qkv_part part = QKV_PART_DEFAULT;
  qkv_trace trace = QKV_TRACE_DEFAULT;
  qkv_gradients gradients = QKV_GRADIENTS_DEFAULT;
  (void)gradients;
  options.has_scale = 1;
  options.scale = logf(3.0f);
  output.out = qkv_dense(out, QKV_F32, 1, 1, 1, 1);
  output.lse = lse;
  output.lse_size = 1;
  if (qkv_attention(&q, &k, &v, &options, &output) != QKV_OK) return qkv_last_error();
  if (fabsf(out[0] - 7) > 1e-5f || fabsf(lse[0] - logf(4.0f)) > 1e-5f) return "numbers are wrong";
  part.out = output.out;
  part.lse = lse;
  part.lse_size = 1;
  if (qkv_merge(&part, 1, &output) != QKV_OK) return qkv_last_error();
  if (fabsf(out[0] - 7) > 1e-5f) return "merge changed its only part";
  if (qkv_trace_sizes(&q, &k, &options, &trace) != QKV_OK) return qkv_last_error();
  if (trace.rows != 1 || trace.columns != 2) return "sizes of the trace are wrong";
  if (qkv_attention(NULL, &k, &v, &options, &output) != QKV_INVALID_ARGUMENT)
    return "a null pointer was taken";
  if (strstr(qkv_last_error(), "query") == NULL) return "the error does not name the argument";
  return NULL;
}
