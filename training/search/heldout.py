"""What training never sees: real book titles, held-out sentences and held-out dictionary terms.

A text is compared by its letters and digits only (`bare`), so neither case nor punctuation lets one through.
"""

import random
from pathlib import Path

from training.translate.corpus import bare, groups

HERE = Path(__file__).parent / "heldout"
ROOT = Path(__file__).resolve().parents[2]

# System 8 of the project's mission: the questions, and the titles in the order they must come.
EXAMPLE = {
    "questions": {"zh": "我想找关于量子物理的书", "en": "I am looking for a book about quantum physics"},
    "titles": {"zh": ["量子力学详解", "现代物理学导论", "法式烹饪指南"],
               "en": ["Quantum Mechanics Explained", "Introduction to Modern Physics", "A Guide to French Cooking"]},
}
EXAMPLE_TOPICS = {"量子物理", "量子力学", "量子物理学", "现代物理学", "现代物理", "法式烹饪", "quantum physics", "quantum mechanics", "modern physics",
                  "french cooking"}


def read_tsv(file: Path) -> list[list[str]]:
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line]
    return rows[1:]


def books() -> list[tuple[str, str]]:
    """(English, Chinese) titles of real books: the shipped example's and the longer list kept for measuring."""
    pairs = [(en, zh) for en, zh in read_tsv(HERE / "books.tsv")]
    for title, language, other in read_tsv(ROOT / "examples" / "books.tsv"):
        pairs.append((title, other) if language == "en" else (other, title))
    return list(dict.fromkeys(pairs))


def never() -> set[str]:
    """The bare form of every text no training pair may hold on either side."""
    texts = [text for pair in books() for text in pair]
    for kind in EXAMPLE.values():
        for value in kind.values():
            texts += [value] if isinstance(value, str) else value
    return {bare(text) for text in texts}


def split_terms(pairs: list[tuple[str, str]], dev: int, test: int, seed: int = 1):
    """-> train, dev, test. A held-out term is title-like (4 or more characters, 2 or more English words), and neither its Chinese
    nor its gloss stands in any other entry."""
    alone = [group[0] for group in groups(pairs) if len(group) == 1]
    fit = [n for n in alone if len(pairs[n][1]) >= 4 and len(pairs[n][0].split()) >= 2]
    random.Random(seed).shuffle(fit)
    held = fit[:dev + test]
    out = set(held)
    return ([p for n, p in enumerate(pairs) if n not in out], [pairs[n] for n in held[:dev]], [pairs[n] for n in held[dev:]])
