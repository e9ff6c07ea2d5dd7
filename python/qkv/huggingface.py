"""qkv in Hugging Face transformers: after `import qkv.huggingface`, any model takes attn_implementation="qkv".

    model = AutoModel.from_pretrained(path, attn_implementation="qkv")

The attention function and a mask function are registered under that name. Masks stay structural: causal order, windows, padding and
packed sequences are told to the engine, and no mask of queries × keys is built unless a model asks for one of another form.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers import masking_utils as masking

from . import attention as attend

__all__ = ["NAME", "Mask", "attention", "mask"]
NAME = "qkv"

# Attention modules that somebody watches (qkv.watch), each with what is told of a call and gets its trace.
watched: "weakref.WeakKeyDictionary[torch.nn.Module, Any]" = weakref.WeakKeyDictionary()


@dataclass(eq=False)
class Mask:
    """Who may see whom, told in a few numbers. Where a model treats it as a tensor, it is the bool one [batch, 1, Sq, Sk]."""

    batch: int
    queries: int
    keys: int
    first: int = 0  # the key at whose place query 0 stands
    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    padding: Tensor | None = None  # [batch, keys] bool, True = a real token
    starts: Tensor | None = None  # [n+1] int32 where packed sequences begin, the last number their end
    offset: int = 0  # the token that key 0 is: a sliding cache forgets the first ones

    @cached_property
    def dense(self) -> Tensor:
        query = torch.arange(self.queries)[:, None] + self.first
        key = torch.arange(self.keys)[None, :]
        seen = torch.ones(self.queries, self.keys, dtype=torch.bool)
        if self.causal:
            seen &= key <= query
        if self.window[0] >= 0:
            seen &= key >= query - self.window[0]
        if self.window[1] >= 0:
            seen &= key <= query + self.window[1]
        if self.starts is not None:
            sequence = torch.searchsorted(self.starts, torch.arange(self.keys, dtype=torch.int32), right=True)
            seen &= sequence[:, None] == sequence[None, :]
        seen = seen[None, None].expand(self.batch, 1, -1, -1)
        return seen if self.padding is None else seen & self.padding[:, None, None, :]

    shape = property(lambda self: torch.Size((self.batch, 1, self.queries, self.keys)))
    ndim = property(lambda self: 4)
    dtype = property(lambda self: torch.bool)
    device = property(lambda self: torch.device("cpu"))

    def to(self, *arguments: Any, **keywords: Any) -> Any:
        moved = torch.empty(0, dtype=torch.bool).to(*arguments, **keywords)
        same = moved.dtype == torch.bool and moved.device.type == "cpu"
        return self if same else self.dense.to(*arguments, **keywords)

    @classmethod
    def __torch_function__(cls, function: Callable, types: Any, arguments: tuple = (), keywords: dict | None = None) -> Any:
        def plain(x: Any) -> Any:
            return x.dense if isinstance(x, Mask) else type(x)(map(plain, x)) if type(x) in (list, tuple) else x

        return function(*map(plain, arguments), **{name: plain(x) for name, x in (keywords or {}).items()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dense":
            raise AttributeError(name)
        return getattr(self.dense, name)

    def __getitem__(self, index: Any) -> Tensor:
        return self.dense[index]

    def __invert__(self) -> Tensor:
        return ~self.dense

    def __and__(self, other: Any) -> Tensor:
        return self.dense & other

    def __or__(self, other: Any) -> Tensor:
        return self.dense | other

    __rand__, __ror__ = __and__, __or__

    def _no_number(self, *_: Any) -> Any:
        raise ValueError("this model adds its attention mask to scores of its own, so that its attention does not go through "
                         f'transformers\' AttentionInterface: attn_implementation="{NAME}" cannot run it; expected "eager"')

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _no_number

    def arguments(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """key, value and the options of qkv.attention that say the same."""
        options: dict[str, Any] = {"causal": self.causal, "window": self.window}
        keys = min(self.keys, key.shape[2])
        if self.causal or self.window != (-1, -1):  # bottom-right: the last query stands at the last key
            keys = min(keys, self.first + self.queries)
        if keys < key.shape[2]:
            key, value = key[:, :, :keys], value[:, :, :keys]
        if self.padding is not None:
            options["mask"] = self.padding[:, None, None, :keys]
        return key, value, options


def _closure(function: Callable) -> dict[str, Any]:
    names = function.__code__.co_freevars
    return dict(zip(names, (cell.cell_contents for cell in function.__closure__ or ())))


def _structure(function: Callable) -> dict[str, Any] | None:
    """What transformers' mask function says, as fields of Mask; None if it is one that is not known here."""
    if function is masking.causal_mask_function:
        return {"causal": True}
    if function is masking.bidirectional_mask_function:
        return {}
    maker = getattr(function, "__qualname__", "").split(".")[0]
    if getattr(function, "__module__", "") != masking.__name__ or not hasattr(function, "__code__"):
        return None
    held = _closure(function)
    if maker == "sliding_window_overlay":
        return {"window": (held["sliding_window"] - 1, -1)}
    if maker == "sliding_window_bidirectional_overlay":
        return {"window": (held["sliding_window"], held["sliding_window"])}
    if maker == "packed_sequence_mask_function":
        return {"sequence": held["packed_sequence_mask"]}
    if maker == "remap_positions_for_packed_sequence":  # order and distance within a sequence are those of the whole
        return _structure(held["mask_function"])
    if maker != "and_masks":
        return None
    fields: dict[str, Any] = {}
    for part in map(_structure, held["mask_functions"]):
        if part is None or any(name in fields for name in part):
            return None
        fields |= part
    return fields


def _padding(attention_mask: Tensor | None, keys: int, offset: int) -> Tensor | None:
    padding = masking.prepare_padding_mask(attention_mask, keys, offset)
    if padding is None:
        return None
    padding = padding[:, offset:offset + keys]
    return None if bool(padding.all()) else padding


def mask(batch_size: int, q_length: int, kv_length: int, q_offset: Any = 0, kv_offset: int = 0,
         mask_function: Callable = masking.causal_mask_function, attention_mask: Any = None, **keywords: Any) -> Any:
    """transformers' mask function for attn_implementation="qkv": a Mask, or a bool tensor where none can say it."""
    if isinstance(attention_mask, Mask):  # prepared before, by generate()
        return attention_mask

    def dense() -> Tensor:
        keywords.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
        return masking.sdpa_mask(batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset,
                                 kv_offset=kv_offset, mask_function=mask_function, attention_mask=attention_mask, **keywords)

    if torch.compiler.is_compiling() or keywords.get("device", "cpu") not in ("cpu", torch.device("cpu")):
        return dense()
    fields = _structure(mask_function)
    first = int(q_offset) - kv_offset
    if fields is None or first < 0 or (fields and first + q_length > kv_length):
        return dense()
    padding = _padding(attention_mask, kv_length, kv_offset)
    sequence = fields.pop("sequence", None)
    if sequence is not None:
        if batch_size != 1 or padding is not None or q_length != kv_length:
            return dense()
        starts = torch.nonzero(torch.diff(sequence[0]))[:, 0] + 1
        fields["starts"] = torch.tensor([0, *starts.tolist(), kv_length], dtype=torch.int32)
    return Mask(batch_size, q_length, kv_length, first, padding=padding, offset=kv_offset, **fields)


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _added(mask_or_bias: Any, bias: Tensor | None, keys: int) -> dict[str, Any]:
    """A model's own tensor as mask or bias, with a bias of positions."""
    options: dict[str, Any] = {}
    if isinstance(mask_or_bias, Tensor):
        term = mask_or_bias[..., :keys]
        if term.dtype == torch.bool:
            options["mask"] = term
        else:
            bias = term.float() if bias is None else bias + term.float()
    if bias is not None:
        options["bias"] = bias
    return options


def attention(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, dropout: float = 0.0,
              scaling: float | None = None, is_causal: bool | None = None, softcap: float | None = None,
              s_aux: Tensor | None = None, position_bias: Tensor | None = None, **keywords: Any) -> tuple[Tensor, None]:
    """transformers' attention function for attn_implementation="qkv".

    query [batch, heads_q, Sq, dim], key and value [batch, heads_kv, Sk, ·], as the model has them. Returns ([batch, Sq, heads_q,
    value_dim], None). Raises ValueError for dropout and for paged caches.
    """
    name = type(module).__name__
    if dropout:
        raise ValueError(f"qkv.huggingface: {name} asks for attention dropout {dropout}, and qkv computes exact attention; expected 0: "
                         "set config.attention_dropout (or attention_probs_dropout_prob, attn_pdrop, ...) to 0, or model.eval()")
    if keywords.get("cache") is not None:
        raise ValueError(f"qkv.huggingface: {name} has a paged cache of continuous batching, which qkv does not read; expected a "
                         "dynamic or static cache")
    batch, queries = max(query.shape[0], key.shape[0]), query.shape[2]
    query, key, value = (_rows(x if x.shape[0] == batch else x.expand(batch, -1, -1, -1)) for x in (query, key, value))
    if isinstance(attention_mask, Mask):
        key, value, options = attention_mask.arguments(key, value)
    else:
        options = {}
        if attention_mask is None and queries > 1:
            is_causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
            options["causal"] = "top-left" if is_causal else False
    keys = key.shape[2]
    bias = None if position_bias is None else position_bias[..., :keys].float()
    options |= _added(attention_mask, bias, keys)
    options |= {"scale": scaling, "softcap": softcap or 0.0, "sinks": None if s_aux is None else s_aux.float().reshape(-1)}
    starts = attention_mask.starts if isinstance(attention_mask, Mask) else None
    if starts is not None and "bias" not in options:
        options |= {"cu_seqlens_q": starts, "cu_seqlens_k": starts}
    elif starts is not None:
        options["mask"] = attention_mask.dense

    observer = watched.get(module)
    if observer is not None:
        offset = attention_mask.offset if isinstance(attention_mask, Mask) else 0
        return observer(module, query, key, value, options, offset).transpose(1, 2).contiguous(), None
    needs_gradient = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (query, key, value, bias, options["sinks"]))
    if needs_gradient or torch.compiler.is_compiling():
        return attend(query, key, value, **options).transpose(1, 2).contiguous(), None
    # written where the model reads it, so that nothing is turned around afterwards
    out = query.new_empty(batch, queries, query.shape[1], value.shape[-1])
    attend(query, key, value, **options, out=out.transpose(1, 2))
    return out, None


def _register() -> None:
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
    original = PreTrainedModel.get_correct_attn_implementation
    if getattr(original, "checks_qkv", False):
        return

    def get_correct_attn_implementation(self: Any, requested_attention: str | None, is_init_check: bool = False) -> str:
        # transformers itself would fail with a KeyError, or silently run the model's own attention
        if requested_attention == NAME and not self._can_set_attn_implementation():
            raise ValueError(f"{type(self).__name__} does not route its attention through transformers' AttentionInterface, so that "
                             f'attn_implementation="{NAME}" cannot run it; expected "eager" for this model')
        return original(self, requested_attention, is_init_check)

    get_correct_attn_implementation.checks_qkv = True  # type: ignore[attr-defined]
    PreTrainedModel.get_correct_attn_implementation = get_correct_attn_implementation


_register()
