// Calls of attention(), attention_backward(), weights() and merge() drawn from bytes, right and wrong. Each array has memory of exactly its reach, so
// that the address sanitizer sees the first byte too far; a call that is refused must have written nothing.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <vector>

#include "qkv/attention.h"

namespace {

constexpr std::int64_t kLargest = 1 << 16;  // bytes of one tensor; keeps a call fast
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// Memory of one call. Each block is an allocation of its own.
class Memory {
 public:
  explicit Memory(FuzzedDataProvider& bytes) : bytes_(bytes) {}

  // A view of this shape and type: dense, permuted or with any strides, filled from a few drawn bytes.
  qkv::MutableTensorView tensor(const qkv::Shape4& shape, qkv::DType type) {
    qkv::MutableTensorView t;
    t.shape = shape;
    t.dtype = type;
    const __int128 size = qkv::size_of(type);
    t.strides = strides_for(shape);
    if (chance(0.01f)) return t;  // without data
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) {
      t.data = block(1);
      return t;
    }
    __int128 below = 0;
    __int128 above = size;
    for (std::size_t i = 0; i < 4; ++i) {
      const __int128 reach = size * t.strides[i] * (std::max<std::int64_t>(shape[i], 1) - 1);
      (reach < 0 ? below : above) += reach;
    }
    if (above - below > kLargest) {
      // more than there is memory for: certain to be refused for it, or not made
      const auto refused = static_cast<__int128>(1) << 61;
      if (above - below < refused) throw TooLarge();
      t.data = block(8);
      return t;
    }
    auto* data = static_cast<std::uint8_t*>(block(static_cast<std::size_t>(above - below)));
    fill({data, static_cast<std::size_t>(above - below)}, type);
    t.data = data - static_cast<std::ptrdiff_t>(below);
    return t;
  }

  // count elements of T, or about as many, or none.
  template <class T>
  std::span<T> array(std::int64_t count) {
    if (count < 0 || count > kLargest) throw TooLarge();
    if (chance(0.02f))
      count = std::max<std::int64_t>(count + bytes_.ConsumeIntegralInRange(-2, 2), 0);
    auto* data = static_cast<T*>(block(static_cast<std::size_t>(count) * sizeof(T)));
    return {data, static_cast<std::size_t>(count)};
  }
  std::span<const std::int32_t> integers(std::int64_t count, int low, int high) {
    const std::span<std::int32_t> values = array<std::int32_t>(count);
    for (std::int32_t& value : values) value = bytes_.ConsumeIntegralInRange(low, high);
    return values;
  }
  std::span<const float> floats(std::int64_t count) {
    const std::span<float> values = array<float>(count);
    for (float& value : values) value = number();
    return values;
  }
  float number() {
    constexpr float kOdd[] = {0,
                              -0.0f,
                              1e-45f,
                              3e38f,
                              std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()};
    if (chance(0.1f)) return bytes_.PickValueInArray(kOdd);
    return bytes_.ConsumeFloatingPointInRange<float>(-4, 4);
  }

  // Whether every block holds what it held when keep() was called.
  void keep() {
    for (Block& b : blocks_) b.before.assign(b.data.get(), b.data.get() + b.size);
  }
  bool is_kept() const {
    return std::all_of(blocks_.begin(), blocks_.end(), [](const Block& b) {
      return b.before.empty() || std::memcmp(b.before.data(), b.data.get(), b.size) == 0;
    });
  }

  // Not when the bytes are used up, which draws 0.
  bool chance(float probability) { return bytes_.ConsumeProbability<float>() > 1 - probability; }

  struct TooLarge {};

 private:
  struct Block {
    std::unique_ptr<std::uint8_t[]> data;
    std::size_t size;
    std::vector<std::uint8_t> before;
  };

  void* block(std::size_t size) {
    blocks_.push_back({std::make_unique<std::uint8_t[]>(size), size, {}});
    return blocks_.back().data.get();
  }

  qkv::Shape4 strides_for(const qkv::Shape4& shape) {
    qkv::Shape4 strides{};
    const int kind = bytes_.ConsumeIntegralInRange(0, 9);
    if (kind < 8) {  // nested, in either order of heads and tokens, with gaps and directions
      const bool tokens_outside = kind % 2 == 1;
      const std::size_t order[4] = {3, tokens_outside ? 1u : 2u, tokens_outside ? 2u : 1u, 0};
      std::int64_t step = 1;
      for (const std::size_t i : order) {
        strides[i] = step;
        std::int64_t next = 0;
        const std::int64_t gap = kind >= 4 ? bytes_.ConsumeIntegralInRange(0, 3) : 0;
        if (__builtin_mul_overflow(step, std::max<std::int64_t>(shape[i], 1), &next) ||
            __builtin_add_overflow(next, gap, &next))
          next = kMost;
        if (i != 3 && kind >= 6 && bytes_.ConsumeBool()) strides[i] = -step;
        step = next;
      }
      return strides;
    }
    for (std::int64_t& stride : strides) stride = bytes_.ConsumeIntegralInRange(-40, 40);
    if (!chance(0.1f)) strides[3] = 1;
    if (chance(0.2f))
      strides[bytes_.ConsumeIntegralInRange(0, 3)] = bytes_.ConsumeIntegral<std::int64_t>();
    return strides;
  }

  // Floats of ordinary size most of the time; a bool must be 0 or 1.
  void fill(std::span<std::uint8_t> to, qkv::DType type) {
    if (type == qkv::DType::f32) {
      const float some[4] = {number(), number(), number(), number()};
      for (std::size_t i = 0; i + 4 <= to.size(); i += 4)
        std::memcpy(&to[i], &some[i / 4 * 7 % 5 % 4], 4);
      return;
    }
    const std::uint8_t some[3] = {bytes_.ConsumeIntegral<std::uint8_t>(),
                                  bytes_.ConsumeIntegral<std::uint8_t>(),
                                  bytes_.ConsumeIntegral<std::uint8_t>()};
    for (std::size_t i = 0; i < to.size(); ++i) {
      const std::uint8_t drawn = some[i % 3];
      to[i] = type == qkv::DType::boolean ? drawn & 1u : drawn;
    }
  }

  FuzzedDataProvider& bytes_;
  std::vector<Block> blocks_;
};

class Drawing {
 public:
  explicit Drawing(FuzzedDataProvider& bytes) : bytes_(bytes), memory_(bytes) {}

  void run() {
    draw_sizes();
    draw_options();
    const qkv::TensorView query = memory_.tensor(query_shape(dim_), type_);
    const qkv::TensorView key = memory_.tensor(key_shape(dim_), key_type_);
    switch (bytes_.ConsumeIntegralInRange(0, 6)) {
      case 0:
        return run_weights(query, key);
      case 1:
        return run_merge();
      case 2:
      case 3:
        return run_backward(query, key);
      default:
        return run_attention(query, key);
    }
  }

 private:
  bool sometimes(float probability = 0.02f) { return memory_.chance(probability); }

  std::int64_t size(int most) {
    if (sometimes(0.005f))  // small enough to be multiplied here, too large for anything else
      return bytes_.ConsumeIntegral<std::int64_t>() >> bytes_.ConsumeIntegralInRange(5, 40);
    if (sometimes(0.1f)) return bytes_.ConsumeIntegralInRange(0, most * 8);
    return bytes_.ConsumeIntegralInRange(1, most);
  }
  qkv::Shape4 spoiled(qkv::Shape4 shape) {
    if (sometimes()) shape[static_cast<std::size_t>(bytes_.ConsumeIntegralInRange(0, 3))] = size(5);
    return shape;
  }

  void draw_sizes() {
    constexpr qkv::DType kFloats[] = {qkv::DType::f32, qkv::DType::f32, qkv::DType::f16,
                                      qkv::DType::bf16};
    constexpr qkv::DType kAny[] = {qkv::DType::boolean, qkv::DType::i8,
                                   static_cast<qkv::DType>(77)};
    batch_ = size(3);
    heads_kv_ = size(2);
    heads_ = sometimes() ? size(4) : heads_kv_ * bytes_.ConsumeIntegralInRange(1, 3);
    queries_ = size(20);
    keys_ = size(40);
    dim_ = size(20);
    dim_v_ = sometimes(0.5f) ? dim_ : size(20);
    type_ = sometimes() ? bytes_.PickValueInArray(kAny) : bytes_.PickValueInArray(kFloats);
    key_type_ = sometimes(0.2f) ? qkv::DType::i8 : type_;
    packed_ = sometimes(0.15f);
    paged_ = !packed_ && sometimes(0.2f);
    page_ = size(6);
    for (const std::int64_t n : {batch_, heads_kv_, heads_, queries_, keys_, page_})
      if (n < 0 || n > kLargest) packed_ = paged_ = false;
  }

  qkv::Shape4 query_shape(std::int64_t dim) {
    return spoiled(packed_ ? qkv::Shape4{1, heads_, queries_ * 2, dim}
                           : qkv::Shape4{batch_, heads_, queries_, dim});
  }
  qkv::Shape4 key_shape(std::int64_t dim) {
    if (paged_) return spoiled({5, heads_kv_, page_, dim});
    return spoiled(packed_ ? qkv::Shape4{1, heads_kv_, keys_, dim}
                           : qkv::Shape4{batch_, heads_kv_, keys_, dim});
  }

  void draw_options() {
    qkv::AttentionOptions& o = options_;
    if (sometimes(0.3f)) o.scale = memory_.number();
    o.causal = static_cast<qkv::Causal>(bytes_.ConsumeIntegralInRange(0, sometimes() ? 3 : 2));
    if (sometimes(0.3f)) o.window = {window(), window()};
    if (sometimes(0.2f)) o.softcap = memory_.number();
    if (packed_) {
      o.cu_seqlens_q = starts(queries_ * 2);
      o.cu_seqlens_k = starts(keys_);
    }
    if (paged_) {
      constexpr int kPages = 9;
      o.block_table = memory_.integers(batch_ * kPages, sometimes() ? -1 : 0, sometimes() ? 5 : 4);
      keys_ = std::min<std::int64_t>(keys_, kPages * std::max<std::int64_t>(page_, 0));
    }
    if (batch_ >= 0 && batch_ < kLargest && keys_ >= 0 && keys_ < kLargest &&
        (paged_ || sometimes(0.2f)))
      o.key_lengths = memory_.integers(batch_, sometimes() ? -1 : 0,
                                       static_cast<int>(keys_) + (sometimes() ? 1 : 0));
    if (sometimes(0.2f) && heads_ < kLargest) o.sinks = memory_.floats(heads_);
    if (sometimes(0.2f) && heads_ < kLargest) o.alibi_slopes = memory_.floats(heads_);
    if (sometimes(packed_ ? 0.02f : 0.2f)) o.mask = memory_.tensor(term(), qkv::DType::boolean);
    if (sometimes(packed_ ? 0.02f : 0.2f)) o.bias = memory_.tensor(term(), qkv::DType::f32);
    if (sometimes(key_type_ == qkv::DType::i8 ? 0.95f : 0.02f)) {
      o.k_scale = memory_.tensor(scales(), qkv::DType::f32);
      o.v_scale = memory_.tensor(scales(), qkv::DType::f32);
    }
    o.threads = sometimes() ? bytes_.ConsumeIntegralInRange(-1, 2) : 1;
    o.trace.top = bytes_.ConsumeIntegralInRange(sometimes() ? -1 : 0, sometimes() ? 1025 : 6);
    o.trace.received = bytes_.ConsumeBool();
    o.trace.block = bytes_.ConsumeIntegralInRange(sometimes() ? -1 : 0, 9);
  }
  std::int64_t window() {
    return sometimes() ? bytes_.ConsumeIntegral<std::int64_t>()
                       : bytes_.ConsumeIntegralInRange(-1, 30);
  }
  // Mostly 0 … total in batch_ pieces; anything sometimes.
  std::span<const std::int32_t> starts(std::int64_t total) {
    const auto values = memory_.array<std::int32_t>(std::min<std::int64_t>(batch_, 6) + 1);
    if (values.empty()) return values;
    const int last = static_cast<int>(std::min(total, kLargest));
    for (std::int32_t& value : values) value = bytes_.ConsumeIntegralInRange(0, last);
    if (sometimes()) return values;
    std::sort(values.begin(), values.end());
    values.front() = 0;
    values.back() = last;
    return values;
  }
  qkv::Shape4 repeated(qkv::Shape4 shape) {
    for (std::int64_t& n : shape)
      if (sometimes(0.3f)) n = 1;
    return spoiled(shape);
  }
  qkv::Shape4 term() {
    std::int64_t keys = keys_;
    if (paged_) {  // as many as the longest has
      keys = 0;
      for (const std::int32_t n : options_.key_lengths) keys = std::max<std::int64_t>(keys, n);
    }
    return repeated({batch_, heads_, queries_, keys});
  }
  qkv::Shape4 scales() {
    if (paged_) return repeated({5, heads_kv_, page_, 1});
    return repeated({packed_ ? 1 : batch_, heads_kv_, keys_, 1});
  }

  template <class F>
  void refused_or_done(const F& call) {
    memory_.keep();
    try {
      call();
    } catch (const std::invalid_argument&) {
      if (!memory_.is_kept()) std::abort();
    } catch (const std::bad_alloc&) {  // a trace of more numbers than there is memory
    } catch (const std::length_error&) {
    }
  }

  std::int64_t rows() const {
    std::int64_t rows = 0;
    if (__builtin_mul_overflow(batch_, heads_, &rows) ||
        __builtin_mul_overflow(rows, queries_, &rows))
      throw Memory::TooLarge();
    return packed_ ? heads_ * queries_ * 2 : rows;
  }

  void run_attention(const qkv::TensorView& query, const qkv::TensorView& key) {
    const qkv::TensorView value = memory_.tensor(key_shape(dim_v_), key_type_);
    qkv::Trace trace;
    qkv::AttentionOutput output;
    output.out =
        memory_.tensor(query_shape(dim_v_), sometimes(0.2f) ? qkv::DType::f16 : qkv::DType::f32);
    if (sometimes(0.05f))  // in place, which is refused
      output.out = {const_cast<void*>(query.data), query.dtype, query.shape, query.strides};
    if (sometimes(0.5f)) output.lse = memory_.array<float>(rows());
    // a trace of numbers beyond memory fails in `new`, which the sanitizer does not let pass
    bool small = true;
    for (const std::int64_t n : {batch_, heads_, queries_, keys_}) small &= n <= 1000;
    if (small && sometimes(0.5f)) output.trace = &trace;
    refused_or_done([&] { qkv::attention(query, key, value, options_, output); });
  }

  // Gradients with no forward pass before: out and lse may be any numbers.
  void run_backward(const qkv::TensorView& query, const qkv::TensorView& key) {
    const qkv::TensorView value = memory_.tensor(key_shape(dim_v_), key_type_);
    const qkv::TensorView out = memory_.tensor(query_shape(dim_v_), type_);
    const qkv::TensorView d_out = memory_.tensor(query_shape(dim_v_), type_);
    const std::span<const float> lse = memory_.floats(rows());
    std::span<const float> d_lse;
    if (sometimes(0.3f)) d_lse = memory_.floats(rows());
    const auto type = [&] { return sometimes(0.2f) ? qkv::DType::f16 : qkv::DType::f32; };
    qkv::AttentionGradients to;
    if (sometimes(0.8f)) to.d_query = memory_.tensor(query_shape(dim_), type());
    if (sometimes(0.8f)) to.d_key = memory_.tensor(key_shape(dim_), type());
    if (sometimes(0.8f)) to.d_value = memory_.tensor(key_shape(dim_v_), type());
    if (sometimes(options_.bias ? 0.5f : 0.02f))
      to.d_bias = memory_.tensor(spoiled(options_.bias.shape), qkv::DType::f32);
    if (sometimes(options_.sinks.empty() ? 0.02f : 0.5f) && heads_ < kLargest)
      to.d_sinks = memory_.array<float>(heads_);
    if (sometimes(0.05f))  // in place, which is refused
      to.d_query = {const_cast<void*>(d_out.data), d_out.dtype, d_out.shape, d_out.strides};
    refused_or_done([&] {
      qkv::attention_backward(query, key, value, options_, {out, lse}, d_out, to, d_lse);
    });
  }

  void run_weights(const qkv::TensorView& query, const qkv::TensorView& key) {
    const std::span<const float> lse = memory_.floats(rows());
    const auto range = [&](std::int64_t most) {
      const int last = static_cast<int>(std::clamp<std::int64_t>(most, 0, 1000));
      const int begin = bytes_.ConsumeIntegralInRange(sometimes() ? -1 : 0, last);
      return qkv::Range{begin, bytes_.ConsumeIntegralInRange(sometimes() ? -1 : begin,
                                                             last + (sometimes() ? 1 : 0))};
    };
    const qkv::Range queries = range(queries_);
    const qkv::Range keys = range(keys_);
    const auto out = memory_.tensor(
        spoiled({batch_, heads_, queries.end - queries.begin, keys.end - keys.begin}),
        qkv::DType::f32);
    refused_or_done([&] { qkv::weights(query, key, options_, lse, queries, keys, out); });
  }

  void run_merge() {
    const qkv::Shape4 shape = {batch_, heads_, queries_, dim_v_};
    std::vector<qkv::AttentionPart> parts;
    for (int i = bytes_.ConsumeIntegralInRange(0, 3); i > 0; --i) {
      const qkv::TensorView out = memory_.tensor(spoiled(shape), type_);
      parts.push_back({out, memory_.floats(rows())});
    }
    qkv::AttentionOutput output;
    output.out = memory_.tensor(shape, qkv::DType::f32);
    if (sometimes(0.5f)) output.lse = memory_.array<float>(rows());
    refused_or_done([&] { qkv::merge(parts, output); });
  }

  FuzzedDataProvider& bytes_;
  Memory memory_;
  qkv::AttentionOptions options_;
  std::int64_t batch_ = 0, heads_kv_ = 0, heads_ = 0, queries_ = 0, keys_ = 0, dim_ = 0, dim_v_ = 0;
  std::int64_t page_ = 0;
  qkv::DType type_{}, key_type_{};
  bool packed_ = false, paged_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider bytes(data, size);
  try {
    Drawing(bytes).run();
  } catch (const Memory::TooLarge&) {
  }
  return 0;
}
