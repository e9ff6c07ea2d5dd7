// Prints the table of measured errors in docs/numerics.md: test_attention --gtest_filter='NumericsSlow.*'
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "qkv/isa.h"
#include "tests/attention/checks.h"

namespace qkv::tests {
namespace {

struct Shape {
  const char* options;
  Sizes sizes;
};

void add_options(Case& c, const std::string& options) {
  Random random(99);
  if (options == "causal") c.plain.causal = Causal::bottom_right;
  if (options == "softcap 30, sinks") {
    c.plain.softcap = 30;
    for (std::int64_t h = 0; h < c.sizes.heads(); ++h) c.sinks.push_back(random.normal());
  }
  if (options == "bias, ALiBi") {
    c.bias = Tensor<float>({1, 1, c.sizes.queries, c.sizes.keys}, {});
    c.bias.fill([&] { return 3 * random.normal(); });
    for (std::int64_t h = 0; h < c.sizes.heads(); ++h)
      c.slopes.push_back(0.25f / static_cast<float>(h + 1));
  }
  if (options == "scale 1") c.plain.scale = 1;  // scores as large as ±40
  for (const DType dtype : {DType::f16, DType::bf16})
    if (options.rfind(name_of(dtype), 0) == 0) {
      for (auto* t : {&c.query, &c.key, &c.value}) t->store_as(dtype);
      if (options == name_of(dtype)) c.out_type = dtype;
    }
  if (options == "int8 keys, values") {
    for (auto* t : {&c.key, &c.value}) {
      t->each([&](std::int64_t b, std::int64_t h, std::int64_t k, std::int64_t d) {
        t->at(b, h, k, d) *= 32;
      });
      t->store_as(DType::i8);
    }
    for (auto* scale : {&c.k_scale, &c.v_scale}) {
      *scale = Tensor<float>({1, 1, c.sizes.keys, 1}, {});
      scale->fill([&] { return random.uniform(0.9f, 1.1f) / 32; });
    }
  }
}

TEST(NumericsSlow, TableOfErrors) {
  const Shape shapes[] = {{"", {1, 1, 2, 64, 64, 16, 16}},
                          {"", {1, 1, 2, 64, 512, 64, 64}},
                          {"causal", {1, 1, 2, 512, 512, 64, 64}},
                          {"", {1, 1, 2, 32, 4096, 64, 64}},
                          {"", {1, 1, 2, 32, 2000, 128, 128}},
                          {"", {1, 1, 1, 32, 1000, 1024, 64}},
                          {"scale 1", {1, 1, 2, 64, 512, 64, 64}},
                          {"softcap 30, sinks", {1, 1, 2, 64, 512, 64, 64}},
                          {"bias, ALiBi", {1, 1, 2, 64, 512, 64, 64}},
                          {"float16", {1, 1, 2, 64, 512, 64, 64}},
                          {"float16, out float32", {1, 1, 2, 64, 512, 64, 64}},
                          {"bfloat16", {1, 1, 2, 64, 512, 64, 64}},
                          {"bfloat16, out float32", {1, 1, 2, 64, 512, 64, 64}},
                          {"int8 keys, values", {1, 1, 2, 64, 512, 64, 64}}};
  std::printf("Instruction set: %s\n", std::string(isa()).c_str());
  std::printf(
      "| d | keys | options | out | lse | trace weight | weights() | entropy "
      "|\n|---|---|---|---|---|---|---|---|\n");
  for (const Shape& shape : shapes) {
    Case c(shape.sizes, 7);
    add_options(c, shape.options);
    c.plain.trace.top = 32;
    const Exact exact(c);
    const Result got = c.run();
    Largest l;
    expect_matches(c, exact, got, &l);
    expect_trace_matches(c, exact, got, &l);
    expect_tile_matches(c, exact, got, {0, shape.sizes.queries}, {0, shape.sizes.keys}, &l);
    std::printf(
        "| %d | %d | %s | %.1e (%.1f%%) | %.1e (%.1f%%) | %.1e (%.1f%%) | %.1e (%.1f%%) | %.1e "
        "(%.1f%%) |\n",
        static_cast<int>(shape.sizes.dim), static_cast<int>(shape.sizes.keys), shape.options, l.out,
        100 * l.out_used, l.lse, 100 * l.lse_used, l.weight, 100 * l.weight_used, l.tile,
        100 * l.tile_used, l.entropy, 100 * l.entropy_used);
  }
}

}  // namespace
}  // namespace qkv::tests
