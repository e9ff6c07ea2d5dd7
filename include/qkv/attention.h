// Scaled dot-product attention, exact: out = softmax(scores)·value, with scores built in this order
//
//   query·key · scale → softcap → + bias, + ALiBi → masks → softmax (with sink) → · value
//
// as ONNX Attention (opset 24) and FlashAttention define it. Formula: Vaswani et al. 2017, eq. 1; the online softmax:
// Milakov & Gimelshein 2018; O(N) memory: Rabe & Staats 2021, Dao et al. 2022.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "qkv/tensor.h"
#include "qkv/trace.h"

namespace qkv {

// Which keys a query may see by order. Query i of Sq stands at position i + keys − Sq (bottom_right: the last query sees
// every key) or i (top_left), and sees keys up to its position. keys = key_lengths[b] where given, else Sk.
enum class Causal : std::uint8_t { no, bottom_right, top_left };

// Sliding window around the query's position: keys from position − left to position + right; −1 leaves a side open.
struct Window {
  std::int64_t left = -1;
  std::int64_t right = -1;
};

struct AttentionOptions {
  // Multiplies query·key. Default 1/√d_k.
  std::optional<float> scale;
  Causal causal = Causal::no;
  Window window;
  // bool, true = may attend; [batch, heads_q, Sq, Sk], a dimension of 1 is repeated. Default: everything.
  TensorView mask;
  // float32, added to the scaled scores; shape as mask. Default: none.
  TensorView bias;
  // scores become softcap·tanh(scores / softcap). 0 (default) leaves them.
  float softcap = 0;
  // [heads_q] one logit per head that joins the denominator and has no value. Default: none.
  std::span<const float> sinks;
  // [heads_q] adds −slope·|query position − key index| (Press et al. 2022). Default: none.
  std::span<const float> alibi_slopes;
  // [batch] keys from key_lengths[b] on do not exist for batch entry b. Default: all Sk.
  std::span<const std::int32_t> key_lengths;
  // Threads to use at most; 0 (default): as qkv/threads.h says. The bits of the result do not depend on it.
  int threads = 0;
  // What to record if AttentionOutput::trace is set.
  TraceOptions trace;
};

struct AttentionOutput {
  // [batch, heads_q, Sq, d_v], required.
  MutableTensorView out;
  // [batch, heads_q, Sq] dense: natural log of Σ e^score, sink included; −inf for a row with no visible key. Optional.
  std::span<float> lse;
  // Filled as options.trace asks. Optional.
  Trace* trace = nullptr;
};

// query [batch, heads_q, Sq, d_k], key [batch, heads_kv, Sk, d_k], value [batch, heads_kv, Sk, d_v]; heads_q must be a
// multiple of heads_kv, d_k and d_v from 1 to 1024. Extra memory O(Sq + Sk), none of it N×N.
// Throws std::invalid_argument naming what was expected and what came, before anything is written.
void attention(const TensorView& query, const TensorView& key, const TensorView& value,
               const AttentionOptions& options, const AttentionOutput& output);

// One part of an attention over a set of keys that was split: its output and its log-sum-exp.
struct AttentionPart {
  TensorView out;              // [batch, heads_q, Sq, d_v]
  std::span<const float> lse;  // [batch, heads_q, Sq] dense
};

// Attention over the union of the parts' keys: out = Σ e^(lse_i − lse)·out_i with lse = ln Σ e^lse_i. A part whose lse is
// −inf changes nothing, not even a bit. A sink belongs to one part only. output.trace is not used.
// Throws std::invalid_argument.
void merge(std::span<const AttentionPart> parts, const AttentionOutput& output);

// Half-open range of indices.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// The exact weights p(q,k) = e^(score − lse) for the given queries and keys, from query, key and the lse of the whole row;
// the options that shape scores must be those of the attention call. A masked weight is exactly 0.
// out [batch, heads_q, queries.end − queries.begin, keys.end − keys.begin]; lse [batch, heads_q, Sq] dense.
// Throws std::invalid_argument.
void weights(const TensorView& query, const TensorView& key, const AttentionOptions& options,
             std::span<const float> lse, Range queries, Range keys, const MutableTensorView& out);

}  // namespace qkv
