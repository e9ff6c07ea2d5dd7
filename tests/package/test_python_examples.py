"""Each program of examples/python shows what it says it shows."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "examples/python").glob("*.py"))


def run(name, *arguments):
    done = subprocess.run([sys.executable, ROOT / f"examples/python/{name}.py", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_says_how_to_run_it_and_is_documented():
    assert len(SOURCES) == 5
    text = (ROOT / "docs/python.md").read_text()
    for source in SOURCES:
        assert f"python examples/python/{source.name}" in source.read_text() and f"examples/python/{source.name}" in text, source


def test_ten_lines():
    printed = run("ten_lines")
    assert re.findall(r"\d\.\d+", printed) == ["0.8668", "0.1173", "0.0159", "0.8668", "0.7905"]  # e⁴, e², e⁰ over 62.987
    body = (ROOT / "examples/python/ten_lines.py").read_text().split('"""')[2].strip().splitlines()
    assert len([line for line in body if line and not line.startswith("import")]) <= 10


def test_associative_recall_learns():
    before, after = re.findall(r"(?:before|after): loss ([\d.]+), recall ([\d.]+)%, looked at the right pair in ([\d.]+)%",
                               run("associative_recall", "--steps", 300))
    assert float(before[1]) < 20 and float(after[1]) > 95 and float(after[2]) > 95 and float(after[0]) < float(before[0]) / 10


def test_look_inside(tmp_path):
    printed = run("look_inside", "--html", tmp_path / "page.html")
    assert "猫" in printed.splitlines()[0]
    assert re.search(r"猫 +reads cat (9\d|100)%", printed) and re.search(r"it means cat (9\d|100)%", printed)
    assert "▁cat" in (tmp_path / "page.html").read_text() or "cat" in (tmp_path / "page.html").read_text()


def test_long_context():
    printed = run("long_context", "--tokens", 8192)
    assert printed.count("the needle") == 4
    assert printed.count("the needle") == run("long_context", "--tokens", 2048, "--watch", "eager").count("the needle")


def test_sam3(tmp_path):
    if not hasattr(transformers, "Sam3Model"):
        pytest.skip(f"transformers {transformers.__version__} has no Sam3Model")
    printed = run("sam3", "--html", tmp_path / "sam3.html").splitlines()
    assert printed[0] == "14 of 14 attentions ran on qkv"
    assert float(re.search(r"within (\S+) of eager", printed[1])[1]) < 1e-4
    assert len([line for line in printed if line.startswith("object ")]) == 3
    for line in printed:
        if " read " in line and not line.startswith("masks"):
            shares = [int(share) for share in re.findall(r"(\d+)%", line)]
            assert len(shares) == 3 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 101, line
    assert '"row 1 column 1"' in (tmp_path / "sam3.html").read_text()
