// The call of main.cc, from C.
#include <math.h>
#include <qkv/c.h>
#include <stdio.h>

int main(void) {
  const float query[] = {1.0F};
  const float key[] = {1.0F, 0.0F};
  const float value[] = {8.0F, 4.0F};
  float out[] = {0.0F};
  float lse[] = {0.0F};

  qkv_tensor q = qkv_dense(query, QKV_F32, 1, 1, 1, 1);
  qkv_tensor k = qkv_dense(key, QKV_F32, 1, 1, 2, 1);
  qkv_tensor v = qkv_dense(value, QKV_F32, 1, 1, 2, 1);
  qkv_options options = QKV_OPTIONS_DEFAULT;
  options.has_scale = 1;
  options.scale = logf(3.0F);
  qkv_output output = QKV_OUTPUT_DEFAULT;
  output.out = qkv_dense(out, QKV_F32, 1, 1, 1, 1);
  output.lse = lse;
  output.lse_size = 1;
  if (qkv_attention(&q, &k, &v, &options, &output) != QKV_OK) {
    fprintf(stderr, "%s\n", qkv_last_error());
    return 1;
  }
  printf("out %.5f lse %.5f\n", (double)out[0], (double)lse[0]);
  return 0;
}
