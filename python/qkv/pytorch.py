"""qkv in PyTorch: the operators `qkv::attention` and `qkv::attention_backward`, and a drop-in for scaled_dot_product_attention.

Tensors that nothing has to be known about go straight to the engine (`qkv.attention`); where autograd, torch.compile,
torch.func or a dispatch mode looks on, the call goes through the operator. It has a backward pass, a fake implementation and
a batching rule.
"""
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import AttentionTrace, _core

__all__ = ["scaled_dot_product_attention"]

# qkv.attention's options but the switches for what is returned, in the order of its tuple.
_OPTIONS = ("float? scale, str causal, int[2] window, Tensor? mask, Tensor? bias, float softcap, Tensor? sinks, "
            "Tensor? alibi_slopes, Tensor? key_lengths, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? block_table, "
            "Tensor? k_scale, Tensor? v_scale, int threads")
_SCALE, _CAUSAL, _WINDOW, _MASK, _BIAS, _SOFTCAP, _SINKS, *_LISTS, _K_SCALE, _V_SCALE, _THREADS = range(15)
_PLAIN = (Tensor, torch.nn.Parameter)

# PyTorch's threads spin after each of its regions: with those of qkv beside them, whole models ran 5 to 15% slower.
_core.share_openmp(True)


def _engine_options(options):
    """Options of the operator as the engine takes them: "" is no causal order."""
    return (options[0], options[1] or False, *options[2:])


def _dense(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return tensor if tensor is None or tensor.is_contiguous() else tensor.contiguous()


def _contiguous_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.shape[-1] == 1 or tensor.stride(-1) == 1 else tensor.contiguous()


@torch.library.custom_op("qkv::attention", mutates_args=(), device_types="cpu",
                         schema=f"(Tensor query, Tensor key, Tensor value, {_OPTIONS}) -> (Tensor, Tensor)")
def _attention(query, key, value, *options):
    """out and lse."""
    return _core.attention(query, key, value, _engine_options(options), True, None, None)


@_attention.register_fake
def _(query, key, value, *options):
    return query.new_empty((*query.shape[:-1], value.shape[-1])), query.new_empty(query.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("qkv::attention_backward", mutates_args=(), device_types="cpu",
                         schema=f"(Tensor? d_out, Tensor? d_lse, Tensor query, Tensor key, Tensor value, Tensor out, "
                                f"Tensor lse, {_OPTIONS}, bool[5] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
def _attention_backward(*arguments):
    return _gradients(*arguments)


def _gradients(d_out, d_lse, query, key, value, out, lse, *options_and_needed):
    """Gradients of query, key, value, bias and sinks; empty where not needed."""
    *options, needed = options_and_needed
    d_out = torch.zeros_like(out) if d_out is None else _contiguous_rows(d_out)
    gradients = _core.attention_backward(query, key, value, out, lse, d_out, _dense(d_lse), _engine_options(options),
                                         tuple(needed))
    return tuple(query.new_empty(0) if gradient is None else gradient for gradient in gradients)


@_attention_backward.register_fake
def _(d_out, d_lse, query, key, value, out, lse, *options_and_needed):
    *options, needed = options_and_needed
    inputs = (query, key, value, options[_BIAS], options[_SINKS])
    return tuple(tensor.new_empty(tensor.shape) if wanted and tensor is not None else query.new_empty(0)
                 for tensor, wanted in zip(inputs, needed))


def _setup_context(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output, *(x for x in inputs[3:] if isinstance(x, Tensor)))
    ctx.options = [None if isinstance(x, Tensor) else x for x in inputs[3:]]
    ctx.is_tensor = [isinstance(x, Tensor) for x in inputs[3:]]


def _backward(ctx, d_out, d_lse):
    query, key, value, out, lse, *tensors = ctx.saved_tensors
    options = [tensors.pop(0) if is_tensor else x for x, is_tensor in zip(ctx.options, ctx.is_tensor)]
    needs = ctx.needs_input_grad
    for place, name in ((_MASK, "mask"), *zip(_LISTS, ("alibi_slopes", "key_lengths", "cu_seqlens_q", "cu_seqlens_k", "block_table")),
                        (_K_SCALE, "k_scale"), (_V_SCALE, "v_scale")):
        if needs[3 + place]:
            raise ValueError(f"qkv.attention: {name} requires a gradient, which it has not; expected {name}.detach()")
    places = (0, 1, 2, 3 + _BIAS, 3 + _SINKS)
    needed = [needs[place] for place in places]
    gradients = [None] * len(needs)
    if d_out is None and d_lse is None:
        return tuple(gradients)
    operator = torch.ops.qkv.attention_backward if _is_traced(query) else _EagerBackward.apply
    computed = operator(d_out, d_lse, query, key, value, out, lse, *options, needed)
    for place, wanted, gradient in zip(places, needed, computed):
        if wanted:
            gradients[place] = gradient
    return tuple(gradients)


_attention.register_autograd(_backward, setup_context=_setup_context)


def _one_by_one(operator):
    """A batching rule (torch.vmap): one call for each entry, results stacked."""

    def rule(info, in_dims, *arguments):
        def entry(i):
            return [x.select(dim, i) if isinstance(x, Tensor) and dim is not None else x
                    for x, dim in zip(arguments, in_dims)]

        results = [operator(*entry(i)) for i in range(info.batch_size)]
        stacked = tuple(torch.stack(each) for each in zip(*results))
        return stacked, (0,) * len(stacked)

    return rule


torch.library.register_vmap("qkv::attention", _one_by_one(torch.ops.qkv.attention))
torch.library.register_vmap("qkv::attention_backward", _one_by_one(torch.ops.qkv.attention_backward))


class _Eager(torch.autograd.Function):
    """The operator for autograd alone, without its overhead, and for torch.func, which does not know operators with autograd."""

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)

    @staticmethod
    def forward(query, key, value, *options):
        return _core.attention(query, key, value, _engine_options(options), True, None, None)

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _one_by_one(_Eager.apply)(info, in_dims, *arguments)


class _EagerBackward(torch.autograd.Function):
    """The same of the backward pass."""

    forward = staticmethod(_gradients)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("qkv.attention cannot be differentiated twice")

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _one_by_one(_EagerBackward.apply)(info, in_dims, *arguments)


def _is_traced(query: Tensor) -> bool:
    """Whether a compiler, a dispatch mode or a subclass of Tensor wants to see an operator."""
    return torch.compiler.is_compiling() or type(query) not in _PLAIN or torch._C._len_torch_dispatch_stack() > 0


def _is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work."""
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def needs_operator(*tensors: Any) -> bool:
    """Whether something looks on that must not be passed by."""
    return _is_traced(tensors[0]) or _is_transformed() or torch.is_grad_enabled() and any(
        getattr(tensor, "requires_grad", False) for tensor in tensors)


def _tensor(value: Any, dtype: torch.dtype) -> Optional[Tensor]:
    return value if value is None or isinstance(value, Tensor) else torch.as_tensor(value, dtype=dtype)


def attention(query: Tensor, key: Tensor, value: Tensor, options: tuple, return_lse: bool, trace: Any, out: Any) -> Any:
    """qkv.attention by the operator."""
    if out is not None:
        raise ValueError("qkv.attention: out is given, but the result is differentiated, compiled or transformed; expected no out, "
                         "or a call under torch.no_grad()")
    given = list(options)
    given[_CAUSAL] = {False: "", None: "", True: "bottom-right"}.get(given[_CAUSAL], given[_CAUSAL])
    given[_SCALE] = None if given[_SCALE] is None else float(given[_SCALE])
    given[_WINDOW] = list(given[_WINDOW] or (-1, -1))
    given[_SOFTCAP] = float(given[_SOFTCAP])
    for place in (_SINKS, _LISTS[0], _K_SCALE, _V_SCALE):
        given[place] = _tensor(given[place], torch.float32)
    for place in _LISTS[1:]:
        given[place] = _tensor(given[place], torch.int32)
    operator = torch.ops.qkv.attention if _is_traced(query) else _Eager.apply
    result, lse = operator(query, key, value, *given)
    if trace is None:
        return (result, lse) if return_lse else result
    if torch.compiler.is_compiling() or _is_transformed():
        raise ValueError("qkv.attention: trace is recorded outside of torch.compile and torch.func only; expected None there")
    plain = [x.detach() if isinstance(x, Tensor) else x for x in (query, key, value, *options)]
    with torch.no_grad():  # once more, as a gradient does not pass through the trace
        fields = _core.attention(*plain[:3], tuple(plain[3:]), False, trace, None)[-1]
    seen = AttentionTrace(**fields)
    return (result, lse, seen) if return_lse else (result, seen)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Optional[Tensor] = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: Optional[float] = None,
                                 enable_gqa: bool = False) -> Tensor:
    """torch.nn.functional.scaled_dot_product_attention on qkv: the same arguments, the same meaning.

    query [..., heads_q, L, E], key [..., heads, S, E], value [..., heads, S, E_v]; attn_mask repeats to [..., heads_q, L, S]: bool
    (True = may attend) or float (added to the scores). is_causal counts from the top left: query i sees keys up to i.
    dropout_p must be 0. Returns [..., heads_q, L, E_v]. Raises ValueError.
    """
    from . import attention as attend

    *tensors, options, shape = as_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    out = attend(*tensors, **options)
    return out if query.dim() == 4 else out.reshape(shape)


def as_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Optional[Tensor] = None, dropout_p: float = 0.0,
                 is_causal: bool = False, scale: Optional[float] = None, enable_gqa: bool = False) -> tuple:
    """A call of scaled_dot_product_attention as one of qkv.attention: query, key, value, options, and the result's shape."""
    name = "qkv.scaled_dot_product_attention"
    if dropout_p != 0.0:
        raise ValueError(f"{name}: dropout_p is {dropout_p}; qkv computes exact attention: expected 0 (in training, set the model's "
                         "attention dropout to 0)")
    if is_causal and attn_mask is not None:
        raise ValueError(f"{name}: attn_mask and is_causal are both given; expected one of them")
    dimensions = query.dim()
    if dimensions < 2 or key.dim() != dimensions or value.dim() != dimensions:
        raise ValueError(f"{name}: query, key and value have shapes {list(query.shape)}, {list(key.shape)} and {list(value.shape)}; "
                         "expected the same number of dimensions, 2 or more")
    same = dimensions == 4 and query.shape[0] == key.shape[0] == value.shape[0]
    lead = query.shape[:1] if same else torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])

    def four(tensor: Tensor) -> Tensor:
        if same:
            return _contiguous_rows(tensor)
        heads = tensor.shape[-3] if dimensions > 2 else 1
        rows = tensor.expand(*lead, *tensor.shape[-3:]) if dimensions > 2 else tensor
        return _contiguous_rows(rows.reshape(-1, heads, *tensor.shape[-2:]))

    q, k, v = four(query), four(key), four(value)
    if q.shape[1] != k.shape[1] and not enable_gqa:
        raise ValueError(f"{name}: query has {q.shape[1]} heads and key {k.shape[1]}; expected the same number, or enable_gqa=True")
    options: dict[str, Any] = {"scale": scale, "causal": "top-left" if is_causal else False}
    if attn_mask is not None:
        term = attn_mask
        if dimensions > 4:
            term = term.expand(*lead, *torch.broadcast_shapes(term.shape[-3:], (1, 1, 1)))
            term = term.reshape(-1, *term.shape[-3:])
        options |= {"mask": term} if term.dtype == torch.bool else {"bias": term.float()}
    return q, k, v, options, (*lead, *query.shape[-3:-1], value.shape[-1])
