"""Pronouns of the corpus that can be labelled safely: one person is named, and the pronoun that follows fits only that name."""

import re

from .batches import Pair
from .lexicon import nouns

PRONOUNS = {"en": {"m": r"\b(?:he|him|his)\b", "f": r"\b(?:she|her|hers)\b"}, "zh": {"m": "他(?!们)", "f": "她(?!们)"}}
NAMES = {language: {(n.en if language == "en" else n.zh): n.gender for n in nouns() if n.name} for language in ("en", "zh")}
OTHER_PERSON = {
    "en": re.compile(r"\b(?:[Mm]an|[Bb]oy|[Ff]ather|[Bb]rother|[Ss]on|[Uu]ncle|[Ww]oman|[Gg]irl|[Mm]other|[Ss]ister|[Dd]aughter|"
                     r"[Ww]ife|[Hh]usband|[Ff]riend|[Tt]eacher|[Dd]octor|[Ss]omeone|[Ww]ho|[Pp]eople|[Pp]erson)\b"),
    "zh": re.compile("男人|男孩|父亲|爸|哥|弟|儿子|叔|女人|女孩|母亲|妈|姐|妹|女儿|妻|丈夫|朋友|老师|医生|人|谁|孩子"),
}
LONG = {language: re.compile("|".join(rf"\b{re.escape(n)}\b" if language == "en" else re.escape(n)
                                      for n in sorted(names, key=len, reverse=True)))
        for language, names in NAMES.items()}


def label(pair: Pair) -> None:
    for language in ("en", "zh"):
        text = pair.text(language)
        named = [m for m in LONG[language].finditer(text) if len(m[0]) > 1]
        if not named or OTHER_PERSON[language].search(text):
            continue
        rows = []
        for gender, pattern in PRONOUNS[language].items():
            same = [m for m in named if NAMES[language][m[0]] == gender]
            if len({m[0] for m in same}) != 1 or (language == "en" and len({m[0] for m in named}) > 1 and not same):
                continue
            for p in re.finditer(pattern, text):
                before = [m for m in same if m.end() <= p.start()]
                if before:
                    rows.append((p.span(), ((before[0].span(), 1.0),)))
        if rows:
            pair.coreference[language] = rows
