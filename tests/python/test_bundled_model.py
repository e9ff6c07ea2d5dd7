"""The bundled model through the `qkv` command: the sentences it exists for, and its held-out scores, as the card states them.

Numbers are the engine's own. Nothing here was trained on; training/translate/labelled/README.md says who wrote it.
"""
import csv
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
QKV = BUILD / "bin" / "qkv"
LABELLED = ROOT / "training" / "translate" / "labelled"

pytestmark = pytest.mark.skipif(not QKV.exists(), reason=f"{QKV} is not built")


def qkv(*arguments):
    done = subprocess.run([QKV, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(text, *arguments):
    return json.loads(qkv("look", "--json", text, *arguments))


def spans(text, words):
    """Where each word stands in the text; special words stand nowhere."""
    at, found = 0, []
    for word in words:
        begin = text.find(word, at)
        if begin < 0:
            found.append((-1, -1))
            continue
        at = begin + len(word)
        found.append((begin, at))
    return found


def read_weights(asked):
    return {r["word"]: r["weight"] for r in asked["read"]}


def test_the_pronoun_reads_the_apple():
    report = look("那个红色的苹果看起来很好吃，我想吃掉它")
    asked = next(a for a in report["asked"] if a["word"] == "它")
    assert asked["role"] == "coreference"
    others = [r["word"] for r in asked["read"] if r["word"] != "它"]
    assert others[0] == "苹果"
    weights = read_weights(asked)
    assert weights["苹果"] > max(weights.get("红色", 0), weights.get("好吃", 0))


def test_the_pronoun_reads_the_cat():
    report = look("The cat sat on the mat because it was tired")
    asked = next(a for a in report["asked"] if a["word"] == "it")
    others = [r["word"] for r in asked["read"] if r["word"] != "it"]
    assert others[0] == "cat"
    assert read_weights(asked)["cat"] > read_weights(asked).get("mat", 0)


def test_the_apple_reads_what_is_done_to_it():
    # system 3: 苹果 asks; 我 low, 爱 middle, 吃 high
    report = look("我爱吃苹果", "--query", "苹果")
    weights = read_weights(report["asked"][0])
    assert weights["吃"] > weights.get("爱", 0) >= weights.get("我", 0)


def test_cat_is_translated_from_cat():
    made = json.loads(qkv("translate", "--json", "The cat sits on the mat"))
    row = made["alignment"][next(i for i, word in enumerate(made["target"]) if "猫" in word)]
    assert made["source"][row.index(max(row))] == "cat"
    assert max(row) >= 0.6
    assert "猫" in made["text"] and "垫" in made["text"]


def coreference(row):
    """Whether the most-read word other than the pronoun is the antecedent."""
    text, start = row["sentence"], int(row["pronoun_start"])
    report = look(text, "--query", row["pronoun"])
    where = spans(text, report["words"])
    asked = next((a for a in report["asked"] if where[a["index"]][0] <= start < where[a["index"]][1]), None)
    if asked is None:
        return False
    best = next((r for r in asked["read"] if r["index"] != asked["index"]), None)
    begin, end = where[best["index"]] if best else (-1, -1)
    first = int(row["antecedent_start"])
    return begin < first + len(row["antecedent"]) and first < end


@pytest.mark.parametrize("language", ["en", "zh"])
def test_coreference_on_everyday_sentences_written_by_hand(language):
    rows = list(csv.DictReader((LABELLED / f"everyday.{language}.tsv").open(encoding="utf-8"), delimiter="\t",
                               quoting=csv.QUOTE_NONE))
    assert len(rows) >= 80
    with ThreadPoolExecutor(2) as pool:
        right = list(pool.map(coreference, rows))
    share = sum(right) / len(rows)
    first = sum(row["kind"] == "first" for row in rows) / len(rows)
    print(f"{language}: {share:.1%} of {len(rows)}; always the first noun {first:.1%}, always the nearest {1 - first:.1%}")
    assert share >= 0.85
