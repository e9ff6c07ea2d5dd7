// Attention over two keys, checked by hand: scores (1, 0)·scale with scale ln 3 give weights 3/4 and 1/4.
#include <qkv/qkv.h>

#include <cmath>
#include <cstdio>

int main() {
  const float query[] = {1.0F};
  const float key[] = {1.0F, 0.0F};
  const float value[] = {8.0F, 4.0F};
  float out[] = {0.0F};
  float lse[] = {0.0F};

  qkv::AttentionOptions options;
  options.scale = std::log(3.0F);
  qkv::AttentionOutput output;
  output.out = qkv::MutableTensorView(out, {1, 1, 1, 1});
  output.lse = lse;
  qkv::attention(qkv::TensorView(query, {1, 1, 1, 1}), qkv::TensorView(key, {1, 1, 2, 1}),
                 qkv::TensorView(value, {1, 1, 2, 1}), options, output);

  std::printf("out %.5f lse %.5f\n", static_cast<double>(out[0]), static_cast<double>(lse[0]));
  return std::abs(out[0] - 7.0F) < 1e-5F && std::abs(lse[0] - std::log(4.0F)) < 1e-5F ? 0 : 1;
}
