"""The generator's lines: relations, predicates and frames, and the words that join two clauses."""

import re
import zlib
from dataclasses import dataclass
from functools import cache

from .lexicon import HERE

# (English, Chinese) between two clauses; FRONT: before and after the first of two.
JOINTS = [(" because ", "，因为"), (" because ", "，因为"), (" because ", "，因为"), (" since ", "，因为"), (" as ", "，因为"),
          (", so ", "，所以"), (", so ", "，所以"), (", but ", "，但是"), (", but ", "，可是"), (", but ", "，不过"), (" and ", "，"),
          (", and ", "，"), (", and ", "，而且"), (". ", "。"), (". ", "。"), (". ", "，"), (", and then ", "，然后"), ("; ", "；"),
          (" even though ", "，虽然"), (", so ", "，于是"), (" and ", "，结果"), (", so ", "，"), (". After that, ", "。后来，"), (". Now ", "。现在")]
FRONT = [("because ", ", ", "因为", "，所以"), ("because ", ", ", "因为", "，"), ("when ", ", ", "当", "的时候，"),
         ("although ", ", ", "虽然", "，但是"), ("after ", ", ", "", "以后，"), ("since ", ", ", "由于", "，")]
TIMES = [("", "")] * 8 + [("yesterday, ", "昨天，"), ("this morning, ", "今天早上，"), ("last night, ", "昨晚，"), ("one day, ", "有一天，"),
                          ("yesterday afternoon, ", "昨天下午，"), ("last week, ", "上个星期，")]
INSIDE = {"park", "garden", "kitchen", "room", "forest", "house", "library", "village", "yard", "classroom", "office", "street"}


@dataclass(frozen=True)
class Line:
    """A relation, a predicate or a frame."""

    slots: tuple[tuple[str, str], ...]
    english: str
    chinese: str
    extra: str = ""

    @property
    def held_out(self) -> bool:
        return zlib.crc32(self.english.encode()) % 10 == 0 and "very tired" not in self.english


@cache
def rows(name: str) -> list[list[str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [[c.strip() for c in line.split(" ;")] for line in lines if line.strip() and not line.startswith("#")]


@cache
def relations() -> tuple[Line, ...]:
    return tuple(Line(tuple((n, c) for n, c in zip("SOR", r[:3]) if c), r[3], r[4]) for r in rows("relations.txt"))


@cache
def predicates() -> tuple[Line, ...]:
    return tuple(Line((("p", r[0]),), r[2], r[3], r[1]) for r in rows("predicates.txt"))


@cache
def frames() -> tuple[Line, ...]:
    return tuple(Line(tuple(tuple(s.split("=", 1)) for s in r[0].split("|")), r[1], r[2], r[3]) for r in rows("frames.txt"))


def exchanged(template: str) -> str:
    """A frame whose pronouns mean the other one, from the first pronoun on."""
    first = re.search(r"\{[pos][AB]\}", template)
    if not first or template.count("{A}", first.start()) or template.count("{B}", first.start()):
        return template
    swap = {"A": "B", "B": "A"}
    return template[:first.start()] + re.sub(r"\{(p|o|s|was:|is:|has:)([AB])\}", lambda m: f"{{{m[1]}{swap[m[2]]}}}", template[first.start():])
