"""What the heads of a model read while it ran: `qkv.watch`."""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from . import AttentionTrace, Trace
from . import attention as attend
from . import weights as weights_of
from .pytorch import as_attention

__all__ = ["Call", "Head", "Layer", "Seen", "watch"]

_SCORES = ("scale", "causal", "window", "mask", "bias", "softcap", "sinks", "alibi_slopes", "key_lengths")


@dataclass(eq=False)
class Call:
    """One call of a layer's attention."""

    trace: AttentionTrace  #: as qkv.attention recorded it; indices count from this call's own first key
    queries: int
    keys: int
    first_query: int  #: queries of this layer before this call
    first_key: int  #: the token that key 0 is; more than 0 where a sliding cache forgot some
    options: dict[str, Any]
    query: Tensor | None = None  #: [batch, heads, queries, dim], if kept
    key: Tensor | None = None  #: [batch, heads_kv, keys, dim], if kept
    why_not_kept: str = ""


@dataclass(eq=False)
class Head:
    """One query head of a layer. Queries count through all calls of the layer; batch is the entry that is asked about."""

    layer: Layer
    index: int

    def top(self, query: int, n: int | None = None, batch: int = 0) -> tuple[list[tuple[int, float]], float]:
        """The keys that a query read most, [(key, weight), ...], and the weight of all others (the sink's included)."""
        call, row = self.layer.call_of(query)
        keys = call.trace.top_keys[batch, self.index, row]
        weights = call.trace.top_weights[batch, self.index, row]
        read = [(call.first_key + k, w) for k, w in zip(keys.tolist()[:n], weights.tolist()[:n]) if k >= 0]
        if n is not None and n > len(keys):
            raise ValueError(f"qkv.watch: n is {n}; expected at most top={len(keys)}, what was watched for")
        if n is None or n >= len(keys):
            return read, float(call.trace.remainder[batch, self.index, row])
        others = float(call.trace.remainder[batch, self.index, row]) + sum(weights.tolist()[n:])
        return read, others

    def entropy(self, batch: int = 0) -> Tensor:
        """[queries] in nats; e^entropy keys were read, in effect."""
        return torch.cat([call.trace.entropy[batch, self.index] for call in self.layer.calls])

    def received(self, batch: int = 0) -> Tensor:
        """[keys] the weight that each key got from all queries of all calls."""
        return self._columns("received", batch)

    def attention_share(self, batch: int = 0) -> Tensor:
        """[keys] the mean weight of each key over the queries that could see it."""
        return self.received(batch) / self._columns("visible", batch).clamp(min=1)

    def sinks(self, share: float = 0.3, batch: int = 0) -> list[tuple[int, float]]:
        """Keys that take at least this share of the attention of the queries that see them, (key, share), largest first.

        Keys that fewer than a quarter of all queries see are left out: to the last tokens of a causal model everything is near.
        """
        visible = self._columns("visible", batch)
        mean = self.attention_share(batch)
        found = torch.nonzero((mean >= share) & (visible * 4 >= visible.max()))[:, 0].tolist()
        return sorted(((key, float(mean[key])) for key in found), key=lambda pair: -pair[1])

    def blocks(self, call: int = 0, batch: int = 0) -> tuple[Tensor, Tensor]:
        """The block map of one call: (mass, largest weight), each [⌈queries/block⌉, ⌈keys/block⌉]."""
        trace = self.layer.calls[call].trace
        if trace.block_mass is None:
            raise ValueError("qkv.watch: no block map was watched for; expected block=64, or another side")
        return trace.block_mass[batch, self.index], trace.block_max[batch, self.index]

    def weights(self, queries: slice = slice(None), keys: slice = slice(None), batch: int = 0) -> Tensor:
        """[queries, keys] an exact tile of the matrix of weights; the queries must be of one call."""
        begin, end, _ = queries.indices(self.layer.queries)
        call, row = self.layer.call_of(begin)
        if call.query is None or call.key is None:
            raise ValueError(f"qkv.watch: query and key of layer {self.layer.index} are not there: {call.why_not_kept}; or call "
                             f"seen.run_again(lambda: model(...), layers=[{self.layer.index}]) before")
        if end > call.first_query + call.queries:
            raise ValueError(f"qkv.watch: queries {begin} to {end} are of several calls; expected an end of at most "
                             f"{call.first_query + call.queries}")
        first, last, step = keys.indices(call.first_key + call.keys)
        within = slice(max(first - call.first_key, 0), max(last - call.first_key, 0), step)
        group = call.query.shape[1] // call.key.shape[1]
        options = {name: _of_head(name, x, self.index, batch) for name, x in call.options.items() if name in _SCORES}
        tile = weights_of(call.query[batch:batch + 1, self.index:self.index + 1],
                          call.key[batch:batch + 1, self.index // group:self.index // group + 1],
                          lse=call.trace.lse[batch:batch + 1, self.index:self.index + 1].contiguous(),
                          queries=slice(row, row + end - begin), keys=within, **options)
        return tile[0, 0]

    def _columns(self, name: str, batch: int) -> Tensor:
        calls = self.layer.calls
        total = torch.zeros(max((call.first_key + call.keys for call in calls), default=0))
        for call in calls:
            column = getattr(call.trace, name)
            if column is None:
                raise ValueError("qkv.watch: what keys received was not watched for; expected received=True")
            total[call.first_key:call.first_key + call.keys] += column[batch, self.index]
        return total


def _of_head(name: str, x: Any, head: int, batch: int) -> Any:
    """An option of all heads and entries as one of a single head of a single entry."""
    if not isinstance(x, Tensor):
        return x
    if name in ("sinks", "alibi_slopes"):
        return x[head:head + 1]
    if name == "key_lengths":
        return x[batch:batch + 1]
    x = x[(None,) * (4 - x.dim())]
    x = x[batch:batch + 1] if x.shape[0] > 1 else x
    return x[:, head:head + 1] if x.shape[1] > 1 else x


class Steps:
    """Single queries of one layer, as a decoder asks them one after the other, that are traced together.

    A pass of many queries over the keys costs what a pass of one does, and a row's bits do not depend on its company.
    """

    MOST = 256

    def __init__(self, query: Tensor, key: Tensor, options: dict[str, Any], first_key: int) -> None:
        self.queries, self.key, self.options, self.first_key = [query], key, options, first_key
        self.growth: int | None = None  # keys that each step adds: 1 to its own text, 0 to another

    @staticmethod
    def can_wait(query: Tensor, options: dict[str, Any]) -> bool:
        plain = all(options.get(name) is None for name in ("mask", "bias", "key_lengths", "cu_seqlens_q", "alibi_slopes"))
        return query.shape[2] == 1 and plain and options.get("window", (-1, -1)) == (-1, -1) and not (
            torch.is_grad_enabled() and query.requires_grad)

    def joins(self, query: Tensor, key: Tensor, options: dict[str, Any], first_key: int) -> bool:
        """Takes the next step, if it goes on where the last one was."""
        growth = key.shape[2] - self.key.shape[2]
        known = self.growth in (None, growth) and growth in (0, 1) and len(self.queries) < self.MOST
        if not known or first_key != self.first_key or query.shape != self.queries[0].shape or key.shape[:2] != self.key.shape[:2]:
            return False
        same = all(_same(options.get(name), self.options.get(name)) for name in ("scale", "softcap", "sinks"))
        # a cache that was reordered or moved on differs in its last keys already; a few others are looked at for good measure
        old = self.key.shape[2]
        places = torch.cat([torch.arange(0, old, max(1, old // 16)), torch.tensor([old - 1])])
        if not same or not torch.equal(key[:, :, places], self.key[:, :, places]):
            return False
        self.queries.append(query)
        self.key, self.growth = key, growth
        return True

    def call(self, trace: Trace, first_query: int) -> tuple[Call, Tensor, Tensor]:
        query = torch.cat(self.queries, dim=2)
        options = {**self.options, "causal": bool(self.growth)}
        with torch.no_grad():  # what the values are has no part in what was read
            _, seen = attend(query, self.key, self.key[..., :1], **options, trace=trace)
        return Call(seen, query.shape[2], self.key.shape[2], first_query, self.first_key, options), query, self.key


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b


@dataclass(eq=False)
class Layer:
    """One attention module of the model."""

    index: int
    name: str  #: its path in the model
    _seen: Seen
    _calls: list[Call] = field(default_factory=list)
    _steps: Steps | None = None

    @property
    def calls(self) -> list[Call]:
        """Its calls in order; single queries that follow one another, as in generation, are one."""
        if self._steps is not None:
            steps, self._steps = self._steps, None
            self._seen.keep(self, *steps.call(self._seen.trace, self.queries))
        return self._calls

    @property
    def heads(self) -> list[Head]:
        count = self.calls[0].trace.lse.shape[1] if self.calls else 0
        return [Head(self, index) for index in range(count)]

    @property
    def queries(self) -> int:
        return self.calls[-1].first_query + self.calls[-1].queries if self.calls else 0

    @property
    def is_cross(self) -> bool:
        """Whether the keys are of another text than the queries, as far as the module's name says it."""
        return any(part in self.name.lower() for part in ("cross", "encoder_attn", "encdec"))

    def call_of(self, query: int) -> tuple[Call, int]:
        """The call that a query was in, and its row there."""
        if query < 0:
            query += self.queries
        for call in self.calls:
            if call.first_query <= query < call.first_query + call.queries:
                return call, query - call.first_query
        raise IndexError(f"qkv.watch: query {query} of layer {self.index}, which had {self.queries}")


class _Enough(Exception):
    """Stops a model that was run again, when what it was run for is there."""


class Seen:
    """What was seen. `layers` are in the order of their first call; `tokens` says what stands at a place, for people.

    What a model reads besides text has no names until it is given some, before a page is written:

        seen.streams["*.vision_cross_attn"] = "object", "patch"      # layers of such names: what their queries and their keys are
        seen.texts["patch"] = ["row 0 column 0", "row 0 column 1", ...]
    """

    def __init__(self, trace: Trace, layers: set[int] | None, keep_bytes: int, tokenizer: Any) -> None:
        self.layers: list[Layer] = []
        self.trace, self.keep_left, self.tokenizer = trace, keep_bytes, tokenizer
        self.ids: dict[str, Tensor] = {}  # "input", or "source" and "target": [batch, tokens]
        self.streams: dict[str, tuple[str, str]] = {}  # the first pattern (fnmatch) that fits a layer's name holds
        self.texts: dict[str, list[str]] = {}
        self._held: set[int] = set()  # storages of the masks and biases that are kept
        self._model: Any = None
        self._queries_left: int | None = None  # of the layers asked for, when a run may stop after them
        self._asked = layers
        self._by_module: dict[Any, Layer] = {}
        self._names: dict[Any, str] = {}

    # ---- recording

    def observe(self, module: Any, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any], first_key: int = 0) -> Tensor:
        """Attention, recorded."""
        out = self._observe(module, query, key, value, options, first_key)
        if self._queries_left is not None and (self._asked is None or self._by_module[module].index in self._asked):
            self._queries_left -= query.shape[2]
            if self._queries_left <= 0:
                raise _Enough
        return out

    def _observe(self, module: Any, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any], first_key: int) -> Tensor:
        layer = self._by_module.get(module)
        if layer is None:
            layer = self._by_module[module] = Layer(len(self.layers), self._names.get(module, type(module).__name__), self)
            self.layers.append(layer)
        if self._asked is not None and layer.index not in self._asked:
            return attend(query, key, value, **options)
        query_alone, key_alone = query.detach(), key.detach()
        if Steps.can_wait(query, options):
            if layer._steps is None or not layer._steps.joins(query_alone, key_alone, options, first_key):
                layer.calls  # those that wait are traced now
                layer._steps = Steps(query_alone, key_alone, options, first_key)
            return attend(query, key, value, **options)
        starts = options.get("cu_seqlens_q")
        asked = self.trace if starts is None else Trace(self.trace.top, self.trace.received, 0)
        out, trace = attend(query, key, value, **options, trace=asked)
        if starts is not None:  # indices count within a sequence: let them count from the first token
            sequence = torch.searchsorted(starts, torch.arange(query.shape[2], dtype=torch.int32), right=True) - 1
            trace.top_keys.add_(torch.where(trace.top_keys < 0, 0, starts[sequence][:, None]))
        options = {name: x.detach() if isinstance(x, Tensor) else x for name, x in options.items()}
        call = Call(trace, query.shape[2], key.shape[2], layer.queries, first_key, options)
        self.keep(layer, call, query_alone, key_alone)
        return out

    def keep(self, layer: Layer, call: Call, query: Tensor, key: Tensor) -> None:
        """Adds a call to its layer, with query and key if there is room for them."""
        dense = _dense(call.options)
        self._keep(layer.calls, call, query, key, dense)
        if call.query is None:
            call.options = {**call.options, **dict.fromkeys(dense)}
        layer.calls.append(call)

    def _keep(self, calls: list[Call], call: Call, query: Tensor, key: Tensor, dense: dict[str, Tensor]) -> None:
        if self.keep_left < 0:
            call.why_not_kept = "watched with keep=None; expected keep='qk'"
            return
        if call.options.get("cu_seqlens_q") is not None:
            call.why_not_kept = "they were packed sequences; watch one sequence alone"
            return
        if call.options.get("window", (-1, -1)) != (-1, -1):
            key = key.clone()  # a sliding cache writes over its keys
        before = calls[-1] if calls else None
        shared = (before is not None and before.key is not None and before.first_key == call.first_key == 0
                  and before.key.shape[:2] == key.shape[:2] and before.keys <= call.keys
                  and torch.equal(before.key, key[:, :, :before.keys]))
        size = query.numel() * query.element_size() + key.numel() * key.element_size()
        if shared:  # a cache that grew: one copy of the keys serves every step
            size -= before.key.numel() * before.key.element_size()
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in dense.values()}
        size += sum(count for storage, count in storages.items() if storage not in self._held)  # T5's layers share one bias
        if size > self.keep_left:
            call.why_not_kept = ("together they were larger than keep_bytes; watch fewer layers (layers=[...]), or allow more "
                                 "(keep_bytes=...)")
            return
        self.keep_left -= size
        self._held.update(storages)
        call.query, call.key = query, key
        if shared:
            for earlier in calls:
                if earlier.key is not None:
                    earlier.key = key[:, :, :earlier.keys]

    def run_again(self, run: Callable[[], Any], layers: Iterable[int], keep_bytes: int = 1 << 30) -> None:
        """Runs the model once more to get query and key of some layers that were not kept: then head.weights(...) tells.

        run: what ran inside of the `with` block, as lambda: model(**inputs); it is stopped when these layers are done.
        keep_bytes: the most that is kept of them. Raises ValueError if the model does something else this time.
        """
        asked = {layer.index: layer for layer in self.layers if layer.index in set(layers) and layer.calls}
        if len(asked) != len(set(layers)):
            raise ValueError(f"qkv.watch: layers are {sorted(set(layers))}; expected some that were watched, of "
                             f"{[layer.index for layer in self.layers if layer.calls]}")
        with torch.no_grad(), contextlib.suppress(_Enough), watch(self._model, asked, top=0, received=False, block=0) as found:
            found.keep_left, found._queries_left = keep_bytes, sum(layer.queries for layer in asked.values())
            run()
        again = {layer.index: layer for layer in found.layers}
        for index, layer in asked.items():
            calls = again[index].calls if index in again else []
            same = len(calls) == len(layer.calls) and all(
                (new.query is None or new.query.shape[2] == old.queries) and new.keys == old.keys
                and new.trace.lse.shape == old.trace.lse.shape
                and torch.allclose(new.trace.lse, old.trace.lse, rtol=1e-3, atol=1e-3) for new, old in zip(calls, layer.calls))
            if not same:
                raise ValueError(f"qkv.watch: layer {index} did not do what it did before; expected the same model, in eval mode, with "
                                 "the same inputs")
            for new, old in zip(calls, layer.calls):
                old.query, old.key, old.options, old.why_not_kept = new.query, new.key, new.options, new.why_not_kept

    def add_ids(self, stream: str, ids: Any) -> None:
        if isinstance(ids, Tensor) and ids.dim() == 2:
            before = self.ids.get(stream)
            same = before is not None and before.shape[0] == ids.shape[0]
            self.ids[stream] = torch.cat([before, ids], dim=1) if same else ids

    # ---- for people

    def tokens(self, stream: str | None = None, batch: int = 0) -> list[str]:
        """The tokens that the model read ("input"; "source" and "target" of a translator), as text where there is a tokenizer."""
        stream = stream or next(iter(self.ids), "input")
        if stream in self.texts:
            return self.texts[stream]
        ids = self.ids[stream][batch].tolist() if stream in self.ids else []
        return [self.tokenizer.decode([i]) for i in ids] if self.tokenizer is not None else [str(i) for i in ids]

    def streams_of(self, layer: Layer) -> tuple[str, str]:
        """Which tokens a layer's queries and keys are."""
        named = next((streams for pattern, streams in self.streams.items() if fnmatchcase(layer.name, pattern)), None)
        if named is not None:
            return named
        if "target" not in self.ids:
            return self._input_or_places(layer)
        if layer.is_cross:
            return "target", "source"
        return ("target", "target") if "decoder" in layer.name else ("source", "source")

    def _input_or_places(self, layer: Layer) -> tuple[str, str]:
        """"input" where there are as many as ids were read; the others, patches of a picture perhaps, have only their number."""
        ids = self.ids.get("input")
        keys = max((call.first_key + call.keys for call in layer.calls), default=0)
        if ids is None or not layer.calls or (layer.queries == ids.shape[1] and not layer.is_cross):
            return "input", "input"
        queries, keys = ("input" if count == ids.shape[1] else f"{count} places" for count in (layer.queries, keys))
        return queries, keys

    def named_streams(self) -> list[str]:
        """Those of the layers' streams whose tokens are known."""
        used = {stream for layer in self.layers for stream in self.streams_of(layer)}
        return [stream for stream in {**self.ids, **self.texts} if stream in used]

    def to_json(self, batch: int = 0) -> dict[str, Any]:
        """Everything that was seen of one batch entry, as what json.dumps takes."""
        from .report import report

        return report(self, batch)

    def save(self, path: str | Path, batch: int = 0, *, megabytes: float = 48, tiles: Iterable[tuple[int, int]] | None = None) -> None:
        """Writes a page that shows what was seen, complete in one file, at any length (docs/page.md).

        Block maps of all heads are always in it. As far as `megabytes` goes there are then, of each head, the keys that every query
        read most, and of the heads that choose most sharply q and k, from which the page computes every weight. `tiles` names the
        heads, (layer, head), whose q and k shall be there instead, whatever their size. Raises ValueError if nothing was seen or a
        head is named that was not.
        """
        from .page import page

        Path(path).write_text(page(self, batch, megabytes, tiles), encoding="utf-8")

    def _repr_html_(self) -> str:
        from .report import notebook

        return notebook(self)

    def __repr__(self) -> str:
        heads = sum(len(layer.heads) for layer in self.layers)
        calls = sum(len(layer.calls) for layer in self.layers)
        return f"<qkv.watch saw {len(self.layers)} layers, {heads} heads, {calls} calls>"


class _WatchedFunctions(TorchFunctionMode):
    """Sees calls of PyTorch's own scaled_dot_product_attention inside of modules that are watched."""

    def __init__(self, seen: Seen, running: list[nn.Module]) -> None:
        super().__init__()
        self.seen, self.running = seen, running
        self.original = nn.functional.scaled_dot_product_attention

    def attention(self, *arguments: Any, **keywords: Any) -> Tensor:
        if not self.running:
            return self.original(*arguments, **keywords)
        query, key, value, options, shape = as_attention(*arguments, **keywords)
        return self.seen.observe(self.running[-1], query, key, value, options).reshape(shape)

    def __torch_function__(self, function: Any, types: Any, arguments: tuple = (), keywords: dict | None = None) -> Any:
        function = self.attention if function is self.original else function
        return function(*arguments, **(keywords or {}))

    def __enter__(self) -> Any:
        # functions written in Python, as multi_head_attention_forward, run with the mode off: they find this one by its name
        nn.functional.scaled_dot_product_attention = self.attention
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        nn.functional.scaled_dot_product_attention = self.original
        super().__exit__(*error)


class watch:
    """Records what every attention call in a model read, while the `with` block runs, without a change to the model.

        with qkv.watch(model) as seen:
            model(**inputs)                              # or model.generate(...)
        seen.layers[3].heads[5].top(query=17)            # [(key, weight), ...], remainder
        seen.layers[3].heads[5].weights(slice(0, 20), slice(0, 20))
        seen.save("page.html")

    model: of Hugging Face transformers (it runs on qkv inside of the block), or any that calls PyTorch's
        scaled_dot_product_attention.
    layers: indices of the layers to record, in the order of their first call; default: all.
    top, received, block: as in qkv.Trace.
    keep: "qk" keeps query and key of the calls, for exact tiles of weights, up to keep_bytes in all; None keeps none.
    tokenizer: turns ids into what people read, in pages.

    Memory: top·8 bytes and 20 more for each query of each head, 8 for each key, and what is kept; none of it queries × keys, but for
    the block map's squares, and a mask or bias of that size where the model itself brings one, which is kept with its q and k.
    Raises ValueError naming the model's class if its attention cannot be seen.
    """

    def __init__(self, model: nn.Module, layers: Iterable[int] | None = None, *, top: int = 8, received: bool = True,
                 block: int = 64, keep: Literal["qk"] | None = "qk", keep_bytes: int = 1 << 30, tokenizer: Any = None) -> None:
        if keep not in ("qk", None):
            raise ValueError(f"qkv.watch: keep is {keep!r}; expected 'qk' or None")
        self.model = model
        self.seen = Seen(Trace(top, received, block), None if layers is None else set(layers), keep_bytes if keep else -1, tokenizer)
        self.seen._model = model
        self.seen._names = {module: name for name, module in model.named_modules()}
        self._undo: list[Any] = []

    def __enter__(self) -> Seen:
        try:
            if not ("transformers" in sys.modules and self._watch_transformers()):
                self._watch_functions()
        except BaseException:
            self._leave()
            raise
        return self.seen

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._leave()
        if kind is None and not self.seen.layers:
            raise ValueError(f"qkv.watch: no attention of {type(self.model).__name__} was seen; expected a model that ran, and whose "
                             "attention goes through transformers' AttentionInterface or torch.nn.functional."
                             "scaled_dot_product_attention")

    def _leave(self) -> None:
        while self._undo:
            self._undo.pop()()
        for layer in self.seen.layers:
            layer.calls  # what waited is traced before a cache can change

    def _watch_transformers(self) -> bool:
        """Whether there are models of transformers inside; then these are watched."""
        from transformers import PreTrainedModel

        from . import huggingface

        inner: set[nn.Module] = set()
        for module in self.model.modules():
            if not isinstance(module, PreTrainedModel) or module in inner:
                continue
            inner.update(module.modules())
            if not module._can_set_attn_implementation():
                raise ValueError(f"qkv.watch: {type(module).__name__} does not route its attention through transformers' "
                                 "AttentionInterface, so that it cannot be seen")
            before = [(config, config._attn_implementation) for config in _configs(module)]
            module.set_attn_implementation(huggingface.NAME)
            self._undo.append(lambda before=before: [_set_implementation(config, name) for config, name in before])
            self._watch_ids(module)
        for module in inner:
            huggingface.watched[module] = self.seen.observe
        self._undo.append(lambda: [huggingface.watched.pop(module, None) for module in inner])
        return bool(inner)

    def _watch_ids(self, model: Any) -> None:
        def hook(stream: str) -> Any:
            def look(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> None:
                ids = keywords.get("input_ids", arguments[0] if arguments else None)
                self.seen.add_ids(stream, ids)

            return look

        if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "get_encoder"):
            streams = {"source": model.get_encoder(), "target": model.get_decoder()}
        else:
            streams = {"input": model.base_model}
        for stream, module in streams.items():
            if module is not None:
                self._undo.append(module.register_forward_pre_hook(hook(stream), with_kwargs=True).remove)

    def _watch_functions(self) -> None:
        running: list[nn.Module] = []
        for module in self.model.modules():
            enter = module.register_forward_pre_hook(lambda module, _: running.append(module))
            leave = module.register_forward_hook(lambda *_: running.pop() and None, always_call=True)
            self._undo += [enter.remove, leave.remove]
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # nn.MultiheadAttention would pass by the function
        self._undo.append(lambda: torch.backends.mha.set_fastpath_enabled(fast_path))
        mode = _WatchedFunctions(self.seen, running)
        mode.__enter__()
        self._undo.append(lambda: mode.__exit__(None, None, None))


def _configs(model: nn.Module) -> list[Any]:
    """Every config of transformers inside, those of parts that are no PreTrainedModel of their own too."""
    found: dict[int, Any] = {}
    waiting = [getattr(module, "config", None) for module in model.modules()]
    while waiting:
        config = waiting.pop()
        if id(config) not in found and hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
            waiting += [getattr(config, name, None) for name in config.sub_configs]
    return list(found.values())


def _set_implementation(config: Any, name: str) -> None:
    config._attn_implementation_internal = name


def _dense(options: dict[str, Any]) -> dict[str, Tensor]:
    """Masks and biases that differ from query to query."""
    return {name: x for name in ("mask", "bias") if (x := options.get(name)) is not None and x.dim() > 1 and x.shape[-2] > 1}
