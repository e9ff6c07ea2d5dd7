"""Examples, their labels on pieces, and batches of like length.

A pair holds its labels on characters, so that a new sampling of sub-word pieces keeps them. Labels are rows
(query piece, key piece, weight); a decoder's query for target piece t stands at position t, whose input is the piece before it:
the step that produces the piece.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

Span = tuple[int, int]
Row = tuple[Span, tuple[tuple[Span, float], ...]]  # the pieces of a span read these spans with these weights


@dataclass
class Pair:
    en: str
    zh: str
    links: list[tuple[Span, Span]] = field(default_factory=list)  # (English span, Chinese span)
    coreference: dict[str, list[Row]] = field(default_factory=dict)  # by language
    syntax: dict[str, list[Row]] = field(default_factory=dict)

    def text(self, language: str) -> str:
        return self.en if language == "en" else self.zh


@dataclass
class Example:
    source: list[int]
    target: list[int]
    align: list[tuple[int, int, float]]
    coreference: list[tuple[int, int, float]]
    syntax: list[tuple[int, int, float]]


def under(spans: list[Span], want: Span) -> list[int]:
    """Pieces that overlap a span of characters."""
    return [n for n, (a, b) in enumerate(spans) if a < want[1] and b > want[0]]


def on_pieces(rows: list[Row], spans: list[Span], shift: int) -> list[tuple[int, int, float]]:
    found = []
    for query, keys in rows:
        total = sum(w for _, w in keys)
        for q in under(spans, query):
            for span, weight in keys:
                pieces = under(spans, span)
                found += [(q + shift, k + shift, weight / total / len(pieces)) for k in pieces]
    return found


class Encoder:
    """Pairs to examples, with a fresh sampling of pieces each time."""

    def __init__(self, tokenizer, sample: float, rng: np.random.Generator, word_dropout: float = 0.0):
        self.t, self.sample, self.rng, self.drop = tokenizer, sample, rng, word_dropout

    def ids(self, text: str) -> list[int]:
        return self.t.encode(text, self.sample if self.sample and self.rng.random() < 0.8 else 0.0)

    def example(self, pair: Pair, source: str, target: str | None) -> Example:
        """`target` None: the encoder's side only (for labels on it)."""
        text, t = pair.text(source), self.t
        ids = self.ids(text)
        to = target or ("zh" if source == "en" else "en")
        rows_c, rows_s = pair.coreference.get(source), pair.syntax.get(source)
        spans = t.spans(ids, text) if rows_c or rows_s or (target and pair.links) else None
        coreference = on_pieces(rows_c, spans, 1) if rows_c else []
        syntax = on_pieces(rows_s, spans, 1) if rows_s else []
        align, out = [], []
        if target:
            out = self.ids(pair.text(target))
            if pair.links:
                align = self.align(pair, source, spans, t.spans(out, pair.text(target)))
        return Example([t.to[to], *ids, t.eos], [*out, t.eos] if target else [], align, coreference, syntax)

    def align(self, pair: Pair, source: str, spans: list[Span], out: list[Span]):
        by_target: dict[Span, list[Span]] = {}
        for en, zh in pair.links:
            a, b = (en, zh) if source == "en" else (zh, en)
            by_target.setdefault(b, []).append(a)
        owner: dict[int, list[Span]] = {}
        for (a, b), keys in by_target.items():
            for c in range(a, b):
                owner.setdefault(c, []).extend(keys)
        at: dict[int, list[int]] = {}
        for n, (a, b) in enumerate(spans):
            for c in range(a, b):
                at.setdefault(c, []).append(n)
        rows = []
        for q, (a, b) in enumerate(out):
            keys = {k for c in range(a, b) for span in owner.get(c, ()) for x in range(*span) for k in at.get(x, ())}
            rows += [(q, k + 1, 1 / len(keys)) for k in keys]
        return rows


def bucket(examples: list[Example], tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices in batches of at most `tokens` padded tokens a side, shuffled."""
    length = np.array([(max(len(e.source), len(e.target)), len(e.source)) for e in examples], dtype=float)
    order = np.lexsort((length[:, 1] + rng.random(len(examples)), length[:, 0]))
    batches, batch, widest = [], [], 0
    for n in order:
        widest = max(widest, int(length[n, 0]))
        if batch and widest * (len(batch) + 1) > tokens:
            batches.append(batch)
            batch, widest = [], int(length[n, 0])
        batch.append(int(n))
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def label_rows(examples: list[Example], name: str):
    """-> (batch, query, key, weight, row) of every label, and the number of query rows; None if there is none."""
    flat = [(n, q, k, w) for n, e in enumerate(examples) for q, k, w in getattr(e, name)]
    if not flat:
        return None
    n, q, k, w = zip(*flat)
    return torch.tensor(n), torch.tensor(q), torch.tensor(k), torch.tensor(w, dtype=torch.float32), len(set(zip(n, q)))
