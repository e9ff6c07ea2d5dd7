"""Each program of examples/ shows what it says it shows."""
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release")) / "examples"
SOURCES = sorted((ROOT / "examples").glob("*.c*"))

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason=f"{EXAMPLES} is not there: make examples")


def run(name, *arguments, code=0, **environment):
    """Standard output of an example that must end with `code`; of a refused one, standard error."""
    done = subprocess.run([EXAMPLES / name, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, env={**os.environ, **environment})
    assert done.returncode == code, f"{name} {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    if code != 2:
        assert done.stderr == ""
        return done.stdout
    assert done.stdout == ""
    return done.stderr


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line)]


def test_every_example_says_how_to_run_it():
    assert SOURCES
    for source in SOURCES:
        comment = re.match(r"(?://.*\n)+", source.read_text())
        assert comment and f"make examples && build/release/examples/{source.stem}" in comment.group(), source


def test_every_example_is_in_both_readmes():
    for readme in ("README.md", "README.zh.md"):
        text = (ROOT / readme).read_text()
        assert [source.stem for source in SOURCES if f"examples/{source.stem}" not in text] == [], readme


def test_twenty_lines_are_twenty():
    lines = (ROOT / "examples/twenty_lines.cc").read_text().splitlines()
    body = lines[lines.index("int main() {") + 1:lines.index("}")]
    assert len(body) <= 20


def test_twenty_lines_are_those_by_hand():
    apple, tree, eat, out = map(numbers, run("twenty_lines").splitlines())
    # e⁴, e² and e⁰ over 62.987
    assert [apple, tree, eat] == [[4, 0.8668], [2, 0.1173], [0, 0.0159]]
    assert out == [0.8668, 0.7905]  # 0.1·0.86682 + 6·0.11731


def test_c_is_c11():
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", ROOT / "include"]
    for source in (ROOT / "examples").glob("*.c"):
        subprocess.run(["cc", *strict, source], check=True)


def test_c_looks_back():
    rows = run("attention").splitlines()
    assert [row.split()[0] for row in rows] == ["the", "cat", "saw", "itself"]
    assert re.search(r"looks at cat +97%", rows[3])  # scores 0, 6/√2, −6/√2 and 0


@pytest.mark.parametrize("keys", [1, 2, 3, 5000, 200_000])
def test_the_needle_is_found(keys):
    *queries, found, memory = run("needle", "--keys", keys).splitlines()
    assert len(queries) == 4 and all(line.endswith("found") for line in queries)
    for line in queries:
        _, wanted, *read = numbers(line)
        assert read[0] == wanted and read[1] > 90
        assert len(read) == 2 * min(3, keys) and 0 <= wanted < keys
        assert read[1::2] == sorted(read[1::2], reverse=True)
    assert numbers(found)[:3] == [4, 4, keys]
    tensors, beyond = numbers(memory)
    assert tensors == pytest.approx(2 * keys * 64 * 4 / 2**20, abs=0.1)
    assert beyond < 50 + tensors  # a gigabyte is allowed at a million keys; the program itself takes 4 MiB


def test_a_needle_among_a_million_needs_no_gigabyte():
    *_, found, memory = run("needle").splitlines()
    assert numbers(found)[:3] == [4, 4, 1_000_000]
    assert numbers(memory)[0] > 488 and numbers(memory)[1] < 1000


@pytest.mark.parametrize("keys", ["0", "-1", "1.5", "1e6", "10000001", "99999999999999999999", "", "many"])
def test_a_wrong_number_of_keys_is_refused(keys):
    assert run("needle", "--keys", keys, code=2) == f"needle: --keys takes a whole number from 1 to 10000000, not '{keys}'\n"


@pytest.mark.parametrize("arguments", [["--keys"], ["--needles", "3"], ["5"], ["--keys", "5", "6"]])
def test_needle_tells_its_usage(arguments):
    assert run("needle", *arguments, code=2).startswith("usage: needle [--keys N]")


def examined(output, when):
    """Loss, recall, part of sequences in which the right pair was read most, its weight."""
    line, = re.findall(rf"^{when}: .*", output, re.MULTILINE)
    return numbers(line)


def test_recall_is_learned():
    output = run("associative_recall")
    loss, recall, found, weight = examined(output, "before")
    assert loss > 3.5 and recall < 10 and found < 15 and weight < 0.15
    loss, recall, found, weight = examined(output, "after")
    assert loss < 0.3 and recall >= 95 and found >= 95 and weight > 0.9
    *_, last = output.splitlines()
    assert last.startswith("learned for ") and numbers(last)[0] < 60
    # what is drawn is what is said
    pictures = re.findall(r"^  k\d+ +is in pair +(\d+); weights (\S{16}), most on +(\d+)", output, re.MULTILINE)
    assert len(pictures) == 6
    for pair, picture, most in pictures[3:]:
        assert pair == most and picture.index(max(picture)) == int(pair)


def test_recall_learns_the_same_every_time():
    first, second = (re.sub(r"learned for .*", "", run("associative_recall", QKV_NUM_THREADS=threads))
                     for threads in "12")
    assert first == second


def test_what_was_not_learned_is_said_and_fails():
    output = run("associative_recall", "--steps", 0, code=1)
    assert examined(output, "before") == examined(output, "after")


@pytest.mark.parametrize("arguments", [["--steps"], ["--steps", "-1"], ["--steps", "3x"], ["--steps", "9999999999"], ["3"]])
def test_recall_tells_its_usage(arguments):
    assert run("associative_recall", *arguments, code=2).startswith("usage: associative_recall [--steps N]\n")
