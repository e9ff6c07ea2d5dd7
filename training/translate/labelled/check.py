#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check the hand-labelled evaluation sets in this folder.

Standard library only. Prints a summary; exits 1 when anything is wrong.
"""
import re
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS = {
    "coreference": "id sentence pronoun pronoun_start antecedent antecedent_start "
                   "distractor kind number entity",
    "everyday": "id sentence pronoun pronoun_start antecedent antecedent_start "
                "distractor kind number entity",
    "alignment": "id english chinese links",
    "syntax": "id sentence dependent dependent_start head head_start relation",
    "meaning": "id sentence word word_start related related_start",
    "translate": "id english chinese",
}
PRONOUNS = {
    "en": {"singular": {"it", "he", "she", "him", "her"}, "plural": {"they", "them"}},
    "zh": {"singular": {"它", "他", "她"}, "plural": {"它们", "他们", "她们"}},
}
ENTITIES = {"name", "person", "animal", "thing", "place"}
RELATIONS = {"object", "modifier", "subject"}
# The project's own example sentences: too well known to serve as evaluation.
RESERVED = {"The cat sat on the mat because it was tired.",
            "那个红色的苹果看起来很好吃，我想吃掉它。"}
HAN = re.compile("[\u4e00-\u9fff]")
errors = []


def fail(where, text):
    errors.append(f"{where}: {text}")


def need(where, condition, text):
    if not condition:
        fail(where, text)


def load(name, minimum):
    """Rows of one file as dictionaries; checks the shape common to all sets."""
    path = HERE / name
    if not path.is_file():
        fail(name, "missing")
        return []
    raw = path.read_bytes().decode("utf-8")
    need(name, raw.endswith("\n") and "\r" not in raw and not raw.startswith("\ufeff"),
         "must be UTF-8 without BOM, LF line ends, newline at the end")
    header, *lines = raw.rstrip("\n").split("\n")
    columns = COLUMNS[name.split(".")[0]].split()
    if header.split("\t") != columns:
        fail(name, f"header is not {columns}")
        return []
    rows = []
    for number, line in enumerate(lines, 2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            fail(f"{name}:{number}", f"{len(cells)} cells, expected {len(columns)}")
            continue
        for column, cell in zip(columns, cells):
            need(f"{name}:{number}", cell == cell.strip(), f"spaces around {column}")
            need(f"{name}:{number}", cell or column == "distractor", f"{column} is empty")
        rows.append(dict(zip(columns, cells)))
    ids = Counter(row["id"] for row in rows)
    need(name, all(n == 1 for n in ids.values()), "an id is used twice")
    need(name, len(rows) >= minimum, f"{len(rows)} rows, expected at least {minimum}")
    return rows


def word_edges(sentence, start, end, language):
    """In English a span may not begin or end inside a word."""
    if language != "en":
        return True
    before = sentence[start - 1:start] if start else ""
    after = sentence[end:end + 1]
    return not before.isalnum() and not after.isalnum()


def span(row, column, language):
    """(start, end) in code points, or None when the text is not there."""
    where, text, sentence = row["id"], row[column], row["sentence"]
    if not row[column + "_start"].isdecimal():
        fail(where, f"{column}_start is not a number")
        return None
    start = int(row[column + "_start"])
    end = start + len(text)
    if sentence[start:end] != text:
        fail(where, f"{column} {text!r} is not at {start}")
        return None
    need(where, word_edges(sentence, start, end, language), f"{column} cuts a word")
    return start, end


def overlap(a, b):
    return a is not None and b is not None and a[0] < b[1] and b[0] < a[1]


def language_of(name, rows, column="sentence"):
    language = name.split(".")[1]
    for row in rows:
        has_han = bool(HAN.search(row[column]))
        need(row["id"], has_han == (language == "zh"), "sentence is in the wrong language")
    return language


def share(count, total):
    return 100.0 * count / total if total else 0.0


def check_coreference(name, plurals=15):
    """Checks one set and returns its rows. The distractor need not agree with the pronoun."""
    rows = load(name, 100)
    language = language_of(name, rows)
    sentences = Counter(row["sentence"] for row in rows)
    need(name, all(n == 1 for n in sentences.values()), "a sentence appears twice")
    for row in rows:
        where, sentence = row["id"], row["sentence"]
        need(where, sentence not in RESERVED, "reserved sentence")
        need(where, row["kind"] in ("first", "second"), "unknown kind")
        need(where, row["entity"] in ENTITIES, "unknown entity")
        allowed = PRONOUNS[language].get(row["number"], set())
        need(where, row["pronoun"].lower() in allowed, "pronoun does not agree with number")
        pronoun, antecedent = span(row, "pronoun", language), span(row, "antecedent", language)
        need(where, not overlap(pronoun, antecedent), "pronoun and antecedent overlap")
        if language == "zh" and pronoun:
            need(where, sentence[pronoun[1]:pronoun[1] + 1] != "们", "pronoun cuts a word")
        if not row["distractor"]:
            need(where, row["kind"] == "first", "no distractor, so kind must be first")
            continue
        # The distractor has no offset column: it must occur exactly once, apart from
        # places inside the antecedent.
        size = len(row["distractor"])
        places = [(i, i + size) for i in range(len(sentence))
                  if sentence.startswith(row["distractor"], i)
                  and word_edges(sentence, i, i + size, language)
                  and not overlap((i, i + size), antecedent)]
        if len(places) != 1:
            fail(where, f"distractor occurs {len(places)} times, expected once")
            continue
        if antecedent and pronoun:
            need(where, max(places[0][1], antecedent[1]) <= pronoun[0],
                 "a candidate stands after the pronoun")
            order = "first" if antecedent[0] < places[0][0] else "second"
            need(where, row["kind"] == order, f"kind should be {order}")
    total = len(rows)
    kinds = Counter(row["kind"] for row in rows)
    entities = Counter(row["entity"] for row in rows)
    numbers = Counter(row["number"] for row in rows)
    with_distractor = sum(bool(row["distractor"]) for row in rows)
    need(name, 45 <= share(kinds["first"], total) <= 55, "first/second is out of 45-55%")
    need(name, entities["name"] >= 15, "fewer than 15 names")
    need(name, numbers["plural"] >= plurals, f"fewer than {plurals} plurals")
    need(name, share(with_distractor, total) >= 90, "too few distractors")
    used = {row["pronoun"].lower() for row in rows}
    missing = set().union(*PRONOUNS[language].values()) - used
    need(name, not missing, f"pronouns never used: {sorted(missing)}")
    print(f"{name}: {total} sentences, {with_distractor} with a distractor")
    print(f"  antecedent first {kinds['first']} ({share(kinds['first'], total):.1f}%), "
          f"second {kinds['second']} ({share(kinds['second'], total):.1f}%)")
    print(f"  number {dict(numbers.most_common())}")
    for column in ("entity", "pronoun"):
        table = Counter((row[column].lower(), row["kind"]) for row in rows)
        keys = sorted({key for key, _ in table}, key=lambda k: -table[k, "first"] - table[k, "second"])
        print(f"  {column} (first/second): " + ", ".join(
            f"{key} {table[key, 'first']}/{table[key, 'second']}" for key in keys))
    return rows


def check_everyday(name, hard):
    """The plain set: the checks of the hard one, and what only this set promises."""
    rows = check_coreference(name, plurals=20)
    language = name.split(".")[1]
    taken = {row["sentence"] for row in hard}
    for row in rows:
        need(row["id"], row["distractor"], "no distractor")
        need(row["id"], row["sentence"] not in taken, "sentence is in the hard set")
        if language == "en":
            words = len(row["sentence"].split())
            need(row["id"], 6 <= words <= 16, f"{words} words, expected 6-16")
    things = sum(row["pronoun"].lower() in ("it", "它") for row in rows)
    need(name, 40 <= share(things, len(rows)) <= 60, "it/它 is out of 40-60%")


def check_alignment(name):
    rows = load(name, 70)
    links_total = tokens_en = tokens_zh = linked_en = linked_zh = 0
    pairs = Counter((row["english"], row["chinese"]) for row in rows)
    need(name, all(n == 1 for n in pairs.values()), "a pair appears twice")
    for row in rows:
        english, chinese = row["english"].split(" "), row["chinese"].split(" ")
        need(row["id"], all(english) and all(chinese), "double space")
        need(row["id"], not HAN.search(row["english"]), "Chinese text in the English column")
        for token in english + chinese:
            need(row["id"], len(token) == 1 or not re.search(r"[.,?!;:。，？！；：]", token),
                 f"punctuation is not separated in {token!r}")
        links = []
        for link in row["links"].split(" "):
            match = re.fullmatch(r"(\d+)-(\d+)", link)
            if not match:
                fail(row["id"], f"bad link {link!r}")
                continue
            i, j = int(match[1]), int(match[2])
            need(row["id"], i < len(english) and j < len(chinese), f"link {link} is out of range")
            links.append((i, j))
        need(row["id"], links == sorted(set(links)), "links are not sorted and unique")
        links_total += len(links)
        tokens_en, tokens_zh = tokens_en + len(english), tokens_zh + len(chinese)
        linked_en += len({i for i, _ in links})
        linked_zh += len({j for _, j in links})
    print(f"{name}: {len(rows)} pairs, {links_total} links; linked tokens: "
          f"English {linked_en}/{tokens_en}, Chinese {linked_zh}/{tokens_zh}")


def check_syntax(name):
    rows = load(name, 60)
    language = language_of(name, rows)
    seen = Counter()
    for row in rows:
        need(row["id"], row["relation"] in RELATIONS, "unknown relation")
        dependent, head = span(row, "dependent", language), span(row, "head", language)
        need(row["id"], not overlap(dependent, head), "dependent and head overlap")
        seen[row["sentence"], dependent, head] += 1
    need(name, all(n == 1 for n in seen.values()), "a pair appears twice")
    sentences = len({row["sentence"] for row in rows})
    need(name, sentences >= 60, f"{sentences} sentences, expected at least 60")
    relations = Counter(row["relation"] for row in rows)
    print(f"{name}: {sentences} sentences, {len(rows)} rows, {dict(relations.most_common())}")


def check_meaning(name):
    rows = load(name, 60)
    language = language_of(name, rows)
    seen = Counter()
    for row in rows:
        word, related = span(row, "word", language), span(row, "related", language)
        need(row["id"], not overlap(word, related), "word and related overlap")
        need(row["id"], row["word"].lower() != row["related"].lower(), "the same word twice")
        seen[row["sentence"], word, related] += 1
    need(name, all(n == 1 for n in seen.values()), "a pair appears twice")
    print(f"{name}: {len({row['sentence'] for row in rows})} sentences, {len(rows)} rows")


def check_translate(name):
    rows = load(name, 40)
    for row in rows:
        need(row["id"], not HAN.search(row["english"]) and HAN.search(row["chinese"]),
             "columns are in the wrong language")
    need(name, len({row["english"] for row in rows}) == len(rows), "a sentence appears twice")
    print(f"{name}: {len(rows)} pairs")


def main():
    for language in ("en", "zh"):
        hard = check_coreference(f"coreference.{language}.tsv")
        check_everyday(f"everyday.{language}.tsv", hard)
    check_alignment("alignment.tsv")
    for language in ("en", "zh"):
        check_syntax(f"syntax.{language}.tsv")
    for language in ("en", "zh"):
        check_meaning(f"meaning.{language}.tsv")
    check_translate("translate.smoke.tsv")
    for error in errors:
        print("error:", error, file=sys.stderr)
    print("ok" if not errors else f"{len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
