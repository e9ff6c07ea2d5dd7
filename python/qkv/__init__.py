"""Exact attention on CPUs that shows what each query looked at.

    out = qkv.attention(q, k, v)                  # NumPy arrays or PyTorch tensors in, the same kind out, no copies
    out, lse = qkv.attention(q, k, v, causal=True, return_lse=True)
    out, trace = qkv.attention(q, k, v, trace=qkv.Trace(top=8, received=True, block=64))
    p = qkv.weights(q, k, lse=lse, queries=slice(100, 132), keys=slice(0, 64))
    out, lse = qkv.merge([(out_a, lse_a), (out_b, lse_b)])

    import qkv.huggingface                        # then: from_pretrained(..., attn_implementation="qkv")
    with qkv.watch(model) as seen:                # what every head of a PyTorch or Hugging Face model read
        model(**inputs)
    seen.layers[3].heads[5].top(query=17)         # [(key, weight), ...], remainder

`help(qkv.attention)` describes shapes and options.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import _core

if TYPE_CHECKING:
    from .pytorch import scaled_dot_product_attention
    from .seen import watch

__all__ = ["AttentionTrace", "Trace", "attention", "isa", "merge", "scaled_dot_product_attention", "watch", "weights"]
__version__: str = _core.__version__


@dataclass(frozen=True)
class Trace:
    """What `attention(..., trace=)` records of each query; log-sum-exp, largest score and entropy always come.

    top: how many keys to report for each query, 0 to 1024.
    received: for each key, the weight that all queries gave it, and how many could see it.
    block: side of the squares of the block map, in tokens; 0: no map.
    """

    top: int = 0
    received: bool = False
    block: int = 0


@dataclass(frozen=True, eq=False)
class AttentionTrace:
    """What each query looked at. Arrays are of the kind of the query; p is the weight of a key after the softmax.

    A row with no visible key has lse and max −inf, entropy and remainder 0, no top keys. With packed sequences [batch, heads, Sq]
    is [heads, total], indices count within a sequence, and the block map has one entry for each sequence.
    """

    lse: Any  #: [batch, heads, Sq] ln Σ e^score, the sink included
    max: Any  #: [batch, heads, Sq] the largest score over keys
    entropy: Any  #: [batch, heads, Sq] −Σ p·ln p in nats, the sink's share included; e^entropy keys were read, in effect
    top_keys: Any  #: [batch, heads, Sq, top] int32, largest weight first, ties to the lower index, unused −1
    top_weights: Any  #: [batch, heads, Sq, top] their weights, unused 0
    remainder: Any  #: [batch, heads, Sq] 1 − Σ top_weights, the sink's share included
    received: Any = None  #: [batch, heads, Sk] Σ p over the queries
    visible: Any = None  #: [batch, heads, Sk] int32, how many queries could see the key
    block_mass: Any = None  #: [batch, heads, ⌈Sq/block⌉, ⌈Sk/block⌉] Σ p over the square
    block_max: Any = None  #: [batch, heads, ⌈Sq/block⌉, ⌈Sk/block⌉] the largest p in it

    def __repr__(self) -> str:
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        shapes = (f"{name} {list(array.shape)}" for name, array in arrays.items() if array is not None)
        return f"AttentionTrace({', '.join(shapes)})"


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float | None = None,
    causal: bool | Literal["bottom-right", "top-left"] = False,
    window: tuple[int, int] = (-1, -1),
    mask: Any = None,
    bias: Any = None,
    softcap: float = 0.0,
    sinks: Any = None,
    alibi_slopes: Any = None,
    key_lengths: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    block_table: Any = None,
    k_scale: Any = None,
    v_scale: Any = None,
    return_lse: bool = False,
    trace: Trace | None = None,
    out: Any = None,
    threads: int = 0,
) -> Any:
    """softmax(query·keyᵀ·scale …)·value, exactly, in O(N) memory.

    query [batch, heads_q, Sq, d_k], key [batch, heads_kv, Sk, d_k], value [batch, heads_kv, Sk, d_v], of float32, float16 or
    bfloat16 (key and value also int8): NumPy arrays, PyTorch tensors, or anything in the CPU's memory that exports DLPack.
    heads_q is a multiple of heads_kv: query head h reads key head h // (heads_q // heads_kv). Strides are free but for the last
    dimension, which is contiguous; nothing is copied. Scores are made in this order: scale, softcap, bias and ALiBi, masks,
    softmax with sinks.

    scale: multiplies query·key; default 1/√d_k.
    causal: True or "bottom-right": query i sees keys up to i + keys − Sq, so that the last query sees every key;
        "top-left": keys up to i.
    window: (left, right) keys around a query's position that it may see; −1 leaves a side open.
    mask: bool, True = may attend; repeats to [batch, heads_q, Sq, Sk].
    bias: float32, added to the scaled scores; repeats like mask.
    softcap: scores become softcap·tanh(scores / softcap); 0: they stay.
    sinks: [heads_q] one logit for each head that joins the denominator and has no value.
    alibi_slopes: [heads_q] adds −slope·|query position − key index|.
    key_lengths: [batch] keys from key_lengths[b] on do not exist for entry b; query i stands at i + key_lengths[b] − Sq.
    cu_seqlens_q, cu_seqlens_k: [n+1] from 0, rising: n sequences without padding, one after the other, in a query
        [heads_q, total, d_k] and a key and value [heads_kv, total, ·]. Each may be given without the other. Not with mask or bias.
    block_table: [batch, pages of an entry] paged keys and values, then [pages, heads_kv, page, ·]; needs key_lengths.
    k_scale, v_scale: for int8 keys and values: key = k_scale·stored; a number, or float32 that repeats to [batch, heads_kv, Sk, 1].
    return_lse: also return ln Σ e^score for each query, float32 [batch, heads_q, Sq].
    trace: a qkv.Trace: also return what each query looked at, as qkv.AttentionTrace.
    out: an array to write the result into and to return; default: a new one of the query's kind and type.
    threads: to use at most; 0: QKV_NUM_THREADS, or else one for each core. Results do not depend on it, not in a bit.

    Returns out [batch, heads_q, Sq, d_v] (packed: [heads_q, total, d_v]), of the query's kind, or the tuple (out, lse),
    (out, trace), (out, lse, trace) of what was asked for. A row with no visible key is 0, its lse −inf.
    PyTorch: differentiable in query, key, value, bias and sinks, and traced by torch.compile.
    Raises ValueError, with nothing written, that says what was wrong, expected and given. May be called from many threads.
    """
    options = (scale, causal, window, mask, bias, softcap, sinks, alibi_slopes, key_lengths, cu_seqlens_q, cu_seqlens_k,
               block_table, k_scale, v_scale, threads)
    if hasattr(query, "__torch_function__"):  # PyTorch's mark of a tensor; does not import it
        from . import pytorch

        if pytorch.needs_operator(query, key, value, bias, sinks):
            return pytorch.attention(query, key, value, options, return_lse, trace, out)
    result = _core.attention(query, key, value, options, return_lse, trace, out)
    if trace is not None:
        return (*result[:-1], AttentionTrace(**result[-1]))
    return result


def weights(
    query: Any,
    key: Any,
    *,
    lse: Any = None,
    queries: slice | None = None,
    keys: slice | None = None,
    scale: float | None = None,
    causal: bool | Literal["bottom-right", "top-left"] = False,
    window: tuple[int, int] = (-1, -1),
    mask: Any = None,
    bias: Any = None,
    softcap: float = 0.0,
    sinks: Any = None,
    alibi_slopes: Any = None,
    key_lengths: Any = None,
    block_table: Any = None,
    k_scale: Any = None,
    threads: int = 0,
) -> Any:
    """An exact tile of the matrix of weights, p(q, k) = e^(score − lse), for the given queries and keys.

    query and key as for `attention`, and the same options; a masked weight is exactly 0.
    lse: [batch, heads_q, Sq] as attention returned it; without it, it is computed again in one pass over the keys.
    queries, keys: slices with step 1; default all.

    Returns float32 [batch, heads_q, queries, keys], of the query's kind. Raises ValueError.
    """
    options = (scale, causal, window, mask, bias, softcap, sinks, alibi_slopes, key_lengths, None, None, block_table, k_scale,
               None, threads)
    if hasattr(query, "__torch_function__"):
        query, key, lse, bias, sinks = (x.detach() if hasattr(x, "detach") else x for x in (query, key, lse, bias, sinks))
        options = (*options[:4], bias, softcap, sinks, *options[7:])
    return _core.weights(query, key, lse, queries, keys, options)


def merge(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Attention over the union of the parts' keys, from what `attention(..., return_lse=True)` returned for each part.

    parts: (out, lse) pairs, out [batch, heads, Sq, d_v] (packed: [heads, total, d_v]), lse float32 [batch, heads, Sq]. A part whose
    lse is −inf changes nothing; a sink belongs to one part only.

    Returns (out, lse) of the first part's kind and type. Raises ValueError.
    """
    return _core.merge([tuple(x.detach() if hasattr(x, "detach") else x for x in part) for part in parts])


def isa() -> str:
    """The instruction set that runs: "avx512_bf16", "avx512", "avx2", "neon" or "scalar".

    The best this CPU has, or the one that the environment variable QKV_ISA names. Raises ValueError if that is not supported.
    """
    return _core.isa()


def __getattr__(name: str) -> Any:  # what needs PyTorch is imported when it is asked for
    if name == "scaled_dot_product_attention":
        from .pytorch import scaled_dot_product_attention

        return scaled_dot_product_attention
    if name == "watch":
        from .seen import watch

        return watch
    raise AttributeError(f"module 'qkv' has no attribute {name!r}")
