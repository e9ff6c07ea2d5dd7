#include "tests/attention/cases.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace qkv::tests {
namespace {

Tensor<float> normal(const Shape4& shape, const Layout& layout, Random& random, float size) {
  Tensor<float> t(shape, layout);
  t.fill([&] { return size * random.normal(); });
  return t;
}

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

}  // namespace

Case::Case(const Sizes& s, std::uint64_t seed) : sizes(s) {
  Random random(seed);
  query = normal({s.batch, s.heads(), s.queries, s.dim}, {}, random, 1);
  key = normal({s.batch, s.heads_kv, s.keys, s.dim}, {}, random, 1);
  value = normal({s.batch, s.heads_kv, s.keys, s.dim_v}, {}, random, 1);
  plain.threads = 1;
}

AttentionOptions Case::options() const {
  AttentionOptions o = plain;
  o.mask = mask.view();
  o.bias = bias.view();
  if (!sinks.empty()) o.sinks = sinks;
  if (!slopes.empty()) o.alibi_slopes = slopes;
  if (!key_lengths.empty()) o.key_lengths = key_lengths;
  return o;
}

Problem Case::problem() const {
  const Tensor<float> out({sizes.batch, sizes.heads(), sizes.queries, sizes.dim_v}, {});
  return attention_problem(query.view(), key.view(), value.view(), options(),
                           {out.mutable_view(), {}, nullptr});
}

Result Case::run(bool traced, int threads) const {
  Result r;
  r.out = Tensor<float>({sizes.batch, sizes.heads(), sizes.queries, sizes.dim_v}, out_layout);
  r.lse.assign(static_cast<std::size_t>(sizes.batch * sizes.heads() * sizes.queries), 777);
  AttentionOptions o = options();
  if (threads >= 0) o.threads = threads;
  attention(query.view(), key.view(), value.view(), o,
            {r.out.mutable_view(), r.lse, traced ? &r.trace : nullptr});
  return r;
}

Case Case::dense() const {
  Case c;
  c.sizes = sizes;
  c.query = query.copy({});
  c.key = key.copy({});
  c.value = value.copy({});
  c.mask = mask.copy({});
  c.bias = bias.copy({});
  c.sinks = sinks;
  c.slopes = slopes;
  c.key_lengths = key_lengths;
  c.plain = plain;
  return c;
}

Case Case::part(Range batch, Range heads_kv, Range queries, Range keys) const {
  const Range heads = {heads_kv.begin * sizes.group, heads_kv.end * sizes.group};
  // where a dimension is 1 because the term repeats, it stays
  const auto cut = [](const auto& t, std::array<Range, 4> ranges) {
    auto c = t.copy({});
    if (t.data() == nullptr) return c;
    Shape4 shape{};
    for (std::size_t i = 0; i < 4; ++i) {
      if (ranges[i].begin < 0) ranges[i] = {0, t.shape()[i]};
      shape[i] = ranges[i].end - ranges[i].begin;
    }
    c = std::decay_t<decltype(c)>(shape, {});
    c.each([&](std::int64_t i, std::int64_t j, std::int64_t k, std::int64_t l) {
      c.at(i, j, k, l) =
          t.at(ranges[0].begin + i, ranges[1].begin + j, ranges[2].begin + k, ranges[3].begin + l);
    });
    return c;
  };
  const auto term_ranges = [&](const Shape4& s) {
    std::array<Range, 4> ranges = {batch, heads, queries, keys};
    for (std::size_t i = 0; i < 4; ++i)
      if (s[i] == 1) ranges[i] = {0, 1};
    return ranges;
  };
  const Range all = {-1, -1};
  Case c;
  c.sizes = sizes;
  c.sizes.batch = batch.end - batch.begin;
  c.sizes.heads_kv = heads_kv.end - heads_kv.begin;
  c.sizes.queries = queries.end - queries.begin;
  c.sizes.keys = keys.end - keys.begin;
  c.query = cut(query, {batch, heads, queries, all});
  c.key = cut(key, {batch, heads_kv, keys, all});
  c.value = cut(value, {batch, heads_kv, keys, all});
  c.mask = cut(mask, term_ranges(mask.shape()));
  c.bias = cut(bias, term_ranges(bias.shape()));
  if (!sinks.empty()) c.sinks.assign(sinks.begin() + heads.begin, sinks.begin() + heads.end);
  if (!slopes.empty()) c.slopes.assign(slopes.begin() + heads.begin, slopes.begin() + heads.end);
  for (std::int64_t b = batch.begin; b < batch.end && !key_lengths.empty(); ++b)
    c.key_lengths.push_back(static_cast<std::int32_t>(std::clamp<std::int64_t>(
        key_lengths[static_cast<std::size_t>(b)] - keys.begin, 0, c.sizes.keys)));
  c.plain = plain;
  return c;
}

bool Case::sees(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k) const {
  const std::int64_t keys =
      key_lengths.empty() ? sizes.keys : key_lengths[static_cast<std::size_t>(b)];
  const std::int64_t position = plain.causal == Causal::top_left ? q : q + keys - sizes.queries;
  if (k >= keys) return false;
  if (plain.causal != Causal::no && k > position) return false;
  if (plain.window.left >= 0 && k < position - plain.window.left) return false;
  if (plain.window.right >= 0 && k > position + plain.window.right) return false;
  const auto entry = [&](const auto& term) {
    const Shape4& s = term.shape();
    return term.at(s[0] == 1 ? 0 : b, s[1] == 1 ? 0 : h, s[2] == 1 ? 0 : q, s[3] == 1 ? 0 : k);
  };
  if (mask.data() != nullptr && !entry(mask)) return false;
  return bias.data() == nullptr || entry(bias) != -kInfinity;
}

std::string Case::describe() const {
  std::ostringstream text;
  text << "batch " << sizes.batch << ", heads " << sizes.heads() << "/" << sizes.heads_kv
       << ", queries " << sizes.queries << ", keys " << sizes.keys << ", d " << sizes.dim
       << ", d_v " << sizes.dim_v << ", scale "
       << (plain.scale ? std::to_string(*plain.scale) : "default") << ", causal "
       << static_cast<int>(plain.causal) << ", window (" << plain.window.left << ", "
       << plain.window.right << "), softcap " << plain.softcap
       << (mask.data() != nullptr ? ", mask" : "") << (bias.data() != nullptr ? ", bias" : "")
       << (sinks.empty() ? "" : ", sinks") << (slopes.empty() ? "" : ", alibi")
       << (key_lengths.empty() ? "" : ", key_lengths") << ", threads " << plain.threads
       << ", trace top " << plain.trace.top << " block " << plain.trace.block
       << (plain.trace.received ? " received" : "");
  return text.str();
}

Case random_case(std::uint64_t seed, bool large) {
  Random random(seed * 2 + (large ? 1 : 0));
  Case c(random_sizes(random, large), seed);
  const Sizes& s = c.sizes;
  constexpr float kMagnitudes[] = {0.1f, 1, 1, 3};
  const float magnitude = random.pick(kMagnitudes);
  c.query = normal(c.query.shape(), random_layout(random, true), random, magnitude);
  c.key = normal(c.key.shape(), random_layout(random, true), random, magnitude);
  c.value = normal(c.value.shape(), random_layout(random, true), random, random.pick(kMagnitudes));
  c.out_layout = random_layout(random, false);

  if (random.chance(0.3)) c.plain.scale = random.pick({0.0f, -0.5f, 0.05f, 1.0f});
  if (random.chance(0.4))
    c.plain.causal = random.chance(0.6) ? Causal::bottom_right : Causal::top_left;
  if (random.chance(0.25)) c.plain.window = {random.between(-1, 20), random.between(-1, 20)};
  if (random.chance(0.2)) c.plain.softcap = random.pick({0.5f, 5.0f, 50.0f});
  if (random.chance(0.25)) {
    c.mask = Tensor<bool>(repeating_shape(s, random), random_layout(random, true));
    constexpr double kDensities[] = {0, 0.1, 0.5, 0.9, 1};
    const double density = random.pick(kDensities);
    c.mask.fill([&] { return random.chance(density); });
  }
  if (random.chance(0.25)) {
    c.bias = Tensor<float>(repeating_shape(s, random), random_layout(random, true));
    const double hidden = random.chance(0.5) ? 0.2 : 0;
    c.bias.fill([&] { return random.chance(hidden) ? -kInfinity : 2 * random.normal(); });
  }
  if (random.chance(0.25))
    for (std::int64_t h = 0; h < s.heads(); ++h)
      c.sinks.push_back(random.chance(0.1) ? -kInfinity : 3 * random.normal());
  if (random.chance(0.2))
    for (std::int64_t h = 0; h < s.heads(); ++h) c.slopes.push_back(random.uniform(-0.1f, 0.7f));
  if (random.chance(0.25))
    for (std::int64_t b = 0; b < s.batch; ++b)
      c.key_lengths.push_back(random.between(0, static_cast<int>(s.keys)));
  c.plain.threads = random.chance(0.1) ? random.between(2, 4) : 1;
  c.plain.trace.top = random.pick({0, 1, 3, 8, 100});
  c.plain.trace.received = random.chance(0.5);
  c.plain.trace.block = random.pick({0, 0, 1, 7, 16, 64, 100, 128, 200});
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

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return same_bits(x, y); });
}

std::string row_difference(const RowAt& a, const RowAt& b) {
  const std::size_t i = row_index(a.call->sizes, a.b, a.h, a.q);
  const std::size_t j = row_index(b.call->sizes, b.b, b.h, b.q);
  for (std::int64_t d = 0; d < a.call->sizes.dim_v; ++d)
    if (!same_bits(a.result->out.at(a.b, a.h, a.q, d), b.result->out.at(b.b, b.h, b.q, d)))
      return "out[" + std::to_string(d) + "]";
  if (!same_bits(a.result->lse[i], b.result->lse[j])) return "lse";
  const Trace& s = a.result->trace;
  const Trace& t = b.result->trace;
  if (s.lse.empty() || t.lse.empty()) return "";
  if (!same_bits(s.lse[i], t.lse[j])) return "trace.lse";
  if (!same_bits(s.max[i], t.max[j])) return "trace.max";
  if (!same_bits(s.entropy[i], t.entropy[j])) return "trace.entropy";
  if (!same_bits(s.remainder[i], t.remainder[j])) return "trace.remainder";
  const auto top = static_cast<std::size_t>(s.top);
  for (std::size_t n = 0; n < top; ++n) {
    if (s.top_keys[i * top + n] != t.top_keys[j * top + n])
      return "trace.top_keys[" + std::to_string(n) + "]";
    if (!same_bits(s.top_weights[i * top + n], t.top_weights[j * top + n]))
      return "trace.top_weights[" + std::to_string(n) + "]";
  }
  return "";
}

std::string difference(const Result& a, const Result& b) {
  std::string found;
  a.out.each([&](std::int64_t i, std::int64_t h, std::int64_t t, std::int64_t d) {
    if (found.empty() && !same_bits(a.out.at(i, h, t, d), b.out.at(i, h, t, d)))
      found = "out at " + text_of({i, h, t, d});
  });
  const auto compare = [&](const char* name, bool same) {
    if (found.empty() && !same) found = name;
  };
  compare("lse", same_bits(a.lse, b.lse));
  compare("trace.lse", same_bits(a.trace.lse, b.trace.lse));
  compare("trace.max", same_bits(a.trace.max, b.trace.max));
  compare("trace.entropy", same_bits(a.trace.entropy, b.trace.entropy));
  compare("trace.top_keys", a.trace.top_keys == b.trace.top_keys);
  compare("trace.top_weights", same_bits(a.trace.top_weights, b.trace.top_weights));
  compare("trace.remainder", same_bits(a.trace.remainder, b.trace.remainder));
  compare("trace.received", same_bits(a.trace.received, b.trace.received));
  compare("trace.visible", a.trace.visible == b.trace.visible);
  compare("trace.block_mass", same_bits(a.trace.block_mass, b.trace.block_mass));
  compare("trace.block_max", same_bits(a.trace.block_max, b.trace.block_max));
  return found;
}

}  // namespace qkv::tests
