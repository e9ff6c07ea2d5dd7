// Calls drawn from a seed.
#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "tests/attention/cases.h"

namespace qkv::tests {
namespace {

Sizes random_sizes(Random& random, bool large) {
  Sizes s;
  s.batch = random.between(1, 3);
  s.heads_kv = random.between(1, 3);
  s.group = random.chance(0.5) ? 1 : random.between(2, 4);
  s.queries = random.chance(0.2) ? 1 : random.between(1, 40);
  s.keys = random.chance(0.2) ? s.queries : random.between(1, 70);
  constexpr int kDims[] = {1, 2, 3, 5, 8, 12, 16, 17, 24, 31, 32, 33, 40, 64};
  s.dim = random.pick(kDims);
  s.dim_v = random.chance(0.5) ? s.dim : random.pick(kDims);
  const int kind = random.below(large ? 3 : 40);
  if (kind == 0) {  // several chunks of 128 keys, sometimes several stretches of 1024
    s.batch = s.heads_kv = 1;
    s.queries = random.between(1, large ? 40 : 5);
    s.keys = random.between(200, large ? 5000 : 1500);
  } else if (kind == 1) {  // wide heads
    constexpr int kWide[] = {65, 96, 100, 128, 192, 255, 256, 257, 512, 1000, 1024};
    s.dim = random.pick(kWide);
    s.dim_v = random.chance(0.5) ? s.dim : random.pick(kWide);
    s.batch = 1;
    s.queries = random.between(1, 12);
    s.keys = random.between(1, large ? 600 : 30);
  } else if (kind == 2) {  // several blocks of 128 rows
    s.batch = s.heads_kv = 1;
    s.group = random.between(1, 2);
    s.queries = random.between(100, large ? 700 : 300);
    s.keys = random.between(1, large ? 900 : 150);
    s.dim = random.between(1, 16);
  } else if (kind == 3) {  // something is empty
    std::int64_t* const any[] = {&s.batch, &s.heads_kv, &s.queries, &s.keys};
    *any[random.below(4)] = 0;
  }
  return s;
}

Shape4 repeating_shape(const Sizes& s, Random& random) {
  Shape4 shape = {s.batch, s.heads(), s.queries, s.keys};
  for (auto& size : shape)
    if (random.chance(0.3)) size = 1;
  return shape;
}

// What the numbers of a call are stored as.
struct Types {
  DType query = DType::f32, key = DType::f32, value = DType::f32, out = DType::f32;
};

Types random_types(Random& random) {
  constexpr DType kFloats[] = {DType::f32, DType::f16, DType::bf16};
  Types t;
  if (random.chance(0.2)) return t;
  t.query = random.pick(kFloats);
  t.key = random.chance(0.3) ? DType::i8 : t.query;
  t.value = random.chance(0.3) ? DType::i8 : t.query;
  t.out = random.chance(0.4) ? t.query : random.pick(kFloats);
  return t;
}

// Numbers of variance size², or, for int8, numbers that times their scale are about that.
void fill_as(Tensor<float>& t, DType dtype, Random& random, float size) {
  const float factor = dtype == DType::i8 ? 40 : size;
  t.fill([&] { return factor * random.normal(); });
  t.store_as(dtype);
}

Tensor<float> random_scale(const Tensor<float>& of, Random& random, float size) {
  Shape4 shape = of.shape();
  shape[3] = 1;
  for (std::size_t i = 0; i < 3; ++i)
    if (random.chance(0.4)) shape[i] = 1;
  Tensor<float> scale(shape, random_layout(random, true));
  scale.fill([&] {
    const float sign = random.chance(0.02) ? 0.0f : random.chance(0.05) ? -1.0f : 1.0f;
    return sign * random.uniform(0.5f, 1.5f) * size / 40;
  });
  return scale;
}

std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> starts = {0};
  for (const std::int32_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

// Lengths up to `longest` for each entry; sets it to the longest.
std::vector<std::int32_t> random_lengths(Random& random, std::int64_t batch,
                                         std::int64_t& longest) {
  std::vector<std::int32_t> lengths;
  for (std::int64_t b = 0; b < batch; ++b)
    lengths.push_back(random.chance(0.15) ? 0 : random.between(0, static_cast<int>(longest)));
  longest = 0;
  for (const std::int32_t length : lengths) longest = std::max<std::int64_t>(longest, length);
  return lengths;
}

// Pages for key_lengths: in any order, some shared by entries, some used by nobody. Returns how many there are.
std::int64_t random_pages(Random& random, Case& c, std::int64_t page) {
  std::int64_t width = 1;
  for (const std::int32_t length : c.key_lengths)
    width = std::max(width, (length + page - 1) / page);
  width += random.below(3);
  std::int64_t wanted = random.below(3);
  for (const std::int32_t length : c.key_lengths) wanted += (length + page - 1) / page;
  const std::int64_t pages = wanted + 1;
  std::vector<std::int32_t> free(static_cast<std::size_t>(pages));
  for (std::size_t i = 0; i < free.size(); ++i) {  // shuffled
    free[i] = static_cast<std::int32_t>(i);
    std::swap(free[i], free[static_cast<std::size_t>(random.below(static_cast<int>(i) + 1))]);
  }
  c.block_table.assign(static_cast<std::size_t>(c.sizes.batch * width), -77);
  for (std::size_t b = 0; b < c.key_lengths.size(); ++b)
    for (std::int64_t i = 0; i * page < c.key_lengths[b]; ++i) {
      const auto at = b * static_cast<std::size_t>(width) + static_cast<std::size_t>(i);
      const bool shares = b > 0 && random.chance(0.2) && (i + 1) * page <= c.key_lengths[b - 1];
      c.block_table[at] =
          shares ? c.block_table[at - static_cast<std::size_t>(width)] : free.back();
      if (!shares) free.pop_back();
    }
  return pages;
}

// Makes the call, still without numbers, one of packed sequences or of pages.
void reform(Case& c, Random& random) {
  Sizes& s = c.sizes;
  Shape4 query = c.query.shape();
  Shape4 key = c.key.shape();
  const bool packs_queries = random.chance(0.5);
  const int keys = random.below(3);  // dense, packed, paged
  if (!packs_queries && keys == 0) return;
  s.batch = random.between(0, 5);
  query[0] = key[0] = s.batch;
  if (packs_queries) {
    c.starts_q = starts_of(random_lengths(random, s.batch, s.queries));
    query = {1, s.heads(), c.starts_q.back(), s.dim};
  }
  if (keys == 1) {
    c.starts_k = starts_of(random_lengths(random, s.batch, s.keys));
    key = {1, s.heads_kv, c.starts_k.back(), s.dim};
  } else if (keys == 2 && s.batch > 0) {
    c.key_lengths = random_lengths(random, s.batch, s.keys);
    const std::int64_t page = random.pick({1, 3, 16, 64, 128, 200});
    key = {random_pages(random, c, page), s.heads_kv, page, s.dim};
  }
  c.query = Tensor<float>(query, {});
  c.key = Tensor<float>(key, {});
  key[3] = s.dim_v;
  c.value = Tensor<float>(key, {});
}

}  // namespace

Case random_case(std::uint64_t seed, bool large, Draw draw) {
  Random random(seed * 2 + (large ? 1 : 0));
  Random form(~seed * 2 +
              (large ? 1 : 0));  // what is not drawn leaves the other numbers as they are
  Case c(random_sizes(random, large), seed);
  const Types types = draw == Draw::floats ? Types{} : random_types(form);
  if (draw == Draw::any) reform(c, form);
  const Sizes& s = c.sizes;
  constexpr float kMagnitudes[] = {0.1f, 1, 1, 3};
  const float magnitude = random.pick(kMagnitudes);
  const auto numbers = [&](const Shape4& shape, DType dtype, float size) {
    Tensor<float> t(shape, random_layout(random, true));
    fill_as(t, dtype, random, size);
    return t;
  };
  c.query = numbers(c.query.shape(), types.query, magnitude);
  c.key = numbers(c.key.shape(), types.key, magnitude);
  float value_size = random.pick(kMagnitudes);
  // beyond what a half holds, and among its subnormal numbers
  if (types.out == DType::f16 && form.chance(0.2)) value_size = form.pick({1e-7f, 1e-5f, 1e4f});
  if (types.out == DType::f16 && types.value != DType::f16 && form.chance(0.1)) value_size = 5e4f;
  c.value = numbers(c.value.shape(), types.value, value_size);
  if (types.key == DType::i8) c.k_scale = random_scale(c.key, form, magnitude);
  if (types.value == DType::i8) c.v_scale = random_scale(c.value, form, value_size);
  c.out_type = types.out;
  c.out_layout = random_layout(random, false);

  if (random.chance(0.3)) c.plain.scale = random.pick({0.0f, -0.5f, 0.05f, 1.0f});
  if (random.chance(0.4))
    c.plain.causal = random.chance(0.6) ? Causal::bottom_right : Causal::top_left;
  if (random.chance(0.25)) c.plain.window = {random.between(-1, 20), random.between(-1, 20)};
  if (random.chance(0.2)) c.plain.softcap = random.pick({0.5f, 5.0f, 50.0f});
  if (random.chance(0.25) && !c.packed()) {
    c.mask = Tensor<bool>(repeating_shape(s, random), random_layout(random, true));
    constexpr double kDensities[] = {0, 0.1, 0.5, 0.9, 1};
    const double density = random.pick(kDensities);
    c.mask.fill([&] { return random.chance(density); });
  }
  if (random.chance(0.25) && !c.packed()) {
    c.bias = Tensor<float>(repeating_shape(s, random), random_layout(random, true));
    const double hidden = random.chance(0.5) ? 0.2 : 0;
    c.bias.fill([&] { return random.chance(hidden) ? -kInfinity : 2 * random.normal(); });
  }
  if (random.chance(0.25))
    for (std::int64_t h = 0; h < s.heads(); ++h)
      c.sinks.push_back(random.chance(0.1) ? -kInfinity : 3 * random.normal());
  if (random.chance(0.2))
    for (std::int64_t h = 0; h < s.heads(); ++h) c.slopes.push_back(random.uniform(-0.1f, 0.7f));
  if (random.chance(0.25) && c.starts_k.empty() && c.block_table.empty())
    for (std::int64_t b = 0; b < s.batch; ++b)
      c.key_lengths.push_back(random.between(0, static_cast<int>(s.keys)));
  c.plain.threads = random.chance(0.1) ? random.between(2, 4) : 1;
  c.plain.trace.top = random.pick({0, 1, 3, 8, 100});
  c.plain.trace.received = random.chance(0.5);
  c.plain.trace.block = random.pick({0, 0, 1, 7, 16, 64, 100, 128, 200});
  if (!c.block_table.empty())
    c.poison_keys_but([](std::int64_t, std::int64_t, std::int64_t) { return true; });
  return c;
}

int scaled(int count) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__aarch64__) || \
    !defined(__OPTIMIZE__)
  constexpr double kDefault = 0.1;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  constexpr double kDefault = 0.1;
#else
  constexpr double kDefault = 1;
#endif
#else
  constexpr double kDefault = 1;
#endif
  const char* asked = std::getenv("QKV_TEST_SCALE");
  const double scale = asked != nullptr ? std::atof(asked) : kDefault;
  return std::max(1, static_cast<int>(count * scale));
}

}  // namespace qkv::tests
