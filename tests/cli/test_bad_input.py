"""Whatever comes in: a message that says what was expected and what came, and the code of docs/exit-codes.md."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import BUILD

ENGLISH = "The cat sat on the mat because it was tired."


@pytest.mark.parametrize("command", ["look", "translate"])
@pytest.mark.parametrize("text", ["", "   ", "\t\n", "　"])
def test_empty_text(qkv, command, text):
    assert "TEXT is empty; expected" in qkv.fails(3, command, text)


@pytest.mark.parametrize("command", ["look", "translate"])
@pytest.mark.parametrize("text, place", [(b"ok\xff", "byte 3 is 0xFF"), (b"\xe5\xa5", "byte 1 is 0xE5"),
                                         (b"a\xed\xa0\x80", "byte 2 is 0xED")])
def test_invalid_utf8(qkv, command, text, place):
    message = qkv.fails(3, command, text)
    assert "TEXT is not valid UTF-8" in message and place in message


def test_invalid_utf8_in_options(qkv):
    assert "--query is not valid UTF-8" in qkv.fails(3, "look", ENGLISH, "--query", b"\xff")


@pytest.mark.parametrize("text", ["word " * 20000, "好" * 33334, "x" * 100000])
def test_a_hundred_thousand_characters(qkv, text):
    message = qkv.fails(3, "look", text)
    assert "pieces; the model reads at most 128" in message
    assert len(message) < 1000
    message = qkv.fails(3, "translate", text)
    assert "the model reads at most 128 at once. Cut it with punctuation" in message


def test_a_hundred_thousand_characters_of_sentences(qkv):
    done = qkv("translate", "--beam", "1", "I ate it. " * 10000, timeout=600)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1


def test_unknown_characters_are_named(qkv, model_without_bytes):
    done = qkv("look", "The 龘 cat 鱻 ate 龘.", "--query", "cat", model=model_without_bytes)
    assert done.returncode == 0
    assert "qkv: note: the model does not know these characters and reads all of them alike: 龘 鱻" in done.stderr
    done = qkv("translate", "The 龘 cat.", model=model_without_bytes)
    assert done.returncode == 0
    assert "TEXT: the model does not know these characters: 龘" in done.stderr
    assert qkv("look", "The 龘 cat ate it.").stderr == ""  # a model with byte pieces reads everything


def test_odd_characters_are_read(qkv):
    for text in ["it 👨‍👩‍👧 e\u0301 \u202e\u200b", "it\x1b[31m\x07", "it\nit", "它" * 50, "!!!", "12345"]:
        done = qkv("look", text, "--heads", "--layer", 0, "--head", 0)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout and "\x07" not in done.stdout
        json.loads(qkv.ok("look", text, "--json", "--pieces"))


@pytest.mark.parametrize("command", ["look", "translate"])
def test_missing_model(qkv, command, tmp_path):
    assert "does not exist" in qkv.fails(4, command, ENGLISH, model=tmp_path / "nothing")
    assert "was not found; looked for" in qkv.fails(4, command, ENGLISH, model="no-such-model")
    (tmp_path / "empty").mkdir()
    assert "config.json" in qkv.fails(4, command, ENGLISH, model=tmp_path / "empty")


def damage(folder, name, change):
    path = folder / name
    if change == "missing":
        path.unlink()
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"\xff\x00garbage" * 50)


@pytest.mark.parametrize("change", ["missing", "empty", "cut", "garbage"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "source.spm", "target.spm", "vocab.json"])
def test_damaged_model(qkv, model, tmp_path, name, change):
    folder = shutil.copytree(model, tmp_path / "damaged")
    damage(folder, name, change)
    message = qkv.fails(4, "look", ENGLISH, model=folder)
    assert name in message, message


@pytest.mark.parametrize("change", ["empty", "cut", "garbage"])
def test_damaged_roles(qkv, model, tmp_path, change):
    folder = shutil.copytree(model, tmp_path / "damaged")
    damage(folder, "roles.json", change)
    assert "roles.json" in qkv.fails(4, "look", ENGLISH, model=folder)


def test_roles_that_the_model_lacks(qkv, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "roles")
    role = {"block": "encoder", "layer": 9, "head": 0, "role": "coreference", "score": 0.9, "chance": 0.1, "guided": True}
    (folder / "roles.json").write_text(json.dumps({"schema": 1, "heads": [role]}))
    done = qkv("look", ENGLISH, model=folder)
    assert done.returncode in (0, 4)
    (folder / "roles.json").unlink()
    assert "role not measured" in qkv.ok("look", ENGLISH, model=folder)


def test_words_that_are_not_there(qkv):
    message = qkv.fails(3, "look", ENGLISH, "--query", "dog")
    assert message == 'qkv: "dog" is not a word of the sentence; its words are: The cat sat on the mat because it was tired .\n'
    assert '"dog" is not a word' in qkv.fails(3, "look", ENGLISH, "--explain", "--query", "it", "--key", "dog")


def test_layers_and_heads_that_are_not_there(qkv):
    assert "layer 2: expected 0 to 1" in qkv.fails(2, "look", ENGLISH, "--layer", 2, "--head", 0)
    assert "head 4: expected 0 to 3" in qkv.fails(2, "look", ENGLISH, "--layer", 0, "--head", 4)
    assert "--layer" in qkv.fails(2, "look", ENGLISH, "--layer", -1, "--head", 0)
    assert "--head" in qkv.fails(2, "look", ENGLISH, "--layer", 0)


@pytest.mark.parametrize("arguments", [
    ["look"], ["look", "a", "b"], ["look", "a", "--nonsense"], ["look", "a", "--top", "0"], ["look", "a", "--lang", "fr"],
    ["look", "a", "--explain"], ["look", "a", "--key", "a"], ["nonsense"], ["translate", "a", "--beam", "0"],
    ["translate", "a", "--threads", "x"], ["translate", "a", "--file", "b"], ["translate", "a", "--batch", "-1"],
    ["claims", "more"], ["--nonsense"],
])
def test_wrong_usage(qkv, arguments):
    assert "--help tells" in qkv.fails(2, *arguments)


def test_no_command(qkv):
    done = qkv()
    assert done.returncode == 2
    assert "look" in done.stderr and "translate" in done.stderr


def test_a_language_the_model_lacks(qkv):
    assert qkv.fails(2, "translate", ENGLISH, "--to", "fr").endswith("it writes en zh\n")


def test_unknown_instruction_set(qkv):
    assert "QKV_ISA" in qkv.fails(2, "isa", QKV_ISA="sse9")


def test_unreadable_files(qkv, tmp_path):
    assert "cannot read" in qkv.fails(1, "translate", "--file", tmp_path / "nothing")
    assert "cannot read" in qkv.fails(1, "translate", "--file", tmp_path)
    assert "standard input is empty" in qkv.fails(3, "translate", stdin="")
    assert "standard input is empty" in qkv.fails(3, "translate", stdin="\n\n")


def test_a_bad_line_is_named_and_the_lines_before_it_are_translated(qkv):
    done = qkv("translate", stdin=b"I ate.\nThe cat.\n\xff\nThe dog.\n")
    assert done.returncode == 3
    assert "line 3 of standard input is not valid UTF-8: byte 1 is 0xFF" in done.stderr
    assert done.stdout.count("\n") == 2


def run_with_closed_pipe(model, *arguments, stdin=b""):
    """Closes the reading end before the command writes."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([BUILD / "bin" / "qkv", *arguments], stdin=subprocess.PIPE, stdout=writing,
                               stderr=subprocess.PIPE)
    os.close(writing)
    _, errors = process.communicate(stdin, timeout=120)
    return process.returncode, errors.decode()


def test_closed_pipe(model):
    closed = "qkv: standard output was closed before everything was written\n"
    assert run_with_closed_pipe(model, "look", ENGLISH, "--model", model) == (5, closed)
    assert run_with_closed_pipe(model, "look", ENGLISH, "--json", "--model", model) == (5, closed)
    assert run_with_closed_pipe(model, "translate", "--model", model, stdin=b"The cat.\n" * 1000) == (5, closed)
    assert run_with_closed_pipe(model, "isa") == (5, closed)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk(model):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BUILD / "bin" / "qkv", "look", ENGLISH, "--model", model], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"cannot write to standard output: No space left on device" in done.stderr
