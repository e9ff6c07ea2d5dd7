"""The Tatoeba sentence pairs: reading them, cleaning them, and a split that shares no sentence.

One English sentence often has several Chinese ones and the other way round. Pairs that share a sentence on either side (after
case, spaces and punctuation are put aside) form a connected group, and a whole group goes to one part.
"""

import random
import re
import unicodedata
from pathlib import Path

WHERE = "https://www.manythings.org/anki/ (cmn-eng.zip: Tatoeba sentence pairs, CC-BY 2.0 FR)"
HAN = r"[\u3400-\u9fff\uf900-\ufaff]"
FULL = {",": "，", "?": "？", "!": "！", ":": "：", ";": "；", "(": "（", ")": "）"}


def tidy_zh(text: str) -> str:
    """No spaces beside Chinese characters; Chinese punctuation full-width beside them."""
    text = re.sub(rf"(?<={HAN}|[，。！？：；、“”])\s+|\s+(?={HAN}|[，。！？：；、“”])", "", text.strip())
    text = re.sub(rf"(?<={HAN})[,?!:;()]|[,?!:;()](?={HAN})", lambda m: FULL[m[0]], text)
    return re.sub(rf"(?<={HAN})\.$", "。", text)


def tidy_en(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("’", "'").replace("‘", "'").strip())


def bare(text: str) -> str:
    """What two sentences are compared by: letters and digits only, folded."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def read_pairs(path: str) -> list[tuple[str, str]]:
    if not Path(path).is_file():
        raise SystemExit(f"no corpus at {path}: get it from {WHERE} and give its path (columns: English, Chinese, attribution)")
    rows = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8")]
    return list(dict.fromkeys((row[0], row[1]) for row in rows if len(row) >= 2 and row[0].strip() and row[1].strip()))


def groups(pairs: list[tuple[str, str]]) -> list[list[int]]:
    """Indices of the pairs, by connected group of shared sentences."""
    parent: dict = {}

    def root(x):
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for en, zh in pairs:
        parent[root(("en", bare(en)))] = root(("zh", bare(zh)))
    found: dict = {}
    for n, (en, _) in enumerate(pairs):
        found.setdefault(root(("en", bare(en))), []).append(n)
    return list(found.values())


def split(pairs, seed: int = 1, dev: int = 300, valid: int = 1000):
    """-> train, dev, valid: lists of pairs. Dev picks checkpoints, valid is only reported."""
    together = groups(pairs)
    random.Random(seed).shuffle(together)
    parts: dict[str, list] = {"dev": [], "valid": [], "train": []}
    for group in together:
        name = "dev" if len(parts["dev"]) < dev else "valid" if len(parts["valid"]) < valid else "train"
        if name != "train" and len(group) > 20:  # a large group would fill a held-out part with one sentence's variants
            name = "train"
        parts[name].extend(pairs[n] for n in group)
    return parts["train"], parts["dev"], parts["valid"]


def tidy(pairs):
    return list(dict.fromkeys((tidy_en(en), tidy_zh(zh)) for en, zh in pairs))
