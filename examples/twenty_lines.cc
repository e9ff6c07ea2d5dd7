// Attention in twenty lines: "The apple hangs in the tree, and I eat it". What is "it"?
//
//   make examples && build/release/examples/twenty_lines
//
// By hand: query·key is 8, 4 and 0; divided by √d_k = 2 the scores are 4, 2 and 0; the weights are e⁴, e² and e⁰ over their
// sum, 54.598 + 7.389 + 1 = 62.987. A key says how a word is found, a value what is taken from it: here the keys are 4 wide
// and the values 2, and nothing but their order joins them.
#include <cmath>
#include <cstdio>
#include <numeric>

#include "qkv/qkv.h"

int main() {
  const char* words[] = {"apple", "tree", "eat"};
  // how much each is a    thing, plant, deed, food; "it" is eaten, so it looks for a thing that is food
  const float query[] = {2, 0, 0, 2};
  const float keys[] = {2, 0, 0, 2, /* apple */ 2, 1, 0, 0, /* tree */ 0, 0, 2, 0 /* eat */};
  const float values[] = {1, 0.1F, /* red, 10 cm high */ 0, 6, /* not red, 6 m */ 0, 0};
  const qkv::TensorView q(query, {1, 1, 1, 4}), k(keys, {1, 1, 3, 4}), v(values, {1, 1, 3, 2});

  float out[2], lse[1], weights[3];
  qkv::attention(q, k, v, {}, {{out, {1, 1, 1, 2}}, lse, nullptr});
  qkv::weights(q, k, {}, lse, {0, 1}, {0, 3}, {weights, {1, 1, 1, 3}});

  for (int i = 0; i < 3; ++i) {
    const double score =
        std::inner_product(query, query + 4, keys + std::ptrdiff_t{4} * i, 0.0) / 2;
    std::printf("it · %-5s  score %.0f  weight %.4f\n", words[i], score, double{weights[i]});
  }
  std::printf("so \"it\" is %.4f red and %.4f m high\n", double{out[0]}, double{out[1]});
  const double by_hand = std::exp(4) / (std::exp(4) + std::exp(2) + 1);
  return std::fabs(double{out[0]} - by_hand) < 1e-6 ? 0 : 1;
}
