"""Every command and program in README.md, README.zh.md, bench/README.md and docs/ does what it says."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blocks import Block, blocks_of, same_output

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/sql"))
from postgres_server import Server  # noqa: E402

BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
FILES = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "bench/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for file in FILES if file.exists() for block in blocks_of(file, str(file.relative_to(ROOT)))]


def run(command, folder, environment=os.environ):
    """Runs a command with the built `qkv`, the Python of the tests and no standard input; returns what it printed."""
    path = os.pathsep.join([str(BUILD / "bin"), str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=600, env={**environment, "PATH": path})
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One working folder for each document, with the tree, the built examples and the SQLite extension linked into it, so that later blocks find
    earlier files."""
    made = {}

    def folder_of(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("docs")
            for entry in ROOT.iterdir():
                if entry.name not in (".git", ".venv", ".cache") and not entry.name.startswith("build"):
                    (made[name] / entry.name).symlink_to(entry)
            (made[name] / "build/release").mkdir(parents=True)
            (made[name] / "build/release/examples").symlink_to(BUILD / "examples")
            (made[name] / "build/release/sqlite").symlink_to(BUILD / "sqlite")
        return made[name]

    return folder_of


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """An installed tree, which cpp blocks are compiled against."""
    prefix = tmp_path_factory.mktemp("installed")
    run(["cmake", "--install", BUILD, "--prefix", prefix], ROOT)
    return prefix


@pytest.fixture(scope="session")
def postgres():
    """Where `psql` and `make -C sql/postgres install` find a server of the tests' own."""
    with Server() as server:
        yield {**os.environ, **server.environment}


def compiled(block, folder, prefix):
    source = folder / f"block{block.line}.cc"
    source.write_text(block.text)
    pkg_config = next(prefix.rglob("pkgconfig"))
    flags = run(["env", f"PKG_CONFIG_PATH={pkg_config}", "pkg-config", "--cflags", "--libs", "qkv"], folder).split()
    run(["g++", "-std=c++20", "-O1", source, "-o", source.with_suffix(""), *flags], folder)
    return source.with_suffix("")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block, folders, request):
    if block.not_run:
        pytest.skip(block.not_run)
    folder = folders(block.file)
    environment = request.getfixturevalue("postgres") if re.search(r"\bpsql\b|sql/postgres", block.text) else os.environ
    if block.language == "sh":
        run(["bash", "-euo", "pipefail", "-c", block.text], folder, environment)
    elif block.language == "python":
        run([sys.executable, "-c", block.text], folder)
    elif block.language == "cpp":
        if "int main(" not in block.text:
            pytest.skip("a fragment: no main")
        run([compiled(block, folder, request.getfixturevalue("installed"))], folder)
    else:
        commands = block.commands()
        assert commands, f"{block}: a console block needs a line that starts with '$ '"
        for command, expected in commands:
            printed = run(["bash", "-euo", "pipefail", "-c", command], folder, environment)
            if not block.output_varies:
                assert same_output(expected, printed.splitlines()), f"$ {command}\n{printed}"


def test_blocks_are_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "```sh\necho one\n```\n"
        "<!-- not run: needs a GPU -->\n\n```sh\nfalse\n```\n"
        "<!-- output varies -->\n```console\n$ date\nyesterday\n```\n"
        "text\n```text\nnot ours\n```\n````python\n'```'\n````\n")
    assert blocks_of(tmp_path / "a.md", "a.md") == [
        Block("a.md", 1, "sh", "echo one\n"),
        Block("a.md", 6, "sh", "false\n", not_run="needs a GPU"),
        Block("a.md", 10, "console", "$ date\nyesterday\n", output_varies=True),
        Block("a.md", 18, "python", "'```'\n"),
    ]


@pytest.mark.parametrize("text", ["<!-- not run: -->\n```sh\ntrue\n```\n", "```sh\ntrue\n"])
def test_a_broken_document_is_named(tmp_path, text):
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(AssertionError, match="a.md:"):
        blocks_of(tmp_path / "a.md", "a.md")


def test_console_blocks_are_read():
    block = Block("a.md", 1, "console", "$ echo one \\\n> two\none two\n$ true\n")
    assert block.commands() == [["echo one \\\ntwo", ["one two"]], ["true", []]]


@pytest.mark.parametrize("expected, printed, same", [
    (["a", "b"], ["a  ", "", " b"], True),
    (["a", "b"], ["a", "c"], False),
    (["a"], ["a", "b"], False),
    (["a", "…"], ["a", "b", "c"], True),
    (["…", "b"], ["a", "b"], True),
    (["took … ms"], ["took 12 ms"], True),
    ([], [], True),
    ([], ["a"], False),
])
def test_outputs_are_compared(expected, printed, same):
    assert same_output(expected, printed) is same
