"""The generator's words: nouns with class, number, gender, both languages and the Chinese classifier (lexicon/nouns.txt)."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent / "lexicon"
PEOPLE = ("name_m", "name_f", "person_m", "person_f", "person_n")


@dataclass(frozen=True)
class Noun:
    kind: str
    en: str
    plural: str | None  # None: cannot be counted
    zh: str
    classifier: str

    @property
    def name(self) -> bool:
        return self.kind.startswith("name")

    @property
    def person(self) -> bool:
        return self.kind in PEOPLE

    @property
    def gender(self) -> str:
        """m, f, n (a person who may be either) or t (a thing or an animal)."""
        return self.kind[-1] if self.person else "t"


def plural_of(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


@cache
def nouns() -> tuple[Noun, ...]:
    found = []
    for line in (HERE / "nouns.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        head, items = line.split(":", 1)
        kind, default = re.match(r"(\w+)(?: \((.)\))?", head).groups()
        for item in items.split(","):
            en, zh = item.strip().split("=")
            zh, _, classifier = zh.partition("/")
            en, _, plural = en.partition("+")
            many = None if plural == "-" else plural or plural_of(en)
            if kind == "paired":
                many, en = en, en
            found.append(Noun(kind, en, many, zh, classifier or default or ""))
    return tuple(found)
