"""The hand-labelled sets in labelled/ (its README gives the columns): read, and scored by the viewer's rule.

They are for measuring only. Sentences of theirs are dropped from training (prepare.py).
"""

import csv
from collections import defaultdict
from pathlib import Path

from .batches import under
from .corpus import bare
from .guidance import placed
from .reading import answer, head_weights, words_of

HERE = Path(__file__).parent / "labelled"


def rows(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))


def span(row: dict, name: str) -> tuple[int, int]:
    start = int(row[f"{name}_start"])
    return start, start + len(row[name])


def sentences(directory: Path = HERE) -> set[str]:
    """Every labelled sentence, folded, so that training can leave it out."""
    found = set()
    for path in directory.glob("*.tsv") if directory.is_dir() else []:
        for row in rows(path):
            found |= {bare(row[c]) for c in ("sentence", "english", "chinese") if row.get(c)}
    return found - {""}


def coreference(model, tokenizer, directory: Path, name: str) -> dict:
    """Of the set `name`.en.tsv and `name`.zh.tsv: percent right by language, with the two baselines and the breakdown the columns allow."""
    result = {}
    for language in ("en", "zh"):
        asked = rows(directory / f"{name}.{language}.tsv")
        if not asked:
            continue
        seen = head_weights(model, tokenizer, [r["sentence"] for r in asked], language)
        parts = defaultdict(list)
        for row, (spans, weights) in zip(asked, seen):
            words, (c, d) = words_of(row["sentence"], language), span(row, "antecedent")
            a, b = words[answer(spans, weights, span(row, "pronoun"), words)]
            good = a < d and b > c
            for part in ("all", row["kind"], row["number"], row["entity"]):
                parts[part].append(good)
        count = len(asked)
        result[language] = {
            "count": count, "right": round(100 * sum(parts["all"]) / count, 1),
            "first_noun": round(100 * sum(r["kind"] == "first" for r in asked) / count, 1),
            "nearest_noun": round(100 * sum(r["kind"] == "second" for r in asked) / count, 1),
            "by": {part: [sum(v), len(v)] for part, v in sorted(parts.items()) if part != "all"}}
    return result


def joined(tokens: list[str], language: str):
    """Text and the span of each token."""
    text, spans = "", []
    for n, token in enumerate(tokens):
        if language == "en" and n and not (token[0] in ",.!?;:'’)" or token == "n't") or (
                language == "zh" and n and token[0].isascii() and token[0].isalnum() and text[-1].isascii() and text[-1].isalnum()):
            text += " "
        spans.append((len(text), len(text) + len(token)))
        text += token
    return text, spans


def alignment(model, tokenizer, directory: Path) -> dict:
    """Linked target words whose producing steps read a linked source word most, both ways."""
    from .roles import attention, read_most

    block, layer, head = placed("alignment", model.shape)
    result, pairs = {}, rows(directory / "alignment.tsv")
    for source, to in (("en", "zh"), ("zh", "en")):
        right = total = 0
        for row in pairs:
            names = {"en": "english", "zh": "chinese"}
            (a, words), (b, targets) = (joined(row[names[x]].split(), x) for x in (source, to))
            one, two = tokenizer.encode(a), tokenizer.encode(b)
            seen = attention(model, tokenizer, [tokenizer.to[to], *one, tokenizer.eos], [*two, tokenizer.eos])[block]
            linked = defaultdict(set)
            for link in row["links"].split():
                i, j = map(int, link.split("-"))
                linked[j if to == "zh" else i].add(i if to == "zh" else j)
            spans, goal = tokenizer.spans(one, a), tokenizer.spans(two, b)
            for target, keys in linked.items():
                best, _ = read_most(seen, under(goal, targets[target]), words, spans, 1, None)
                right += int(best[layer, head]) in keys
                total += 1
        if total:
            result[f"{source}-{to}"] = {"pairs": len(pairs), "words": total, "right": round(100 * right / total, 1)}
    return result


def examples(directory: Path):
    """syntax and meaning rows -> (role, sentence, language, [(query span, [key span])])"""
    for role, query, key in (("syntax", "dependent", "head"), ("meaning", "word", "related")):
        for language in ("en", "zh"):
            for row in rows(directory / f"{role}.{language}.tsv"):
                yield role, row["sentence"], language, [(span(row, query), [span(row, key)])]
