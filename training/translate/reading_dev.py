"""Hand-written sentences with one pronoun: language, sentence, pronoun, antecedent (tab-separated)."""

import re
from pathlib import Path

from .reading import head_weights, right, word_weights, words_of, answer


def read(path: Path):
    """-> [(language, text, pronoun span, antecedent spans)]"""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        language, text, pronoun, antecedent = line.split("\t")[:4]
        find = rf"(?i)\b{re.escape(pronoun)}\b" if language == "en" else re.escape(pronoun)
        query = re.search(find, text)
        whole = rf"\b{re.escape(antecedent)}\b" if language == "en" else re.escape(antecedent)
        keys = [m.span() for m in re.finditer(whole, text)]
        if not query or not keys:
            raise ValueError(f"{path}: {pronoun} or {antecedent} is not in: {text}")
        rows.append((language, text, query.span(), keys))
    return rows


def score(model, tokenizer, path: Path, show=False) -> dict[str, float]:
    result = {}
    for language in ("en", "zh"):
        rows = [r for r in read(path) if r[0] == language]
        seen = head_weights(model, tokenizer, [r[1] for r in rows], language)
        good = []
        for (_, text, query, keys), (spans, weights) in zip(rows, seen):
            good.append(right(text, language, query, keys, spans, weights))
            if show and not good[-1]:
                words = words_of(text, language)
                n = answer(spans, weights, query, words)
                a, b = words[n]
                print(f"wrong: {text}  {text[slice(*query)]} -> {text[a:b]} "
                      f"{word_weights(spans, weights, query, words)[n]:.2f}, not {text[slice(*keys[0])]}")
        if good:
            result[f"hand-{language}"] = round(100 * sum(good) / len(good), 1)
    return result
