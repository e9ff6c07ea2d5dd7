"""Which word translates which: IBM model 2 with a diagonal prior (as fast_align), both ways, kept where they agree.

    p(f_j, a_j = i) = prior(i | j, n, m) * t(f_j | e_i),   prior ~ exp(-tension * |i / n - j / m|), null word p0

All cells of the corpus lie in flat arrays, so one EM round is a few numpy passes.
"""

import re

import numpy as np

from .tokenizer import chinese_words

# Words that translate nothing by themselves: they stay unlinked.
EMPTY = {"the", "a", "an", "了", "的", "吗", "呢", "把", "得", "地", "吧"}
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|\d+|[^\sA-Za-z\d]")
Span = tuple[int, int]


def english_spans(text: str) -> list[Span]:
    return [m.span() for m in WORD.finditer(text)]


def chinese_spans(text: str) -> list[Span]:
    spans, at = [], 0
    for word in chinese_words(text):
        if word.strip():
            spans.append((at, at + len(word)))
        at += len(word)
    return spans


def stem(word: str) -> str:
    """Inflections fall together, or rare forms would find no partner."""
    word = word.lower()
    for end in ("'s", "ies", "ing", "ied", "ed", "es", "s"):
        if word.endswith(end) and len(word) - len(end) >= 3:
            return word[: -len(end)] + ("y" if end in ("ies", "ied") else "")
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def posterior(source: list[list[int]], target: list[list[int]], rounds: int = 6, tension: float = 3.0, p0: float = 0.08):
    """For every sentence p[j, i]: target word j was made by source word i (the rest is the null word's)."""
    cells_s, cells_t, prior, row = [], [], [], []
    rows = 0
    for e, f in zip(source, target):
        n, m = len(e), len(f)
        i, j = np.arange(n), np.arange(m)
        near = np.exp(-tension * np.abs((i[None] + 0.5) / n - (j[:, None] + 0.5) / m))
        near = (1 - p0) * near / near.sum(1, keepdims=True)
        cells_s.append(np.tile(np.concatenate([[0], np.asarray(e) + 1]), m))
        cells_t.append(np.repeat(np.asarray(f), n + 1))
        prior.append(np.concatenate([np.full((m, 1), p0), near], 1).ravel())
        row.append(np.repeat(np.arange(rows, rows + m), n + 1))
        rows += m
    s, t, prior, row = map(np.concatenate, (cells_s, cells_t, prior, row))
    key, cell = np.unique(s.astype(np.int64) * (t.max() + 1) + t, return_inverse=True)
    owner = key // (t.max() + 1)
    table = np.ones(len(key))
    for step in range(rounds):
        p = table[cell] * (prior if step > 1 else 1.0)  # model 1 first, then the diagonal
        p /= np.bincount(row, p, rows)[row]
        count = np.bincount(cell, p, len(key)) + 1e-4
        table = count / np.bincount(owner, count)[owner]
    p = table[cell] * prior
    p /= np.bincount(row, p, rows)[row]
    found, at = [], 0
    for e, f in zip(source, target):
        size = len(f) * (len(e) + 1)
        found.append(p[at:at + size].reshape(len(f), len(e) + 1)[:, 1:])
        at += size
    return found


def links(pairs: list[tuple[str, str]], least: float = 0.4) -> list[list[tuple[Span, Span]]]:
    """For every pair the linked (English span, Chinese span): mean of both directions' posteriors, geometric, at least `least`."""
    ids: list[dict] = [{}, {}]
    spans, words = [], []
    for en, zh in pairs:
        both = (english_spans(en), chinese_spans(zh))
        spans.append(both)
        words.append([[table.setdefault(form(text[a:b]), len(table)) for a, b in side]
                      for table, text, side, form in zip(ids, (en, zh), both, (stem, str))])
    en, zh = [w[0] for w in words], [w[1] for w in words]
    forth, back = posterior(en, zh), posterior(zh, en)
    result = []
    for (en_text, zh_text), (e, z), p, q in zip(pairs, spans, forth, back):
        both = np.sqrt(p * q.T)  # [zh word, en word]
        result.append([(e[i], z[j]) for j, i in zip(*np.nonzero(both >= least))
                       if en_text[slice(*e[i])].lower() not in EMPTY and zh_text[slice(*z[j])] not in EMPTY])
    return result
