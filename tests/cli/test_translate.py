"""qkv translate, claims, isa and what all commands share."""
import json
import os
import pty
import select
import subprocess
import tempfile
import time

import jsonschema
import pytest

from conftest import BUILD, ROOT

LINES = ["The cat sat on the mat.", "我爱吃苹果。", "", "She gave him the book.", "他把书给了她。"] * 5


def schema(name):
    return json.loads((ROOT / "docs" / "schema" / f"{name}.json").read_text())


def test_lines_come_in_order(qkv):
    one_by_one = [qkv.ok("translate", line) if line else "\n" for line in LINES[:5]]
    text = "\n".join(LINES) + "\n"
    assert qkv.ok("translate", stdin=text) == "".join(one_by_one) * 5
    for more in (["--batch", 1], ["--batch", 3, "--threads", 1], ["--threads", 2]):
        assert qkv.ok("translate", *more, stdin=text) == "".join(one_by_one) * 5


def test_file_and_text_with_lines(qkv, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("\r\n".join(LINES[:4]).encode())  # Windows' line ends, none at the end
    expected = qkv.ok("translate", stdin="\n".join(LINES[:4]))
    assert qkv.ok("translate", "--file", path) == expected
    assert qkv.ok("translate", "\n".join(LINES[:4])) == expected
    assert expected.count("\n") == 4


def test_many_lines(qkv):
    shown = qkv.ok("translate", "--beam", 1, stdin="The cat.\n" * 1000)
    assert shown.count("\n") == 1000 and len(set(shown.splitlines())) == 1


def test_direction(qkv):
    assert qkv.json("translate", "I eat it.")["target_language"] == "zh"
    assert qkv.json("translate", "我爱吃苹果。")["target_language"] == "en"
    assert qkv.json("translate", "I eat it.", "--to", "en")["target_language"] == "en"


def test_json(qkv):
    lines = [json.loads(line) for line in qkv.ok("translate", "--json", stdin="\n".join(LINES[:5])).splitlines()]
    assert len(lines) == 5
    for line, source in zip(lines, LINES):
        jsonschema.validate(line, schema("translate"))
        assert "".join(line["source"]) == source.replace(" ", "")
        assert len(line["alignment"]) == len(line["target"])
        assert all(len(row) == len(line["source"]) and sum(row) <= 1.00001 for row in line["alignment"])
    assert lines[2]["text"] == "" and lines[2]["source"] == []


def test_alignment(qkv):
    shown = qkv.ok("translate", "--alignment", "The cat sat on the mat.").splitlines()
    line = qkv.json("translate", "The cat sat on the mat.")
    assert shown[0] == line["text"]
    for word, row, weights in zip(line["target"], shown[1:], line["alignment"]):
        assert row.split()[0] == word
        best = max(range(len(weights)), key=weights.__getitem__)
        assert f"{line['source'][best]} {100 * weights[best]:.1f}%" in row
    assert "⟨end⟩" in shown[-1] or "more" in shown[-1]


def test_long_lines_are_cut_into_sentences(qkv):
    first, second = "The cat sat on the mat because it was tired.", "The dog ran after the ball and it was happy."
    line = qkv.json("translate", " ".join([first, second] * 4))
    parts = [qkv.json("translate", sentence) for sentence in (first, second)]
    assert line["text"] == "".join([parts[0]["text"], parts[1]["text"]] * 4)  # Chinese needs no space between sentences
    assert line["source"] == (parts[0]["source"] + parts[1]["source"]) * 4
    offset = len(parts[0]["source"])
    row = line["alignment"][len(parts[0]["target"])]
    assert not any(row[:offset]) and any(row[offset:])


def test_claims(qkv):
    report = qkv.json("claims")
    jsonschema.validate(report, schema("claims"))
    claims = {claim["id"]: claim for claim in report["claims"]}
    assert all(claim["true"] == claim["expected"] for claim in claims.values())
    assert [name for name, claim in claims.items() if not claim["true"]] == ["symmetric-weights"]
    assert claims["keys-and-values"]["numbers"] == [{"K[0]": 4, "K[1]": 5, "V[0]": 3, "V[1]": 4}]
    for row in claims["variance"]["numbers"]:
        assert row["variance of q·k"] == pytest.approx(row["d_k"], rel=0.06)
        assert row["variance of q·k/√d_k"] == pytest.approx(1, rel=0.06)
    shown = qkv.ok("claims")
    assert "NOT TRUE  symmetric-weights" in shown
    assert shown.endswith(f"{len(claims)} claims: {len(claims) - 1} true, 1 not true\n")


def test_isa_and_version(qkv):
    report = qkv.json("isa")
    jsonschema.validate(report, schema("isa"))
    assert qkv.ok("isa").startswith(f"in use: {report['isa']}\n")
    assert qkv.json("isa", QKV_ISA="scalar")["isa"] == "scalar"
    assert qkv.ok("--version").startswith("qkv ")


@pytest.mark.parametrize("arguments", [[], ["look"], ["translate"], ["serve"], ["claims"], ["isa"]])
def test_help(qkv, arguments):
    shown = qkv.ok(*arguments, "--help")
    assert "Usage" in shown and max(map(len, shown.splitlines())) <= 120


def in_terminal(arguments, columns=80, stdin=None, environment=None, until=None):
    """What the command writes if both outputs are a terminal of so many columns; it is stopped once `until` is written."""
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    with tempfile.TemporaryFile() as text:  # a pipe could fill up while nobody reads the terminal
        text.write(stdin or b"")
        text.seek(0)
        process = subprocess.Popen([BUILD / "bin" / "qkv", *arguments], stdin=text, stdout=follower, stderr=follower,
                                   env={**inherited, "TERM": "xterm", **(environment or {})})
    os.close(follower)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
        if until is not None and until in shown:
            process.kill()
            break
    os.close(leader)
    assert process.wait(timeout=60) == (0 if until is None else -9), shown
    return shown.decode()


def test_colour_on_a_terminal(model):
    look = ["look", "The cat sat because it was tired.", "--model", str(model)]
    assert "\x1b[1m" in in_terminal(look)
    assert "\x1b" not in in_terminal(look, environment={"NO_COLOR": "1"})
    assert "\x1b" in in_terminal(look, environment={"NO_COLOR": ""})  # no-color.org: an empty one does not count
    assert "\x1b" not in in_terminal(look, environment={"TERM": "dumb"})
    assert "\x1b" not in in_terminal([*look, "--json"])


def test_width_of_the_terminal(model):
    look = ["look", "The cat sat on the mat because it was tired and it ate the red apples.", "--model", str(model)]
    for columns in (50, 100):
        lines = in_terminal(look, columns, environment={"NO_COLOR": "1"}).replace("\r", "").splitlines()
        longest = max(len(line) for line in lines)
        assert columns - 25 <= longest <= columns


def test_progress_is_shown_on_a_terminal(model):
    shown = in_terminal(["translate", "--beam", "8", "--batch", "8", "--threads", "1", "--model", str(model)],
                        stdin=b"The cat sat on the mat.\n" * 20000, until=b" lines")
    assert " lines" in shown
