"""qkv look: what it prints on a random model, and what the bundled model must read."""
import json
import re
import unicodedata

import jsonschema
import pytest

from conftest import ROOT

ENGLISH = "The cat sat on the mat because it was tired."
CHINESE = "那个红色的苹果看起来很好吃，我想吃掉它"


def schema(name):
    return json.loads((ROOT / "docs" / "schema" / f"{name}.json").read_text())


def cells(line):
    """Cells of a line that holds no emoji and no control characters."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def check_report(report):
    jsonschema.validate(report, schema("look"))
    names = report["words"] + [special["word"] for special in report["specials"]]
    for reading in report["asked"] + [r for head in report.get("heads", []) for r in head["asked"]]:
        assert names[reading["index"]] == reading["word"]
        weights = [read["weight"] for read in reading["read"]]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) + reading["remainder"] == pytest.approx(1, abs=1e-5)
        for read in reading["read"] + reading["specials"]:
            assert names[read["index"]] == read["word"]
        assert sum(s["weight"] for s in reading["specials"]) <= reading["remainder"] + 1e-5


@pytest.mark.parametrize("text, language, pronoun", [(ENGLISH, "en", "it"), (CHINESE, "zh", "它")])
def test_json(qkv, text, language, pronoun):
    report = qkv.json("look", text)
    check_report(report)
    assert report["language"] == language
    assert "".join(report["words"]) == text.replace(" ", "")
    assert [(a["word"], a["layer"], a["head"], a["role"]) for a in report["asked"]] == [(pronoun, 1, 2, "coreference")]
    assert "heads" not in report and "matrix" not in report


def test_json_of_every_head_and_one_matrix(qkv):
    report = qkv.json("look", ENGLISH, "--heads", "--layer", 0, "--head", 3, "--top", 3)
    check_report(report)
    assert [(h["layer"], h["head"]) for h in report["heads"]] == [(l, h) for l in range(2) for h in range(4)]
    assert all(len(h["asked"]) == 1 and len(h["asked"][0]["read"]) <= 3 for h in report["heads"])
    assert report["heads"][6]["roles"] == [{"role": "coreference", "score": 0.91, "chance": 0.23, "guided": True}]
    matrix = report["matrix"]["weights"]
    count = len(report["words"]) + len(report["specials"])
    assert len(matrix) == count and all(len(row) == count for row in matrix)
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in matrix)
    # The same weight everywhere.
    asked = report["heads"][3]["asked"][0]
    for read in asked["read"]:
        assert matrix[asked["index"]][read["index"]] == pytest.approx(read["weight"])


def test_query(qkv):
    report = qkv.json("look", ENGLISH, "--query", "the")
    check_report(report)
    assert [(a["index"], a["role"]) for a in report["asked"]] == [
        (0, "syntax"), (0, "coreference"), (4, "syntax"), (4, "coreference")]
    assert [a["word"] for a in qkv.json("look", CHINESE, "--query", "红色的")["asked"]] == ["红色的", "红色的"]


def test_pieces(qkv):
    report = qkv.json("look", ENGLISH, "--pieces")
    check_report(report)
    assert report["unit"] == "piece"
    assert "".join(report["words"]).replace("▁", " ").strip() == ENGLISH
    assert all(a["role"] == "coreference" for a in report["asked"])


def test_language(qkv):
    to = {"en": "⟨to zh⟩", "zh": "⟨to en⟩"}
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        assert to[language] in qkv.ok("look", text, "--heads", "--layer", 0, "--head", 0)
    forced = qkv.json("look", ENGLISH, "--lang", "zh")
    assert forced["language"] == "zh" and forced["specials"][0]["word"] == "⟨to en⟩"


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "No pronoun here.", "I ate it. " * 15, "她" * 60])
@pytest.mark.parametrize("columns", [40, 80, 132])
def test_lines_fit(qkv, text, columns):
    for more in ([], ["--heads"], ["--pieces", "--layer", 0, "--head", 0]):
        shown = qkv.ok("look", text, *more, COLUMNS=str(columns))
        assert "\x1b" not in shown
        for line in shown.splitlines():
            assert cells(line) <= columns, line
            assert line == line.rstrip()


def test_the_answer_comes_first(qkv):
    lines = qkv.ok("look", CHINESE).splitlines()
    assert lines[0] == "Chinese, 12 words"
    assert lines[3].startswith("它 read ") and lines[3].endswith("layer 1, head 2 · coreference: right 91%, by chance 23%")
    shares = [float(match[1]) for match in (re.search(r"(\d+\.\d)%", line) for line in lines[4:]) if match]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert lines[-1].startswith("  the rest")


def test_columns_are_aligned(qkv):
    rows = [line for line in qkv.ok("look", CHINESE, "--layer", 1, "--head", 2).split("Matrix")[1].splitlines()
            if re.match(r"\s*\d+ \S", line)]
    assert len(rows) == 14
    assert len({cells(row) for row in rows}) == 1


def test_explain(qkv):
    it = qkv.json("look", ENGLISH, "--explain", "--query", "it", "--key", "cat")
    jsonschema.validate(it, schema("explain"))
    assert it["dot"] == pytest.approx(sum(q * k for q, k in zip(it["q"], it["k"])))
    assert it["score"] == pytest.approx(it["dot"] / len(it["q"]) ** 0.5)
    assert it["sum"] == pytest.approx(sum(rival["exp"] for rival in it["rivals"]))
    assert it["weight"] == pytest.approx(it["engine"], abs=1e-6)
    assert it["word_weight"] == pytest.approx(it["word_engine"], abs=1e-6)
    assert sum(rival["share"] for rival in it["rivals"]) == pytest.approx(1)
    assert it["output_difference"] < 1e-5
    report = qkv.json("look", ENGLISH, "--top", 100)
    read = {r["word"]: r["weight"] for r in report["asked"][0]["read"]}
    assert it["word_engine"] == pytest.approx(read["cat"])

    shown = qkv.ok("look", ENGLISH, "--explain", "--query", "it", "--key", "cat")
    for part in ("Why it read cat with", "query_dot_keys", "softmax", "weighted_sum_values", "by the engine"):
        assert part in shown
    assert all(cells(line) <= 80 for line in shown.splitlines())
    assert qkv.json("look", ENGLISH, "--explain", "--query", "it", "--key", "end")["key"]["word"] == "⟨end⟩"


def test_no_pronoun(qkv):
    shown = qkv.ok("look", "The cat sat on the mat.")
    assert shown.splitlines()[3].startswith("No pronoun in this sentence")
    assert "layer 1, head 0 · syntax" in shown
    assert qkv.json("look", "The cat sat on the mat.")["asked"] == []


# ---- the model that ships

@pytest.mark.parametrize("text, pronoun, meant, more_than", [
    (CHINESE, "它", "苹果", ["红色", "好吃"]),
    ("The cat sat on the mat because it was tired", "it", "cat", ["mat"]),
])
def test_pronouns_of_the_mission(bundled, text, pronoun, meant, more_than):
    report = bundled.json("look", text, "--top", 50)
    check_report(report)
    asked, = report["asked"]
    assert (asked["word"], asked["role"]) == (pronoun, "coreference")
    assert asked["read"][0]["word"] == meant
    weights = {read["word"]: read["weight"] for read in asked["read"]}
    for other in more_than:
        assert weights[meant] > weights.get(other, 0)


def test_alignment_of_the_mission(bundled):
    line = bundled.json("translate", "The cat sits on the mat")
    cat = next(i for i, word in enumerate(line["target"]) if "猫" in word)
    assert line["alignment"][cat][line["source"].index("cat")] >= 0.6
