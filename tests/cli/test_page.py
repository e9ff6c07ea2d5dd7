"""--html and serve: what the command does with files and ports. tests/page opens the pages in a browser."""
import json
import re

import pytest

ENGLISH = "The cat sat on the mat because it was tired."


def runs_of(path):
    return json.loads(re.search(r'id="runs">(.*?)</script>', path.read_text(encoding="utf-8"), re.S).group(1))


def test_look_also_prints_its_answer(qkv, tmp_path):
    page = tmp_path / "look.html"
    assert qkv.ok("look", ENGLISH, "--html", page) == qkv.ok("look", ENGLISH)
    [run] = runs_of(page)
    assert run["kind"] == "look" and [layer["heads"] for layer in run["layers"]] == [4, 4]
    report = qkv.json("look", ENGLISH, "--html", page)
    assert [word["text"] for word in run["query"]["words"][:run["query"]["sentence"]]] == report["words"]


def test_every_sentence_of_a_translation_is_a_run(qkv, tmp_path):
    page = tmp_path / "translate.html"
    lines = "The cat sat on the mat. She gave him the book.\n\n我爱吃苹果。\n"
    assert qkv.ok("translate", "--html", page, stdin=lines) == qkv.ok("translate", stdin=lines)
    runs = runs_of(page)
    assert [(run["kind"], run["key"]["language"]) for run in runs] == [("translate", "en"), ("translate", "en"), ("translate", "zh")]
    assert "at most 50 sentences" in qkv(*"translate --html".split(), page, stdin="我爱吃苹果。\n" * 51).stderr


def test_a_file_that_cannot_be_written_is_named(qkv, tmp_path):
    message = qkv.fails(1, "look", ENGLISH, "--html", tmp_path / "none" / "look.html")
    assert "cannot write" in message and "none/look.html: No such file or directory" in message


@pytest.mark.parametrize("arguments, code, said", [(["--port", "70000"], 2, "--port"), (["--host", "no.such.host.invalid"], 1, "cannot listen on"),
                                                   (["--model", "/nowhere"], 4, "the model cannot be loaded")])
def test_serve_says_why_it_does_not_start(qkv, arguments, code, said):
    assert said in qkv.fails(code, "serve", *arguments)
