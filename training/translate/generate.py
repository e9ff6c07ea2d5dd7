"""Sentences with a pronoun whose antecedent is known, in both languages, word for word.

A clause with two or three nouns (lexicon/relations.txt) meets a predicate that only one of them can carry (predicates.txt), or
comes whole from a frame (frames.txt). The same clause is used again with another predicate, so that sentences differ only in
what decides. A noun competes where a reader could take the pronoun for it (number, gender, person or thing); a sentence is
made only if exactly one competitor can carry the predicate and none of the others might.

Every tenth line of each list and every ninth noun never occur in training; probes() makes sentences of them.
"""

import random
import re
import zlib

from .batches import Pair
from .corpus import bare
from .lexicon import Noun
from .lines import FRONT, INSIDE, JOINTS, TIMES, exchanged, frames, predicates, relations, rows
from .phrases import Phrase, Text, by_kind, determiner, kinds, modifiers, noun_of, widened

ASKED = {bare(t) for t in ("The cat sat on the mat because it was tired.", "The cat sits on the mat.", "The cat sat on the mat.",
                           "那个红色的苹果看起来很好吃，我想吃掉它。", "我爱吃苹果。", "猫坐在垫子上。", "猫坐在垫子上，因为它累了。",
                           "猫坐在垫子上，因为它很累。")}


def noun_held_out(noun: Noun) -> bool:
    return zlib.crc32(noun.en.encode()) % 9 == 0 and noun.en not in ("cat", "mat", "apple")


class Maker:
    """Draws sentences from some of the lines and some of the nouns."""

    def __init__(self, seed: int, line_part=None, noun_part=None):
        """Parts: None for all, True for what training never sees, False for the rest."""
        self.rng = random.Random(seed)
        self.nouns = by_kind(lambda n: noun_part is None or noun_held_out(n) == noun_part)

        def keep(lines):
            return [x for x in lines if line_part is None or x.held_out == line_part]

        self.relations, self.predicates, self.frames = keep(relations()), keep(predicates()), keep(frames())

    # --- choosing -------------------------------------------------------------------------------------------------

    def phrase(self, tag: str, want: str, plural: bool | None = None, gender: str | None = None, plain=False) -> Phrase | None:
        rng = self.rng
        for _ in range(20):
            noun = noun_of(rng, want, self.nouns)
            if noun is None:
                return None
            if gender and noun.person and noun.gender not in (gender, "n"):
                continue
            many = bool(noun.plural) and not noun.name and noun.kind != "paired" and (
                rng.random() < 0.4 if plural is None else plural)
            p = Phrase(tag, noun, many, noun.gender)
            if noun.gender == "n":
                p.gender = gender or rng.choice("mf")
            p.determiner = determiner(rng, noun, many)
            if not noun.name and not plain and rng.random() < 0.3:
                fit = [(e, z) for k, e, z in modifiers() if noun.kind in k]
                if fit and noun.en.count(" ") == 0:
                    p.modifier = rng.choice(fit)
            if not noun.person and not plain and rng.random() < 0.07:
                p.owner = self.phrase(tag + "o", "name_m name_f person_m person_f", False, plain=True)
                p.modifier = None
            if noun.name and (plural or (plural is None and rng.random() < 0.15)):
                other = self.phrase(tag, "name_m name_f", False, gender, plain=True)
                if other and other.noun != noun:
                    p.others = [other]
            return p
        return None

    def cast(self, slots) -> dict[str, Phrase] | None:
        """Phrases for the slots: sharing number and gender, so that meaning must decide, or not, so that agreement does."""
        plural = self.rng.choice([False, False, True, None, None])
        gender = self.rng.choice(["m", "f", None, None, None])
        found = {}
        for name, want in slots:
            p = self.phrase(name, want, plural, gender)
            if p is None or any(p.noun == q.noun for q in found.values()):
                return None
            found[name] = p
        return found

    def wide_cast(self, slots):
        for _ in range(10):
            found = self.cast(slots)
            if found:
                return found
        return None

    def only(self, target: Phrase, present: list[Phrase], yes: frozenset, maybe: frozenset) -> bool:
        """May the pronoun of `target` mean `target` and nothing else?"""
        def fits(p, where):
            return p.noun.kind in where or p.noun.en in where

        if not fits(target, yes):
            return False
        for p in present:
            for other in [p, *([p.owner] if p.owner else [])]:
                if other is target or not fits(other, maybe):
                    continue
                if any(other.may_be(lang, target.pronoun(lang, "s")) for lang in ("en", "zh")):
                    return False
        return True

    # --- writing --------------------------------------------------------------------------------------------------

    def fill(self, text: Text, template: str, language: str, phrases: dict, pronouns: dict):
        """phrases: slot -> Phrase to be named; pronouns: slot -> Phrase to be spoken of. In frames pA, oA, sA are pronouns of A."""
        at = 0
        for m in re.finditer(r"\{([^}]*)\}", template):
            text.add(template[at:m.start()])
            at = m.end()
            self.part(text, m[1], language, phrases, pronouns)
        text.add(template[at:])

    def part(self, text: Text, what: str, language: str, phrases: dict, pronouns: dict):
        everyone = {**phrases, **pronouns}
        case = "s" if what != "O" or len(phrases) == 0 else "o"
        if "|" in what:
            who = pronouns.get("p") or phrases.get("p") or everyone.get("S")
            text.add(what.split("|")[1 if who.many_en else 0])
        elif re.match(r"(was|is|has)\b", what):
            verb, _, name = what.partition(":")
            who = everyone[name or "p"]
            text.add({"was": ("was", "were"), "is": ("is", "are"), "has": ("has", "have")}[verb][who.many_en])
        elif what in pronouns and what != "p":
            case = "s" if what == "S" else "o"
            text.add(pronouns[what].pronoun(language, case), "?" + pronouns[what].tag)
        elif what in phrases and what != "p":
            self.name(text, phrases[what], language)
        elif what in ("p", "o", "ps", "o2"):
            case = {"p": "s", "ps": "p"}.get(what, "o")
            if what == "o2" or "p" in pronouns:
                who = everyone["p"]
                text.add(who.pronoun(language, case), "?" + who.tag)
            else:
                self.name(text, phrases["p"], language)
                if case == "p":
                    text.add("'s" if language == "en" else "的")
        else:
            case = {"p": "s", "o": "o", "s": "p"}[what[0]]
            who = phrases[what[1:]]
            text.add(who.pronoun(language, case), "?" + who.tag)

    @staticmethod
    def name(text: Text, phrase: Phrase, language: str):
        for part, tag in phrase.parts(language):
            text.add(part, tag)

    def opening(self) -> tuple[tuple[str, str], Phrase | None]:
        """A time, or a place that is one more noun."""
        if self.rng.random() < 0.12:
            place = self.phrase("C", "place building", False, plain=True)
            if place and place.noun.en in INSIDE:
                place.determiner = ("the ", "")
                return ("", ""), place
        return self.rng.choice(TIMES), None

    def start(self, text: Text, language: str, opening):
        time, place = opening
        text.add(time[0 if language == "en" else 1])
        if place:
            text.add("in " if language == "en" else "在")
            self.name(text, place, language)
            text.add(", " if language == "en" else "里，")

    def pair(self, write) -> Pair:
        """write(text, language) for both languages -> a Pair with its labels."""
        made = {}
        for language in ("en", "zh"):
            text = Text()
            write(text, language)
            made[language] = text.finish("." if language == "en" else "。")
        en, zh = made["en"], made["zh"]
        links = [(a, b) for tag in en.spans if not tag.startswith("?") and tag in zh.spans
                 for a, b in zip(en.spans[tag], zh.spans[tag])]
        asked = [t for t in en.spans if t.startswith("?")]
        links += [(a, b) for t in asked for a, b in zip(en.spans[t], zh.spans.get(t, []))]
        pair = Pair(en.text, zh.text, links)
        for language, text in made.items():
            read, shape = [], []
            for tag, spans in text.spans.items():
                if tag.startswith("?"):
                    for span in spans:
                        keys = [k for k in text.spans.get(tag[1:], []) if k[0] < span[0]]
                        if keys:
                            read.append((span, tuple((k, float(k[1] - k[0])) for k in keys)))
                elif tag.endswith("+mod"):
                    shape.append((spans[0], ((text.spans[tag[:-4]][0], 1.0),)))
                elif tag.startswith("v:"):  # the object reads its verb, then the verbs above it, then the subject
                    chain = text.spans[tag]
                    weight = {1: (0.85,), 2: (0.25, 0.62)}[len(chain)]
                    keys = [*zip(chain, weight)] + [(s, 0.1) for s in text.spans.get("subject", [])]
                    shape.append((text.spans[tag[2:]][0], tuple(keys)))
            pair.coreference[language], pair.syntax[language] = read, shape
        return pair

    # --- kinds of sentence ----------------------------------------------------------------------------------------

    def related(self) -> list[Pair]:
        """relation(A, B), then one predicate for each noun that some predicate singles out."""
        rng, line = self.rng, self.rng.choice(self.relations)
        cast = self.wide_cast(line.slots)
        if not cast:
            return []
        opening = self.opening()
        joint = rng.choice(JOINTS)
        present = [*cast.values(), *([opening[1]] if opening[1] else [])]
        targets, made = list(cast.values()), []
        rng.shuffle(targets)
        for target in targets:
            for p in rng.sample(self.predicates, min(90, len(self.predicates))):
                yes = kinds(p.slots[0][1])
                if not self.only(target, present, yes, widened(yes) | kinds(p.extra)):
                    continue

                def write(text, language, p=p, target=target):
                    n = 0 if language == "en" else 1
                    self.start(text, language, opening)
                    self.fill(text, line.chinese if n else line.english, language, cast, {})
                    text.add(joint[n])
                    self.fill(text, p.chinese if n else p.english, language, {}, {"p": target})

                made.append(self.pair(write))
                break
        return made

    def continued(self) -> list[Pair]:
        """predicate(A) or relation(A, B), then a relation in which the pronoun stands."""
        rng, second = self.rng, self.rng.choice(self.relations)
        name, want = rng.choice(second.slots)
        if rng.random() < 0.5:
            first = rng.choice(self.predicates)
            target = self.phrase("p", first.slots[0][1])
            cast = {"p": target} if target else None
        else:
            first = rng.choice(self.relations)
            cast = self.wide_cast(first.slots)
            target = rng.choice(list(cast.values())) if cast else None
        if not target or (target.others and name != "S"):
            return []
        rest = {}
        for other, classes in second.slots:
            if other != name:
                p = self.phrase(other + "2", classes)
                if p is None or any(p.noun == q.noun for q in [*cast.values(), *rest.values()]):
                    return []
                rest[other] = p
        opening = self.opening()
        before = [*cast.values(), *([opening[1]] if opening[1] else [])]
        yes = kinds(want)
        early = second.english.find("{" + name + "}")
        subjects = [p for k, p in rest.items()
                    if second.english.find("{" + k + "}") < early or second.chinese.find("{" + k + "}") < second.chinese.find("{" + name + "}")]
        if not self.only(target, [*before, *subjects], yes, widened(yes)):
            return []
        front = rng.choice(FRONT) if rng.random() < 0.4 else None
        joint = rng.choice(JOINTS)

        def write(text, language):
            n = 0 if language == "en" else 1
            self.start(text, language, opening)
            if front:
                text.add(front[2 * n])
            self.fill(text, first.chinese if n else first.english, language, cast, {})
            text.add(front[2 * n + 1] if front else joint[n])
            self.fill(text, second.chinese if n else second.english, language, rest, {name: target})

        return [self.pair(write)]

    def described(self) -> list[Pair]:
        """predicate(A), then another predicate of it: 那个红色的苹果看起来很香，我想吃掉它."""
        rng = self.rng
        target = self.phrase("p", "thing beast person")
        if target is None:
            return []
        fit = [p for p in self.predicates if target.noun.kind in kinds(p.slots[0][1])]
        if len(fit) < 2:
            return []
        first, second = rng.sample(fit, 2)
        present = [target]
        if not target.noun.person and not target.owner and rng.random() < 0.4:
            other = self.phrase("q", "surface container" if target.noun.kind in kinds("object eatable") else "place building", False, plain=True)
            if other:
                other.determiner = ("the ", "")
                where = {"surface": (" on the ", "上的"), "container": (" in the ", "里的")}.get(other.noun.kind, (" near the ", "附近的"))
                target.extra = (where[0] + other.noun.en, other.noun.zh + where[1])
                if target.determiner[0] in ("my ", "our "):
                    target.determiner = ("the ", "")
                present.append(other)
        yes = kinds(second.slots[0][1])
        if not self.only(target, present, yes, widened(yes) | kinds(second.extra)):
            return []
        front, joint = (rng.choice(FRONT) if rng.random() < 0.3 else None), rng.choice(JOINTS)
        opening = (rng.choice(TIMES), None)

        def write(text, language):
            n = 0 if language == "en" else 1
            self.start(text, language, opening)
            text.add(front[2 * n] if front else "")
            self.fill(text, first.chinese if n else first.english, language, {"p": target}, {})
            text.add(front[2 * n + 1] if front else joint[n])
            self.fill(text, second.chinese if n else second.english, language, {}, {"p": target})

        return [self.pair(write)]

    def framed(self) -> list[Pair]:
        """A whole frame, with every other one that begins alike."""
        rng = self.rng
        chosen = rng.choice(self.frames)
        stem = chosen.english.split("{p")[0]
        alike = [f for f in self.frames if f.slots == chosen.slots and f.english.split("{p")[0] == stem]
        cast = self.wide_cast(chosen.slots)
        if not cast or (len({p.noun.person for p in cast.values()}) > 1 and rng.random() < 0.5):
            return []
        opening = (rng.choice(TIMES), None) if not chosen.english.startswith(("when", "while")) else (("", ""), None)

        flip = self.agreement_decides(cast) and rng.random() < 0.2

        def writer(frame):
            def write(text, language):
                self.start(text, language, opening)
                template = frame.chinese if language == "zh" else frame.english
                self.fill(text, exchanged(template) if flip else template, language, cast, {})
            return write

        return [self.pair(writer(f)) for f in alike]

    @staticmethod
    def agreement_decides(cast) -> bool:
        """Two living beings whose pronouns differ: then grammar goes before likelihood, and the frame may be turned round."""
        a, b = cast.get("A"), cast.get("B")
        living = kinds("animate")
        return bool(a and b and len(cast) == 2 and {a.noun.kind, b.noun.kind} <= living and not any(
            one.may_be(language, other.pronoun(language, "s")) for language in ("en", "zh") for one, other in ((a, b), (b, a))))

    def plain(self) -> list[Pair]:
        """Sentences without a pronoun: who sits where, and who likes to eat what (with its syntax)."""
        rng = self.rng
        if rng.random() < 0.5:
            s, o, en, zh = rng.choice(rows("still.txt"))
            cast = self.wide_cast((("S", s), ("O", o)))
            if not cast:
                return []
            return [self.pair(lambda text, lang: self.fill(text, zh if lang == "zh" else en, lang, cast, {}))]
        _, o, base, past, verb = rng.choice(rows("simple.txt"))
        cast = self.phrase("O", o)
        who = rng.choice([("I", "我"), ("I", "我"), ("we", "我们"), ("they", "他们"), ("you", "你"), None, None])
        subject = self.phrase("S", "person", plain=True)
        upper = rng.choice([None, None, ("love to", "爱"), ("love to", "爱"), ("like to", "喜欢"), ("want to", "想"), ("have to", "得"),
                            ("can", "会"), ("will", "要"), ("should", "应该"), ("tried to", "试着"), ("need to", "需要")])
        if not cast or not subject:
            return []
        if rng.random() < 0.5 and cast.noun.plural and not cast.noun.name and not cast.owner:
            cast.plural, cast.determiner, cast.others = True, ("", ""), []
        many = who is not None or subject.many

        def write(text, language):
            if who:
                text.add(who[0 if language == "en" else 1], "subject")
            else:
                self.name(text, subject, language)
                text.spans["subject"] = text.spans["S"]
            text.add(" " if language == "en" else "")
            if upper:
                above = upper[0 if language == "en" else 1]
                if language == "en" and not many and above.split()[0] in ("love", "like", "want", "have", "need"):
                    above = {"have to": "has to"}.get(above, above.replace(" ", "s ", 1))
                text.add(above, "v:O")
                text.add(" " if language == "en" else "")
            if language == "en":
                text.add(base if upper else past, "v:O")
                text.add(" ")
            else:
                text.add(verb, "v:O")
                text.add("" if upper else "了")
            self.name(text, cast, language)

        return [self.pair(write)]

    def batch(self) -> list[Pair]:
        kind = self.rng.choices((self.related, self.continued, self.described, self.framed, self.plain), (26, 20, 8, 38, 8))[0]
        return [p for p in kind() if bare(p.en) not in ASKED and bare(p.zh) not in ASKED]


def pairs(seed: int, count: int, line_part=False, noun_part=False) -> list[Pair]:
    maker, found = Maker(seed, line_part, noun_part), []
    while len(found) < count:
        found += maker.batch()
    return found[:count]


def probes(count: int = 250) -> dict[str, list[Pair]]:
    """Labelled sentences by what training did not see: nothing, the nouns, the lines, or both."""
    def asked(line, noun):
        return [p for p in pairs(77, 3 * count, line, noun) if p.coreference["en"] and p.coreference["zh"]][:count]

    return {"seen": asked(False, False), "nouns": asked(False, True), "frames": asked(True, False), "both": asked(True, True)}
