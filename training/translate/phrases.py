"""Noun phrases in both languages at once, and texts that remember where their parts stand."""

import random
from dataclasses import dataclass, field
from functools import cache

from .lexicon import HERE, PEOPLE, Noun, nouns

GROUPS = {
    "person": PEOPLE,
    "beast": ("animal", "bird", "fish", "insect"),
    "edible": ("fruit", "vegetable", "food", "sweet"),
    "wear": ("clothing", "paired"),
    "object": ("breakable", "container", "tool", "stationery", "toy", "readable", "instrument"),
}
GROUPS["animate"] = (*GROUPS["person"], *GROUPS["beast"])
GROUPS["eatable"] = (*GROUPS["edible"], "drink")
GROUPS["carried"] = (*GROUPS["object"], *GROUPS["wear"], "device", "surface")
GROUPS["thing"] = (*GROUPS["eatable"], *GROUPS["carried"], "vehicle", "vessel", "building", "place", "plant", "weather",
                   "watchable")
COARSE = ("animate", "eatable", "carried")
KIN = {"father", "dad", "brother", "younger brother", "uncle", "grandfather", "grandpa", "son", "husband", "mother", "mom",
       "sister", "younger sister", "aunt", "grandmother", "grandma", "daughter", "wife", "cousin", "nephew", "niece"}


@cache
def kinds(text: str) -> frozenset[str]:
    """Class names, groups of classes or single nouns -> noun classes (and the nouns as they are)."""
    found: set[str] = set()
    for word in text.split():
        found |= set(GROUPS.get(word, (word,)))
    return frozenset(found)


@cache
def widened(found: frozenset[str]) -> frozenset[str]:
    """The classes a careful reader would not rule out for a slot made for `found`."""
    wide = set(found)
    for name in COARSE:
        if wide & set(GROUPS[name]):
            wide |= set(GROUPS[name])
    if wide & {"vehicle", "vessel"}:
        wide |= {"vehicle", "vessel", "device"}
    if wide & {"building", "place"}:
        wide |= {"building", "place"}
    return frozenset(wide)


@cache
def modifiers() -> tuple[tuple[frozenset[str], str, str], ...]:
    rows = [line.split(" ; ") for line in (HERE / "modifiers.txt").read_text(encoding="utf-8").splitlines()]
    return tuple((kinds(row[0]), row[1], row[2]) for row in rows if len(row) == 3 and not row[0].startswith("#"))


@dataclass
class Phrase:
    """A noun as it is mentioned once: determiner, property, number, and the pronouns it takes."""

    tag: str
    noun: Noun
    plural: bool = False
    gender: str = "t"
    determiner: tuple[str, str] = ("the ", "")
    modifier: tuple[str, str] | None = None
    owner: "Phrase | None" = None
    extra: tuple[str, str] = ("", "")  # a place after (English) or before (Chinese) the noun
    others: list["Phrase"] = field(default_factory=list)  # "Tom and Mary"

    @property
    def many(self) -> bool:
        return self.plural or bool(self.others)

    @property
    def many_en(self) -> bool:
        return self.many or self.noun.kind == "paired"

    def pronoun(self, language: str, case: str) -> str:
        """case: s(ubject), o(bject), p(ossessive)."""
        female = self.gender == "f" and all(o.gender == "f" for o in self.others)
        if language == "zh":
            base = ("她" if female else "他") if self.noun.person else "它"
            return base + ("们" if self.many else "") + ("的" if case == "p" else "")
        n = "sop".index(case)
        if self.many_en:
            return ("they", "them", "their")[n]
        return {"m": ("he", "him", "his"), "f": ("she", "her", "her")}.get(self.gender, ("it", "it", "its"))[n]

    def may_be(self, language: str, pronoun: str) -> bool:
        """Could a reader take `pronoun` (a subject form) for this phrase?"""
        if self.pronoun(language, "s") == pronoun:
            return True
        if self.noun.gender == "n" and not self.many:
            return pronoun in ("he", "she", "他", "她")
        if language == "zh" and self.many and self.noun.person:
            return pronoun in ("他们", "她们")
        if language == "zh" and not self.noun.person:  # a bare Chinese noun has no number
            return pronoun in ("它", "它们")
        return False

    def parts(self, language: str) -> list[tuple[str, str | None]]:
        """[(text, tag)]: tags are the phrase's own (its head) and `tag+mod`."""
        joint = (" and ", None) if language == "en" else ("和", None)
        out = self.own_parts(language)
        for other in self.others:
            out += [joint, *other.own_parts(language)]
        return out

    def own_parts(self, language: str):
        en = language == "en"
        head = (self.noun.plural if self.plural else self.noun.en) if en else self.noun.zh
        before: list[tuple[str, str | None]] = []
        if self.owner:
            before += [*self.owner.parts(language), ("'s " if en else "的", None)]
        elif not self.noun.name:
            before.append((self.determiner[0 if en else 1], None))
        if not en:
            before.insert(0, (self.extra[1], None))
        if self.modifier:
            before += [(self.modifier[0 if en else 1], self.tag + "+mod"), (" " if en else "", None)]
        if en and self.determiner[0] == "a " and not self.owner and before:
            first = (self.modifier[0] if self.modifier else head)[0].lower()
            before[0] = ("an ", None) if first in "aeiou" and not head.startswith("uniform") else before[0]
        after = [(self.extra[0], None)] if en else []
        if en and " " in head:  # the head of "fire engine" or "Mr. Smith" is its last word
            first, head = head.rsplit(" ", 1)
            before.append((first + " ", None))
        if not en and self.plural and self.noun.person and self.determiner[1] in ("", "我", "我的", "他的", "她的", "我们的"):
            after = [("们", None)]
        return [*before, (head, self.tag), *after]


def determiner(rng: random.Random, noun: Noun, plural: bool) -> tuple[str, str]:
    c = noun.classifier
    if noun.en in KIN:
        return rng.choice([("my ", "我的"), ("my ", "我"), ("his ", "他的"), ("her ", "她的"), ("my ", "我")])
    if plural:
        options = [("the ", "那些"), ("those ", "那些"), ("these ", "这些"), ("two ", "两" + c), ("three ", "三" + c),
                   ("some ", "一些"), ("several ", "几" + c), ("my ", "我的")]
        return rng.choice([*options, ("the ", "")] if noun.person else options)
    if noun.plural is None:
        return rng.choice([("the ", ""), ("the ", ""), ("some ", "一些"), ("my ", "我的"), ("that ", "那" + c)])
    if noun.kind == "paired":
        return rng.choice([("the ", ""), ("the ", "那" + c), ("my ", "我的"), ("those ", "那" + c)])
    return rng.choice([("the ", ""), ("the ", ""), ("the ", "那" + c), ("a ", "一" + c), ("a ", "一" + c), ("my ", "我的"),
                       ("this ", "这" + c), ("that ", "那" + c), ("our ", "我们的")])


class Text:
    """Pieces of text under construction, with the spans of tagged parts."""

    def __init__(self):
        self.text, self.spans = "", {}

    def add(self, text: str, tag: str | None = None):
        if tag and text:
            self.spans.setdefault(tag, []).append((len(self.text), len(self.text) + len(text)))
        self.text += text

    def finish(self, end: str):
        """Capitals at the starts of sentences, a full stop at the end. Lengths do not change but for the stop."""
        letters, start = list(self.text), True
        for n, c in enumerate(letters):
            if start and c.isalpha():
                letters[n], start = c.upper(), False
            elif c == "." and letters[n + 1:n + 2] == [" "] and not self.text[:n].endswith(("Mr", "Mrs")):
                start = True
        self.text = "".join(letters) + end
        return self


def noun_of(rng: random.Random, want: str, allowed) -> Noun | None:
    """A noun of the classes wanted; classes are drawn first, so that small ones are not drowned."""
    by_kind = allowed
    options = [k for k in sorted(kinds(want)) if by_kind.get(k)]
    if "name_m" in options and rng.random() < 0.5:
        options = [k for k in options if k.startswith("name")]
    return rng.choice(by_kind[rng.choice(options)]) if options else None


def by_kind(keep) -> dict[str, list[Noun]]:
    """Nouns by class, and each under its own English name, as frames may name one."""
    found: dict[str, list[Noun]] = {}
    for noun in nouns():
        if keep(noun):
            found.setdefault(noun.kind, []).append(noun)
            if noun.kind not in PEOPLE and noun.en not in GROUPS:
                found.setdefault(noun.en, []).append(noun)
    return found
