"""What qkv.watch saw, as the page of page/: one file of HTML. docs/page.md lists what is in it, page/watch_data.js reads it.

The page begins with an index in JSON. Behind it comes, in base64 and one element each, what the page decodes only when somebody
looks: the block map of every head (float16), and of a head either its rows (the keys that each query read most) or its tiles (q and
k, as the model had them, and the log-sum-exp of each query: every weight, exactly).
"""
from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from . import __version__, isa

if TYPE_CHECKING:
    from .seen import Call, Head, Layer, Seen

MOST_BLOCKS = 64  # on a side of a map in the page


def _base64(values: Tensor) -> str:
    values = values.detach().contiguous()
    return base64.b64encode((values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy().tobytes()).decode()


def _size(count: int, bytes_each: int) -> int:
    """Characters of so many numbers in base64."""
    return 4 * math.ceil(count * bytes_each / 3)


def _hidden(call: Call, batch: int) -> Tensor | None:
    """[keys] bool: keys that no query may see, of a mask that is the same for all queries and heads."""
    mask = call.options.get("mask")
    if mask is None:
        return None
    mask = mask[(None,) * (4 - mask.dim())]
    return ~mask[batch if mask.shape[0] > 1 else 0, 0, 0]


def _why_no_tiles(layer: Layer) -> str:
    """Why the page cannot compute weights of this layer; empty if it can."""
    last = layer.calls[-1]
    for call in layer.calls:
        if call.query is None or call.key is None:
            return f"q and k were not kept: {call.why_not_kept}."
        if call.options.get("bias") is not None:
            return "The model adds a bias of its own to the scores."
        mask = call.options.get("mask")
        if mask is not None and mask.numel() != mask.shape[-1] * (mask.shape[0] if mask.dim() == 4 else 1):
            return "The model has a mask of its own."
        same = call.key.data_ptr() == last.key.data_ptr() or torch.equal(call.key, last.key[:, :, :call.keys])
        if call.first_key != last.first_key or call.key.dtype != last.key.dtype or not same:
            return "Its calls read different keys."
    return ""


def _call(call: Call, batch: int) -> dict[str, Any]:
    lengths = call.options.get("key_lengths")
    causal = call.options.get("causal", False)
    hidden = _hidden(call, batch) if call.options.get("bias") is None else None
    return {"first_query": call.first_query, "queries": call.queries, "first_key": call.first_key,
            "keys": call.keys if lengths is None else int(lengths[batch]), "causal": "bottom-right" if causal is True else causal,
            "window": list(call.options.get("window", (-1, -1))),
            "hidden": None if hidden is None else _base64(hidden.to(torch.uint8))}


def _block_map(head: Head, batch: int) -> tuple[Tensor, Tensor, dict[str, int]] | None:
    """(share, largest weight) of blocks, at most MOST_BLOCKS on a side, of the call with most queries, and where these are."""
    call = max(head.layer.calls, key=lambda it: it.queries)
    if call.trace.block_mass is None or not head.layer._seen.trace.block:
        return None
    mass, most = call.trace.block_mass[batch, head.index], call.trace.block_max[batch, head.index]
    block = head.layer._seen.trace.block
    pool = math.ceil(max(mass.shape) / MOST_BLOCKS)
    if pool > 1:
        pad = (0, -mass.shape[1] % pool, 0, -mass.shape[0] % pool)
        mass = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(mass, pad)[None], pool)[0] * pool * pool
        most = torch.nn.functional.max_pool2d(torch.nn.functional.pad(most, pad)[None], pool)[0]
    side = block * pool
    rows = torch.tensor([min(side, call.queries - i) for i in range(0, call.queries, side)])
    place = {"block": side, "first_query": call.first_query, "first_key": call.first_key, "queries": call.queries, "keys": call.keys}
    return mass / rows[:, None], most, place


def _maps(layer: Layer, batch: int) -> dict[str, str]:
    found = {head.index: _block_map(head, batch) for head in layer.heads}
    return {f"map-{layer.index}-{index}": _base64(torch.cat([it[0].flatten(), it[1].flatten()]).half())
            for index, it in found.items() if it is not None}


def _layer(seen: Seen, layer: Layer, batch: int) -> dict[str, Any]:
    queries, keys = seen.streams_of(layer)
    call, heads = layer.calls[-1], layer.heads
    kept = call.query is not None and call.key is not None
    received = call.trace.received is not None
    sinks = [head.sinks(batch=batch)[:1] if received else [] for head in heads]
    found = _block_map(heads[0], batch)
    options = call.options

    def listed(name: str) -> list[float] | None:
        return None if options.get(name) is None else options[name].float().tolist()

    return {"index": layer.index, "name": layer.name, "queries": queries, "keys": keys, "count_queries": layer.queries,
            "count_keys": max(call.first_key + call.keys for call in layer.calls), "heads": len(heads),
            "group": len(heads) // call.key.shape[1] if kept else 1, "dim": call.query.shape[-1] if kept else 0,
            "dtype": str(call.query.dtype).removeprefix("torch.") if kept else "",
            "scale": (options.get("scale") or 1 / math.sqrt(call.query.shape[-1])) if kept else 0,
            "softcap": options.get("softcap") or 0, "slopes": listed("alibi_slopes"), "sinks": listed("sinks"),
            "calls": [_call(call, batch) for call in layer.calls], "why": _why_no_tiles(layer),
            "entropy": [round(head.entropy(batch).mean().item(), 4) for head in heads],
            "sink": [[it[0][0], round(it[0][1], 4)] if it else None for it in sinks], "map": found and found[2]}


def _rows(layer: Layer, head: int, top: int, batch: int) -> dict[str, str]:
    """Keys [queries, top], then weights [queries, top] and remainder [queries] in steps of 1/65535."""
    keys = torch.cat([call.trace.top_keys[batch, head] + call.first_key for call in layer.calls]).clamp(min=0)
    weights = torch.cat([call.trace.top_weights[batch, head] for call in layer.calls])
    rest = torch.cat([call.trace.remainder[batch, head] for call in layer.calls])
    wide = max(call.first_key + call.keys for call in layer.calls) > 65535
    data = keys.numpy().astype(np.uint32 if wide else np.uint16).tobytes()
    for shares in (weights, rest):
        data += np.rint(shares.numpy().clip(0, 1) * 65535).astype(np.uint16).tobytes()
    return {f"rows-{layer.index}-{head}": base64.b64encode(data).decode()}


def _size_of_rows(layer: Layer, top: int) -> int:
    wide = max(call.first_key + call.keys for call in layer.calls) > 65535
    return _size(layer.queries, top * (6 if wide else 4) + 2)


def _tiles(layer: Layer, head: int, batch: int) -> dict[str, str]:
    group = layer.calls[-1].query.shape[1] // layer.calls[-1].key.shape[1]
    query = torch.cat([call.query[batch, head] for call in layer.calls])
    lse = torch.cat([call.trace.lse[batch, head] for call in layer.calls])
    return {f"q-{layer.index}-{head}": _base64(query), f"lse-{layer.index}-{head}": _base64(lse),
            f"k-{layer.index}-{head // group}": _base64(layer.calls[-1].key[batch, head // group])}


def _size_of_tiles(layer: Layer, head: int) -> tuple[int, str, int]:
    """(characters of q and log-sum-exp, the name of the keys, which heads may share, and their characters)."""
    call = layer.calls[-1]
    dim, each = call.query.shape[-1], call.query.element_size()
    name = f"k-{layer.index}-{head // (call.query.shape[1] // call.key.shape[1])}"
    return _size(layer.queries * dim, each) + _size(layer.queries, 4), name, _size(call.key.shape[2] * dim, each)


def _choose(seen: Seen, order: list[Head], left: float, tiles: set[tuple[int, int]] | None) -> dict[tuple[int, int], str]:
    """What the file has room for, head by head: "rows" for as many as half of the room takes, then "tiles" instead."""
    detail: dict[tuple[int, int], str] = {}
    half = left / 2
    for head in order if seen.trace.top else []:
        size = _size_of_rows(head.layer, seen.trace.top)
        if size <= left - half:
            detail[head.layer.index, head.index] = "rows"
            left -= size
    there: set[str] = set()
    for head in order:
        key = (head.layer.index, head.index)
        if (tiles is not None and key not in tiles) or _why_no_tiles(head.layer):
            continue
        own, keys, size = _size_of_tiles(head.layer, head.index)
        need = own + (0 if keys in there else size)
        need -= _size_of_rows(head.layer, seen.trace.top) if detail.get(key) == "rows" else 0
        if need <= left or tiles is not None:  # who names heads gets them
            detail[key] = "tiles"
            there.add(keys)
            left -= need
    return detail


def page(seen: Seen, batch: int, megabytes: float, tiles: Iterable[tuple[int, int]] | None) -> str:
    layers = [layer for layer in seen.layers if layer.calls]
    if not layers:
        raise ValueError("qkv.watch: nothing was seen that a page could show; expected a model that ran while it was watched")
    heads = {(head.layer.index, head.index): head for layer in layers for head in layer.heads}
    wanted = None if tiles is None else {(int(layer), int(head)) for layer, head in tiles}
    for key in (wanted or set()) - heads.keys():
        raise ValueError(f"qkv.watch: tiles names layer {key[0]}, head {key[1]}, which was not seen; expected layers of "
                         f"{[layer.index for layer in layers]}")
    told = [_layer(seen, layer, batch) for layer in layers]
    spread = {(it["index"], head): (it["sink"][head] is not None, it["entropy"][head]) for it in told for head in range(it["heads"])}
    order = [heads[key] for key in sorted(heads, key=spread.__getitem__)]  # those that choose, not those that rest on one key
    payload = {name: text for layer in layers for name, text in _maps(layer, batch).items()}
    detail = _choose(seen, order, megabytes * 1e6 - sum(map(len, payload.values())), wanted)
    first = next((head for head in order if detail.get((head.layer.index, head.index)) == "tiles"), order[0])
    for head in [first, *order]:
        key = (head.layer.index, head.index)
        if detail.get(key) == "tiles" and f"q-{key[0]}-{key[1]}" not in payload:
            payload |= _tiles(head.layer, head.index, batch)
        elif detail.get(key) == "rows":
            payload |= _rows(head.layer, head.index, seen.trace.top, batch)
    for it in told:
        it["detail"] = [detail.get((it["index"], head), "map") for head in range(it["heads"])]
    return _assemble({"kind": "watch", "schema": 1, "version": __version__, "isa": isa(), "model": type(seen._model).__name__,
                      "tokens": {stream: seen.tokens(stream, batch) for stream in seen.named_streams()}, "top": seen.trace.top,
                      "open": [layers.index(first.layer), first.index], "layers": told}, payload)


def _assemble(index: dict[str, Any], payload: dict[str, str]) -> str:
    """As src/lens/page.cc does: modules become data URLs of an import map, and JSON has no "<"."""
    files = {file.name: file.read_text(encoding="utf-8") for file in resources.files(__package__).joinpath("page_files").iterdir()}
    modules = {f"qkv/{name}": "data:text/javascript;charset=utf-8," + quote(text, safe="-_.~!*'();:@=+$,/?[] {}|^`")
               for name, text in sorted(files.items()) if name.endswith(".js") and not name.startswith("find")}
    data = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    elements = "".join(f'<script type="text/plain" id="{name}">{text}</script>\n' for name, text in payload.items())
    page = files["page.html"]
    for mark, text in (("/*style.css*/", files["style.css"]), ("/*import map*/", json.dumps({"imports": modules})),
                       ("<!--payload-->\n", elements), ("/*runs*/", data)):
        page = page.replace(mark, text, 1)
    return page
