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
  // Packed sequences: no padding, one sequence after the other. cu_seqlens_q [n+1] (0, then rising) cuts a query
  // [1, heads_q, total, d_k] into n sequences, cu_seqlens_k [n+1] a key and a value [1, heads_kv, total, ·]; each may be given
  // without the other, which then has batch n. Positions and trace indices count within a sequence. Not with mask or bias.
  std::span<const std::int32_t> cu_seqlens_q, cu_seqlens_k;
  // Paged keys and values: key and value are pools [pages, heads_kv, page, ·], and key k of batch entry b lies in page
  // block_table[b][k / page]. [batch, pages of an entry] dense; needs key_lengths, whose pages alone are looked at.
  std::span<const std::int32_t> block_table;
  // For int8 keys and values, required there: key = k_scale·stored, value = v_scale·stored. float32, shape of key with a last
  // dimension of 1; a dimension of 1 is repeated (one scale for all, one a head, one a token).
  TensorView k_scale, v_scale;
  // Threads to use at most; 0 (default): as qkv/threads.h says. The bits of the result do not depend on it.
  int threads = 0;
  // What to record if AttentionOutput::trace is set.
  TraceOptions trace;
};

struct AttentionOutput {
  // [batch, heads_q, Sq, d_v] (packed: [1, heads_q, total, d_v]) of float32, float16 or bfloat16, required.
  MutableTensorView out;
  // [batch, heads_q, Sq] (packed: [heads_q, total]) dense: natural log of Σ e^score, sink included; −inf for a row with no
  // visible key. Optional.
  std::span<float> lse;
  // Filled as options.trace asks. Optional.
  Trace* trace = nullptr;
};

// query [batch, heads_q, Sq, d_k], key [batch, heads_kv, Sk, d_k], value [batch, heads_kv, Sk, d_v]; heads_q must be a
// multiple of heads_kv, d_k and d_v from 1 to 1024. All three float32, float16 or bfloat16, or key and value int8. Extra memory
// O(Sq + Sk), none of it N×N. No output may share a byte with an input or another output; interleaved with them is fine.
// Throws std::invalid_argument naming what was expected and what came, before anything is written.
void attention(const TensorView& query, const TensorView& key, const TensorView& value,
               const AttentionOptions& options, const AttentionOutput& output);

// What attention() left of a call, for its backward pass.
struct AttentionForward {
  TensorView out;              // as AttentionOutput::out
  std::span<const float> lse;  // as AttentionOutput::lse
};

// What backward writes: the gradient of Σ out·d_out (+ Σ lse·d_lse). Each is optional; shapes as the tensor's own.
struct AttentionGradients {
  MutableTensorView d_query, d_key, d_value;  // float32, float16 or bfloat16
  MutableTensorView d_bias;  // float32, the shape of options.bias: repeated entries hold the sum
  std::span<float> d_sinks;  // [heads_q]
};

// Gradients of attention() with the same query, key, value and options (threads may differ; no int8, no pages). d_out as out;
// d_lse, as lse, where the log-sum-exp was used too (default: none). Memory O(Sq + Sk): scores are computed again from
// forward.lse, as in Dao et al. 2022, algorithm 4. The bits do not depend on the threads. A hidden key's gradients are
// exactly 0, whatever it holds. Gradients must overlap neither the inputs nor each other. Throws std::invalid_argument.
void attention_backward(const TensorView& query, const TensorView& key, const TensorView& value,
                        const AttentionOptions& options, const AttentionForward& forward,
                        const TensorView& d_out, const AttentionGradients& gradients,
                        std::span<const float> d_lse = {});

// One part of an attention over a set of keys that was split: its output and its log-sum-exp.
struct AttentionPart {
  TensorView out;              // [batch, heads_q, Sq, d_v]
  std::span<const float> lse;  // [batch, heads_q, Sq] dense
};

// Attention over the union of the parts' keys: out = Σ e^(lse_i − lse)·out_i with lse = ln Σ e^lse_i. A part whose lse is
// −inf changes nothing, not even a bit. A sink belongs to one part only. output.trace is not used. out and lse may be those of
// a part, exactly; else they must not overlap one.
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
