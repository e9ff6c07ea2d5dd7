"""Scores: retrieval across languages and rank correlation with the teacher, for the student and for what stands beside it."""

import re
from collections import Counter

import numpy as np

from .heldout import EXAMPLE


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def hits(queries: np.ndarray, titles: np.ndarray, rows=None) -> dict[str, float]:
    """Per cent of `rows` whose own title (same row) is first, or among the first five; a tie counts against the query."""
    rows = range(len(queries)) if rows is None else rows
    scores = queries[rows] @ titles.T
    own = scores[np.arange(len(rows)), rows][:, None]
    above = (scores >= own).sum(1) - 1
    return {"top1": round(100 * float((above < 1).mean()), 1), "top5": round(100 * float((above < 5).mean()), 1)}


def retrieval(en: np.ndarray, zh: np.ndarray, rows=None) -> dict:
    return {"zh-en": hits(zh, en, rows), "en-zh": hits(en, zh, rows)}


def ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing their mean."""
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def english_pairs(teacher: np.ndarray, seed: int = 1, near: int = 10) -> np.ndarray:
    """[pairs, 2] rows: each text with one of its `near` nearest by the teacher, and with one at random."""
    rng = np.random.default_rng(seed)
    scores = teacher @ teacher.T
    np.fill_diagonal(scores, -2)
    close = np.argsort(-scores, 1)[:, :near]
    n = len(teacher)
    first = np.arange(n)
    return np.concatenate([np.stack([first, close[first, rng.integers(0, near, n)]], 1),
                           np.stack([first, (first + rng.integers(1, n, n)) % n], 1)])


def similarities(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1)


def ngrams(texts: list[str]) -> np.ndarray:
    """Baseline: tf-idf vectors of character 1- to 3-grams, unit length."""
    found = [Counter(t[n:n + k] for k in (1, 2, 3) for t in [re.sub(r"\W+", " ", f" {text.lower()} ")] for n in range(len(t) - k + 1))
             for text in texts]
    kinds = Counter(g for c in found for g in c)
    column = {g: n for n, g in enumerate(kinds)}
    out = np.zeros((len(texts), len(kinds)), np.float32)
    for row, counts in enumerate(found):
        for gram, count in counts.items():
            out[row, column[gram]] = (1 + np.log(count)) * np.log(len(texts) / kinds[gram])
    return unit(out)


def shares(query: np.ndarray, titles: np.ndarray, temperature: float) -> list[float]:
    """softmax(cos / temperature) in per cent."""
    s = titles @ query / temperature
    w = np.exp(s - s.max())
    return (100 * w / w.sum()).tolist()


def example(embed, temperature: float) -> list[dict]:
    """System 8, in each language and across them. embed: texts -> unit vectors."""
    rows = []
    for asked in ("zh", "en"):
        for over in ("zh", "en"):
            query, titles = EXAMPLE["questions"][asked], EXAMPLE["titles"][over]
            vectors = embed([query, *titles])
            rows.append({"query": query, "titles": titles, "cosine": [round(float(x), 3) for x in vectors[1:] @ vectors[0]],
                         "percent": [round(x, 1) for x in shares(vectors[0], vectors[1:], temperature)]})
    return rows
