"""Does the coreference head read the antecedent? The viewer's rule, on words.

Weights of a word's pieces are summed, averaged over the pronoun's pieces; the pronoun itself and the special tokens are left
out; the answer is the word with the largest weight.
"""

from collections import defaultdict

import torch

from .align import chinese_spans, english_spans
from .batches import padded, under
from .guidance import placed


def words_of(text: str, language: str):
    return english_spans(text) if language == "en" else chinese_spans(text)


@torch.no_grad()
def head_weights(model, tokenizer, texts: list[str], language: str, name: str = "coreference", batch: int = 200):
    """For each text: (spans of its pieces, weights [pieces + 2, pieces + 2] of the head)."""
    block, layer, head = placed(name, model.shape)
    found = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    for a in range(0, len(order), batch):
        part = order[a:a + batch]
        ids = [tokenizer.encode(texts[n]) for n in part]
        to = tokenizer.to["zh" if language == "en" else "en"]
        kept = {}

        def see(where, number, scores, weights):
            if (where, number) == (block, layer):
                kept["w"] = weights[:, head].float().cpu()

        model.encode(padded([[to, *row, tokenizer.eos] for row in ids], tokenizer.pad).to(model.positions.device), see)
        for n, row, w in zip(part, ids, kept["w"]):
            found[n] = (tokenizer.spans(row, texts[n]), w[:len(row) + 2, :len(row) + 2])
    return found


def word_weights(spans, weights, query, words):
    """-> weight of each word for the query span."""
    rows = [n + 1 for n in under(spans, query)]
    row = weights[rows].mean(0)
    return [float(sum(row[n + 1] for n in under(spans, word))) for word in words]


def answer(spans, weights, query, words, punctuation=True):
    """Index of the word read most, the query left out."""
    sums = word_weights(spans, weights, query, words)
    allowed = [n for n, (a, b) in enumerate(words) if not (a < query[1] and b > query[0])]
    return max(allowed, key=lambda n: sums[n])


def right(text, language, query, keys, spans, weights) -> bool:
    """Is the word read most one of the antecedent's?"""
    words = words_of(text, language)
    a, b = words[answer(spans, weights, query, words)]
    return any(a < d and b > c for c, d in keys)


def coreference_scores(model, tokenizer, probes: dict) -> dict:
    """probes: part -> pairs with coreference labels. -> percent right by part and language."""
    result = {}
    for part, pairs in probes.items():
        for language in ("en", "zh"):
            asked = [(p.text(language), query, [span for span, _ in keys])
                     for p in pairs for query, keys in p.coreference.get(language, ())]
            seen = head_weights(model, tokenizer, [text for text, _, _ in asked], language)
            good = [right(text, language, query, keys, *one) for (text, query, keys), one in zip(asked, seen)]
            if good:
                result[f"{part}-{language}"] = round(100 * sum(good) / len(good), 1)
    return dict(defaultdict(float, result))
