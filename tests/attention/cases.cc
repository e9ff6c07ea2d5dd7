#include "tests/attention/cases.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <unordered_set>

namespace qkv::tests {

Case::Case(const Sizes& s, std::uint64_t seed) : sizes(s) {
  Random random(seed);
  const auto normal = [&](const Shape4& shape) {
    Tensor<float> t(shape, {});
    t.fill([&] { return random.normal(); });
    return t;
  };
  query = normal({s.batch, s.heads(), s.queries, s.dim});
  key = normal({s.batch, s.heads_kv, s.keys, s.dim});
  value = normal({s.batch, s.heads_kv, s.keys, s.dim_v});
  plain.threads = 1;
}

AttentionOptions Case::options() const {
  AttentionOptions o = plain;
  o.mask = mask.view();
  o.bias = bias.view();
  if (!sinks.empty()) o.sinks = sinks;
  if (!slopes.empty()) o.alibi_slopes = slopes;
  if (!key_lengths.empty()) o.key_lengths = key_lengths;
  o.k_scale = k_scale.view();
  o.v_scale = v_scale.view();
  if (!starts_q.empty()) o.cu_seqlens_q = starts_q;
  if (!starts_k.empty()) o.cu_seqlens_k = starts_k;
  if (!block_table.empty()) o.block_table = block_table;
  return o;
}

Problem Case::problem() const {
  const Tensor<float> out(out_shape(), {});
  return attention_problem(query.view(), key.view(), value.view(), options(),
                           {out.mutable_view(), {}, nullptr});
}

Result Case::run(bool traced, int threads) const {
  Result r;
  r.out = Tensor<float>(out_shape(), out_layout);
  r.out.store_as(out_type);
  r.lse.assign(rows(), 777);
  AttentionOptions o = options();
  if (threads >= 0) o.threads = threads;
  attention(query.view(), key.view(), value.view(), o,
            {r.out.mutable_view(), r.lse, traced ? &r.trace : nullptr});
  r.out.read_back();
  return r;
}

Case Case::dense() const {
  Case c;
  c.sizes = sizes;
  c.query = query.copy({});
  c.key = key.copy({});
  c.value = value.copy({});
  c.k_scale = k_scale.copy({});
  c.v_scale = v_scale.copy({});
  c.starts_q = starts_q;
  c.starts_k = starts_k;
  c.block_table = block_table;
  c.out_type = out_type;
  c.mask = mask.copy({});
  c.bias = bias.copy({});
  c.sinks = sinks;
  c.slopes = slopes;
  c.key_lengths = key_lengths;
  c.plain = plain;
  return c;
}

Case Case::widened() const {
  Case c = dense();
  const auto widen = [](Tensor<float>& t, Tensor<float>& scale) {
    t.store_as(DType::f32);
    if (scale.data() == nullptr) return;
    const Shape4& s = scale.shape();
    t.each([&](std::int64_t b, std::int64_t g, std::int64_t k, std::int64_t d) {
      t.at(b, g, k, d) *= scale.at(s[0] == 1 ? 0 : b, s[1] == 1 ? 0 : g, s[2] == 1 ? 0 : k, 0);
    });
    scale = Tensor<float>();
  };
  c.query.store_as(DType::f32);
  widen(c.key, c.k_scale);
  widen(c.value, c.v_scale);
  return c;
}

Case Case::alone(std::int64_t b) const {
  Case c;
  c.sizes = sizes;
  c.sizes.batch = 1;
  c.sizes.queries = query_length(b);
  c.sizes.keys = key_length(b);
  c.query = Tensor<float>({1, sizes.heads(), c.sizes.queries, sizes.dim}, {});
  c.query.each([&](std::int64_t, std::int64_t h, std::int64_t q, std::int64_t d) {
    c.query.at(0, h, q, d) = query_at(b, h, q, d);
  });
  c.query.store_as(query.dtype());
  const auto keys_of = [&](const Tensor<float>& of, std::int64_t dim) {
    if (of.data() == nullptr) return Tensor<float>();
    Tensor<float> t({1, sizes.heads_kv, c.sizes.keys, dim}, {});
    t.each([&](std::int64_t, std::int64_t g, std::int64_t k, std::int64_t d) {
      t.at(0, g, k, d) = key_at(of, b, g, k, d);
    });
    t.store_as(of.dtype());
    return t;
  };
  c.key = keys_of(key, sizes.dim);
  c.value = keys_of(value, sizes.dim_v);
  c.k_scale = keys_of(k_scale, 1);
  c.v_scale = keys_of(v_scale, 1);
  const auto term_of = [&](const auto& term) {
    auto t = term.copy({});
    if (term.data() == nullptr) return t;
    Shape4 shape = term.shape();
    shape[0] = 1;
    if (shape[3] > 1) shape[3] = c.sizes.keys;
    t = std::decay_t<decltype(t)>(shape, {});
    t.each([&](std::int64_t, std::int64_t h, std::int64_t q, std::int64_t k) {
      t.at(0, h, q, k) = term.at(term.shape()[0] == 1 ? 0 : b, h, q, k);
    });
    return t;
  };
  c.mask = term_of(mask);
  c.bias = term_of(bias);
  c.sinks = sinks;
  c.slopes = slopes;
  c.out_type = out_type;
  c.plain = plain;
  return c;
}

std::int64_t Case::query_length(std::int64_t b) const {
  const auto i = static_cast<std::size_t>(b);
  return starts_q.empty() ? sizes.queries : starts_q[i + 1] - starts_q[i];
}

std::int64_t Case::key_length(std::int64_t b) const {
  const auto i = static_cast<std::size_t>(b);
  if (!key_lengths.empty()) return key_lengths[i];
  return starts_k.empty() ? sizes.keys : starts_k[i + 1] - starts_k[i];
}

Shape4 Case::out_shape() const {
  if (!starts_q.empty()) return {1, sizes.heads(), starts_q.back(), sizes.dim_v};
  return {sizes.batch, sizes.heads(), sizes.queries, sizes.dim_v};
}

std::size_t Case::row(std::int64_t b, std::int64_t h, std::int64_t q) const {
  if (starts_q.empty()) return row_index(sizes, b, h, q);
  return static_cast<std::size_t>(h * starts_q.back() + starts_q[static_cast<std::size_t>(b)] + q);
}

std::size_t Case::rows() const {
  const Shape4 shape = out_shape();
  return static_cast<std::size_t>(shape[0] * shape[1] * shape[2]);
}

std::size_t Case::column(std::int64_t b, std::int64_t h, std::int64_t k) const {
  return static_cast<std::size_t>(starts_k.empty() ? (b * sizes.heads() + h) * sizes.keys + k
                                                   : h * starts_k.back() +
                                                         starts_k[static_cast<std::size_t>(b)] + k);
}

std::size_t Case::columns() const {
  return static_cast<std::size_t>(sizes.heads() *
                                  (starts_k.empty() ? sizes.batch * sizes.keys : starts_k.back()));
}

float& Case::query_at(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t d) const {
  return starts_q.empty() ? query.at(b, h, q, d)
                          : query.at(0, h, starts_q[static_cast<std::size_t>(b)] + q, d);
}

float& Case::key_at(const Tensor<float>& of, std::int64_t b, std::int64_t g, std::int64_t k,
                    std::int64_t d) const {
  if (!block_table.empty()) {
    const std::int64_t page = key.shape()[2];
    const std::int64_t width = static_cast<std::int64_t>(block_table.size()) / sizes.batch;
    b = block_table[static_cast<std::size_t>(b * width + k / page)];
    k %= page;
  } else if (!starts_k.empty()) {
    k += starts_k[static_cast<std::size_t>(b)];
    b = 0;
  }
  const Shape4& s = of.shape();
  return of.at(s[0] == 1 ? 0 : b, s[1] == 1 ? 0 : g, s[2] == 1 ? 0 : k, d);
}

float Case::out_at(const Result& r, std::int64_t b, std::int64_t h, std::int64_t q,
                   std::int64_t d) const {
  return starts_q.empty() ? r.out.at(b, h, q, d)
                          : r.out.at(0, h, starts_q[static_cast<std::size_t>(b)] + q, d);
}

void Case::poison_keys_but(
    const std::function<bool(std::int64_t b, std::int64_t g, std::int64_t k)>& seen) {
  Tensor<float>* const all[] = {&key, &value, &k_scale, &v_scale};
  std::unordered_set<const float*> kept;  // rows; one may stand for several keys
  for (std::int64_t b = 0; b < sizes.batch; ++b)
    for (std::int64_t g = 0; g < sizes.heads_kv; ++g)
      for (std::int64_t k = 0; k < key_length(b); ++k)
        for (const Tensor<float>* t : all)
          if (t->data() != nullptr && seen(b, g, k)) kept.insert(&key_at(*t, b, g, k, 0));
  for (Tensor<float>* t : all)
    t->each([&](std::int64_t b, std::int64_t g, std::int64_t k, std::int64_t d) {
      if (kept.count(&t->at(b, g, k, 0)) != 0) return;
      t->at(b, g, k, d) = (k + d) % 3 == 0 ? kNaN : (k + d) % 3 == 1 ? kInfinity : -kInfinity;
    });
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
    if constexpr (std::is_same_v<decltype(c), Tensor<float>>) c.store_as(t.dtype());
    return c;
  };
  const auto repeating = [](const Shape4& s, std::array<Range, 4> ranges) {
    for (std::size_t i = 0; i < 4; ++i)
      if (s[i] == 1) ranges[i] = {0, 1};
    return ranges;
  };
  const auto term_ranges = [&](const Shape4& s) {
    return repeating(s, {batch, heads, queries, keys});
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
  c.k_scale = cut(k_scale, repeating(k_scale.shape(), {batch, heads_kv, keys, {0, 1}}));
  c.v_scale = cut(v_scale, repeating(v_scale.shape(), {batch, heads_kv, keys, {0, 1}}));
  c.out_type = out_type;
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
  const std::int64_t keys = key_length(b);
  const std::int64_t position = plain.causal == Causal::top_left ? q : q + keys - query_length(b);
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
  const auto list = [&](const char* name, const std::vector<std::int32_t>& numbers) {
    if (numbers.empty()) return;
    text << ", " << name;
    for (const std::int32_t n : numbers) text << ' ' << n;
  };
  const auto scale = [&](const char* name, const Tensor<float>& t) {
    if (t.data() != nullptr) text << ", " << name << ' ' << text_of(t.shape());
  };
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
       << (plain.trace.received ? " received" : "") << ", " << name_of(query.dtype()) << ' '
       << name_of(key.dtype()) << ' ' << name_of(value.dtype()) << " → " << name_of(out_type);
  scale("k_scale", k_scale);
  scale("v_scale", v_scale);
  list("cu_seqlens_q", starts_q);
  list("cu_seqlens_k", starts_k);
  list("lengths", key_lengths);
  if (!block_table.empty()) text << ", pages of " << key.shape()[2] << " tokens";
  return text.str();
}

}  // namespace qkv::tests
