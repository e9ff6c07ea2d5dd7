"""What qkv.watch saw, as data and in a notebook."""
from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .seen import Head, Layer, Seen


def _rounded(values: Tensor) -> list:
    """Four significant digits are what a page shows."""
    return [[float(f"{x:.4g}") for x in row] if isinstance(row, list) else float(f"{row:.4g}") for row in values.tolist()]


def _head(head: Head, batch: int) -> dict[str, Any]:
    calls = head.layer.calls
    told: dict[str, Any] = {"head": head.index}
    tops = [call.trace.top_keys[batch, head.index] for call in calls]
    told["top_keys"] = [[k + call.first_key if k >= 0 else k for k in row] for call, top in zip(calls, tops) for row in top.tolist()]
    told["top_weights"] = _rounded(torch.cat([call.trace.top_weights[batch, head.index] for call in calls]))
    told["remainder"] = _rounded(torch.cat([call.trace.remainder[batch, head.index] for call in calls]))
    told["entropy"] = _rounded(head.entropy(batch))
    if calls[0].trace.received is not None:
        told["received"] = _rounded(head.received(batch))
        told["sinks"] = [[key, round(share, 4)] for key, share in head.sinks(batch=batch)]
    if calls[0].trace.block_mass is not None:
        mass, largest = head.blocks(0, batch)
        told["block_mass"], told["block_max"] = _rounded(mass), _rounded(largest)
    return told


def report(seen: Seen, batch: int = 0) -> dict[str, Any]:
    """{"schema": 1, "tokens": {stream: [...]}, "block", "layers": [{"index", "name", "queries", "keys", "heads": [...]}]}."""
    layers = []
    for layer in seen.layers:
        if layer.calls:
            queries, keys = seen.streams_of(layer)
            layers.append({"index": layer.index, "name": layer.name, "queries": queries, "keys": keys,
                           "heads": [_head(head, batch) for head in layer.heads]})
    return {"schema": 1, "tokens": {stream: seen.tokens(stream, batch) for stream in seen.named_streams()}, "block": seen.trace.block,
            "layers": layers}


def _colour(share: float) -> str:
    return f"background:rgba(31,119,180,{min(1.0, share):.2f})"


def _cell(head: Head) -> str:
    entropy = head.entropy().mean().item()
    sinks = head.sinks() if head.layer.calls[0].trace.received is not None else []
    note = f"layer {head.layer.index}, head {head.index}: reads {2.718281828 ** entropy:.1f} keys on average"
    note += "".join(f"; key {key} takes {share:.0%}" for key, share in sinks[:1])
    share = sinks[0][1] if sinks else 0.0
    return f'<td title="{html.escape(note)}" style="{_colour(share)};padding:2px 6px;text-align:right">{2.718281828 ** entropy:.1f}</td>'


def notebook(seen: Seen) -> str:
    """A table: for each head how many keys a query reads on average, and, by colour, whether one key takes most of it."""
    layers: list[Layer] = [layer for layer in seen.layers if layer.calls]
    most = max((len(layer.heads) for layer in layers), default=0)
    head_row = "".join(f"<th>{i}</th>" for i in range(most))
    rows = "".join(f'<tr><th style="text-align:left">{layer.index} {html.escape(layer.name)}</th>{"".join(map(_cell, layer.heads))}</tr>'
                   for layer in layers)
    return (f"<p>{html.escape(repr(seen)[1:-1])}. Each number: how many keys a query of that head reads, on average (e<sup>entropy</sup>); "
            f"the darker, the more goes to a single key.</p><table><tr><th>layer · head</th>{head_row}</tr>{rows}</table>")
