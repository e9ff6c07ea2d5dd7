// The C door: turns C structs into views, calls C++, and turns exceptions into a status and a message.
#include "qkv/c.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/check.h"
#include "attention/overlap.h"
#include "attention/problem.h"
#include "qkv/attention.h"
#include "qkv/isa.h"
#include "qkv/threads.h"

namespace {

using qkv::fail;

// A plain array: keeping a message can neither fail nor throw.
thread_local std::array<char, 1024> last_error{};

void keep_error(const char* text) noexcept {
  // what C++ calls qkv::name is called qkv_name here
  if (std::strncmp(text, "qkv::", 5) == 0)
    std::snprintf(last_error.data(), last_error.size(), "qkv_%s", text + 5);
  else
    std::snprintf(last_error.data(), last_error.size(), "%s", text);
}

template <class F>
int guarded(const F& call) noexcept {
  try {
    call();
    return QKV_OK;
  } catch (const std::invalid_argument& wrong) {
    keep_error(wrong.what());
    return QKV_INVALID_ARGUMENT;
  } catch (const std::bad_alloc&) {
    keep_error("there is not enough memory");
    return QKV_NO_MEMORY;
  } catch (const std::length_error&) {  // a vector longer than any memory
    keep_error("there is not enough memory");
    return QKV_NO_MEMORY;
  } catch (const std::exception& other) {
    keep_error(other.what());
    return QKV_FAILED;
  } catch (...) {
    keep_error("unknown failure");
    return QKV_FAILED;
  }
}

// What the first version of each struct had, which no caller has less of; later fields come after these.
template <class T>
constexpr std::size_t kFirstSize = sizeof(T);

// A struct of the caller's, of whatever version, as the one this library knows.
template <class T>
T known(const char* function, const char* name, const T* given, const T& defaults) {
  if (given == nullptr) fail(function, std::string(name) + " is a null pointer");
  std::size_t size;
  std::memcpy(&size, given, sizeof size);
  if (size < kFirstSize<T> || size > (std::size_t{1} << 16))
    fail(function, std::string(name) + ".struct_size is " + std::to_string(size) + "; expected " +
                       std::to_string(sizeof(T)) + " (was it initialised?)");
  T copy = defaults;
  std::memcpy(&copy, given, std::min(size, sizeof(T)));
  // a field that this library does not know matters only if it was set
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i)
    if (bytes[i] != 0)
      fail(function, std::string(name) + " has a field set that this library, C ABI version " +
                         std::to_string(QKV_C_ABI_VERSION) + ", does not know");
  return copy;
}

template <class T>
int init(const char* function, const char* name, T* to, std::size_t size,
         const T& defaults) noexcept {
  return guarded([&] {
    if (to == nullptr) fail(function, std::string(name) + " is a null pointer");
    if (size < kFirstSize<T> || size > (std::size_t{1} << 16))
      fail(function, "struct_size is " + std::to_string(size) + "; expected " +
                         std::to_string(sizeof(T)) + " or more");
    std::memset(static_cast<void*>(to), 0, size);
    std::memcpy(static_cast<void*>(to), &defaults, std::min(size, sizeof(T)));
    std::memcpy(static_cast<void*>(to), &size, sizeof size);
  });
}

constexpr qkv_options kOptions = QKV_OPTIONS_DEFAULT;
constexpr qkv_trace kTrace = QKV_TRACE_DEFAULT;
constexpr qkv_output kOutput = QKV_OUTPUT_DEFAULT;
constexpr qkv_part kPart = QKV_PART_DEFAULT;
constexpr qkv_gradients kGradients = QKV_GRADIENTS_DEFAULT;

static_assert(QKV_F32 == static_cast<int>(qkv::DType::f32) &&
              QKV_BOOL == static_cast<int>(qkv::DType::boolean) &&
              QKV_F16 == static_cast<int>(qkv::DType::f16) &&
              QKV_BF16 == static_cast<int>(qkv::DType::bf16) &&
              QKV_I8 == static_cast<int>(qkv::DType::i8));
static_assert(QKV_NOT_CAUSAL == static_cast<int>(qkv::Causal::no) &&
              QKV_BOTTOM_RIGHT == static_cast<int>(qkv::Causal::bottom_right) &&
              QKV_TOP_LEFT == static_cast<int>(qkv::Causal::top_left));

qkv::MutableTensorView tensor(const char* function, const char* name, const qkv_tensor& t) {
  if (t.dtype < QKV_F32 || t.dtype > QKV_I8)
    fail(function, std::string(name) + ".dtype is " + std::to_string(t.dtype) +
                       "; expected one of QKV_F32 (0) to QKV_I8 (4)");
  if (t.reserved != 0)
    fail(function,
         std::string(name) + ".reserved is " + std::to_string(t.reserved) + "; expected 0");
  qkv::MutableTensorView view;
  view.data = t.data;
  view.dtype = static_cast<qkv::DType>(t.dtype);
  std::copy_n(t.shape, 4, view.shape.begin());
  std::copy_n(t.strides, 4, view.strides.begin());
  return view;
}

qkv::MutableTensorView tensor(const char* function, const char* name, const qkv_tensor* t) {
  if (t == nullptr) fail(function, std::string(name) + " is a null pointer");
  return tensor(function, name, *t);
}

// data[size]; null means that it was not given.
template <class T>
std::span<T> array(const char* function, const char* name, T* data, std::int64_t size) {
  if (size < 0 || (data == nullptr && size > 0))
    fail(function, std::string(name) + "_size is " + std::to_string(size) + "; expected " +
                       (size < 0 ? "0 or more" : std::string("0, for ") + name + " is null"));
  return data == nullptr ? std::span<T>() : std::span<T>(data, static_cast<std::size_t>(size));
}

qkv::AttentionOptions options_of(const char* function, const qkv_options* given) {
  qkv::AttentionOptions options;
  if (given == nullptr) return options;
  const qkv_options o = known(function, "options", given, kOptions);
  if (o.has_scale != 0 && o.has_scale != 1)
    fail(function, "has_scale is " + std::to_string(o.has_scale) + "; expected 0 or 1");
  if (o.has_scale == 0 && o.scale != 0)
    fail(function, "scale is " + std::to_string(o.scale) +
                       " but has_scale is 0; expected 1 with it, or no scale");
  if (o.has_scale == 1) options.scale = o.scale;
  if (o.causal < QKV_NOT_CAUSAL || o.causal > QKV_TOP_LEFT)
    fail(function, "causal is " + std::to_string(o.causal) +
                       "; expected QKV_NOT_CAUSAL (0), QKV_BOTTOM_RIGHT (1) or QKV_TOP_LEFT (2)");
  if (o.reserved != 0)
    fail(function, "options.reserved is " + std::to_string(o.reserved) + "; expected 0");
  options.causal = static_cast<qkv::Causal>(o.causal);
  options.window = {o.window_left, o.window_right};
  options.softcap = o.softcap;
  options.threads = o.threads;
  options.mask = tensor(function, "mask", o.mask);
  options.bias = tensor(function, "bias", o.bias);
  options.k_scale = tensor(function, "k_scale", o.k_scale);
  options.v_scale = tensor(function, "v_scale", o.v_scale);
  options.sinks = array(function, "sinks", o.sinks, o.sinks_size);
  options.alibi_slopes = array(function, "alibi_slopes", o.alibi_slopes, o.alibi_slopes_size);
  options.key_lengths = array(function, "key_lengths", o.key_lengths, o.key_lengths_size);
  options.cu_seqlens_q = array(function, "cu_seqlens_q", o.cu_seqlens_q, o.cu_seqlens_q_size);
  options.cu_seqlens_k = array(function, "cu_seqlens_k", o.cu_seqlens_k, o.cu_seqlens_k_size);
  options.block_table = array(function, "block_table", o.block_table, o.block_table_size);
  return options;
}

// ---- trace

// The trace's sizes for this call. trace.top and trace.block must have been checked.
void set_sizes(const qkv::Problem& p, qkv_trace& trace) {
  const auto blocks = [&](std::int64_t tokens) {
    return trace.block > 0 ? (tokens + trace.block - 1) / trace.block : 0;
  };
  trace.rows = p.row_count();
  trace.tops = trace.rows * trace.top;
  trace.columns = p.column_count();
  trace.blocks = p.batch * p.heads * blocks(p.queries) * blocks(p.keys);
  trace.batch = p.batch;
  trace.heads = p.heads;
  trace.queries = p.queries;
  trace.keys = p.keys;
}

// f(name, kind, size of the kind, the caller's array, the C++ trace's vector) for every array of a trace.
template <class F>
void each_array(const qkv_trace& to, const qkv::Trace& from, const F& f) {
  f("lse", "rows", to.rows, to.lse, from.lse);
  f("max", "rows", to.rows, to.max, from.max);
  f("entropy", "rows", to.rows, to.entropy, from.entropy);
  f("remainder", "rows", to.rows, to.remainder, from.remainder);
  f("top_keys", "tops", to.tops, to.top_keys, from.top_keys);
  f("top_weights", "tops", to.tops, to.top_weights, from.top_weights);
  f("received", "columns", to.columns, to.received, from.received);
  f("visible", "columns", to.columns, to.visible, from.visible);
  f("block_mass", "blocks", to.blocks, to.block_mass, from.block_mass);
  f("block_max", "blocks", to.blocks, to.block_max, from.block_max);
}

// Every array that is given has the size that it will have; returns a trace with all sizes.
qkv_trace checked_trace(const char* function, const qkv_trace& given, const qkv::Problem& p) {
  qkv_trace sized = given;
  set_sizes(p, sized);
  std::array<std::int64_t, 10> expected{};
  std::size_t i = 0;
  each_array(sized, {},
             [&](auto, auto, std::int64_t size, auto, const auto&) { expected[i++] = size; });
  i = 0;
  each_array(
      given, {},
      [&](const char* name, const char* kind, std::int64_t size, const auto* to, const auto&) {
        if (to != nullptr && size != expected[i])
          fail(function, std::string("trace.") + kind + " is " + std::to_string(size) +
                             "; expected " + std::to_string(expected[i]) + " for trace." + name);
        ++i;
      });
  return sized;
}

// The trace's arrays are written when the call is done, so no input may lie there.
void check_apart(const char* function, const qkv::TensorView& query, const qkv::TensorView& key,
                 const qkv::TensorView& value, const qkv::AttentionOptions& options,
                 const qkv::AttentionOutput& output, const qkv_trace& trace) {
  qkv::Places places;
  places.read("query", query);
  places.read("key", key);
  places.read("value", value);
  places.read(options);
  places.written("out", output.out);
  places.written("lse", output.lse);
  std::array<std::string, 10> names;
  std::size_t i = 0;
  each_array(trace, {}, [&](const char* name, auto, std::int64_t size, auto* to, const auto&) {
    names[i] = std::string("trace.") + name;
    qkv::check_aligned(function, names[i].c_str(), to, sizeof *to);
    if (to != nullptr)
      places.written(names[i].c_str(), std::span(to, static_cast<std::size_t>(size)));
    ++i;
  });
  places.check(function);
}

}  // namespace

extern "C" {

int qkv_options_init(qkv_options* options, size_t struct_size) {
  return init("options_init", "options", options, struct_size, kOptions);
}
int qkv_trace_init(qkv_trace* trace, size_t struct_size) {
  return init("trace_init", "trace", trace, struct_size, kTrace);
}
int qkv_output_init(qkv_output* output, size_t struct_size) {
  return init("output_init", "output", output, struct_size, kOutput);
}
int qkv_part_init(qkv_part* part, size_t struct_size) {
  return init("part_init", "part", part, struct_size, kPart);
}
int qkv_gradients_init(qkv_gradients* gradients, size_t struct_size) {
  return init("gradients_init", "gradients", gradients, struct_size, kGradients);
}

int qkv_attention(const qkv_tensor* query, const qkv_tensor* key, const qkv_tensor* value,
                  const qkv_options* options, const qkv_output* output) {
  return guarded([&] {
    const char* function = "attention";
    const qkv::TensorView q = tensor(function, "query", query);
    const qkv::TensorView k = tensor(function, "key", key);
    const qkv::TensorView v = tensor(function, "value", value);
    qkv::AttentionOptions o = options_of(function, options);
    const qkv_output to = known(function, "output", output, kOutput);
    qkv::AttentionOutput out;
    out.out = tensor(function, "out", to.out);
    out.lse = array(function, "lse", to.lse, to.lse_size);
    if (to.trace == nullptr) return qkv::attention(q, k, v, o, out);

    const qkv_trace asked = known(function, "trace", to.trace, kTrace);
    qkv::Trace trace;
    out.trace = &trace;
    o.trace = {asked.top, true, asked.block};
    qkv_trace sized = checked_trace(function, asked, qkv::attention_problem(q, k, v, o, out));
    check_apart(function, q, k, v, o, out, sized);
    if (asked.top_keys == nullptr && asked.top_weights == nullptr && asked.remainder == nullptr)
      o.trace.top = 0;
    o.trace.received = asked.received != nullptr || asked.visible != nullptr;
    if (asked.block_mass == nullptr && asked.block_max == nullptr) o.trace.block = 0;
    qkv::attention(q, k, v, o, out);
    each_array(sized, trace, [](auto, auto, std::int64_t size, auto* array, const auto& from) {
      if (array != nullptr) std::copy_n(from.data(), size, array);
    });
    // an older struct keeps its own size, and what lies behind it
    std::memcpy(static_cast<void*>(to.trace), &sized, std::min(asked.struct_size, sizeof sized));
  });
}

int qkv_trace_sizes(const qkv_tensor* query, const qkv_tensor* key, const qkv_options* options,
                    qkv_trace* trace) {
  return guarded([&] {
    const char* function = "trace_sizes";
    qkv_trace sized = known(function, "trace", trace, kTrace);
    const qkv::Problem p =
        qkv::score_problem(function, tensor(function, "query", query), tensor(function, "key", key),
                           options_of(function, options));
    qkv::check_trace(function, {sized.top, true, sized.block}, p);
    set_sizes(p, sized);
    std::memcpy(static_cast<void*>(trace), &sized, std::min(sized.struct_size, sizeof sized));
  });
}

int qkv_attention_backward(const qkv_tensor* query, const qkv_tensor* key, const qkv_tensor* value,
                           const qkv_options* options, const qkv_part* forward,
                           const qkv_tensor* d_out, const float* d_lse, int64_t d_lse_size,
                           const qkv_gradients* gradients) {
  return guarded([&] {
    const char* function = "attention_backward";
    const qkv_part from = known(function, "forward", forward, kPart);
    const qkv_gradients to = known(function, "gradients", gradients, kGradients);
    qkv::AttentionGradients g;
    g.d_query = tensor(function, "d_query", to.d_query);
    g.d_key = tensor(function, "d_key", to.d_key);
    g.d_value = tensor(function, "d_value", to.d_value);
    g.d_bias = tensor(function, "d_bias", to.d_bias);
    g.d_sinks = array(function, "d_sinks", to.d_sinks, to.d_sinks_size);
    qkv::attention_backward(tensor(function, "query", query), tensor(function, "key", key),
                            tensor(function, "value", value), options_of(function, options),
                            {tensor(function, "forward.out", from.out),
                             array(function, "forward.lse", from.lse, from.lse_size)},
                            tensor(function, "d_out", d_out), g,
                            array(function, "d_lse", d_lse, d_lse_size));
  });
}

int qkv_merge(const qkv_part* parts, int64_t parts_size, const qkv_output* output) {
  return guarded([&] {
    const char* function = "merge";
    const qkv_output to = known(function, "output", output, kOutput);
    static_cast<void>(array(function, "parts", parts, parts_size));
    std::vector<qkv::AttentionPart> all;
    const auto* next = reinterpret_cast<const std::byte*>(parts);
    for (std::int64_t i = 0; i < parts_size; ++i) {
      const std::string name = "parts[" + std::to_string(i) + "]";
      const qkv_part part =
          known(function, name.c_str(), reinterpret_cast<const qkv_part*>(next), kPart);
      if (part.struct_size != parts->struct_size)
        fail(function, name + ".struct_size is " + std::to_string(part.struct_size) +
                           "; expected that of parts[0], " + std::to_string(parts->struct_size));
      next += part.struct_size;  // which may be longer than this library's
      all.push_back({tensor(function, (name + ".out").c_str(), part.out),
                     array(function, (name + ".lse").c_str(), part.lse, part.lse_size)});
    }
    qkv::merge(all, {tensor(function, "out", to.out), array(function, "lse", to.lse, to.lse_size),
                     nullptr});
  });
}

int qkv_weights(const qkv_tensor* query, const qkv_tensor* key, const qkv_options* options,
                const float* lse, int64_t lse_size, int64_t query_begin, int64_t query_end,
                int64_t key_begin, int64_t key_end, const qkv_tensor* out) {
  return guarded([&] {
    const char* function = "weights";
    qkv::weights(tensor(function, "query", query), tensor(function, "key", key),
                 options_of(function, options), array(function, "lse", lse, lse_size),
                 {query_begin, query_end}, {key_begin, key_end}, tensor(function, "out", out));
  });
}

void qkv_set_parallel_for(qkv_parallel_for pool, void* context) {
  qkv::set_parallel_for(pool, context);
}

int qkv_default_threads(void) {
  int threads = 0;
  guarded([&] { threads = qkv::default_threads(); });
  return threads;
}

const char* qkv_last_error(void) { return last_error.data(); }

const char* qkv_isa(void) {
  const char* name = nullptr;
  // a name is a literal, which ends with a zero
  guarded([&] { name = qkv::isa().data(); });
  return name;
}

const char* qkv_supported_isa(int index) {
  const char* name = nullptr;
  guarded([&] {
    const auto names = qkv::supported_isas();
    if (index >= 0 && static_cast<std::size_t>(index) < names.size())
      name = names[static_cast<std::size_t>(index)].data();
  });
  return name;
}

const char* qkv_version(void) { return QKV_VERSION; }

int qkv_c_abi_version(void) { return QKV_C_ABI_VERSION; }

}  // extern "C"
