"""An isa_*.cc exports no weak symbols.

The linker keeps one copy of an inline function. Were it the copy that isa_avx512.cc compiled, an older CPU would crash
in code that never asked for AVX-512. isa_scalar.cc is compiled for the CPU every program needs, so its copies are safe.
"""
import subprocess

import pytest

from commands import ROOT, run

WEAK = set("WVu")  # a weak function, a weak object, a symbol unique in the process
SOURCES = sorted(file for file in (ROOT / "src/kernels").glob("isa_*.cc") if not file.stem.startswith("isa_scalar"))


def weak_symbols(file):
    symbols = [line.split(maxsplit=2) for line in run("nm", "-C", "--defined-only", file).splitlines()]
    return [words[2] for words in symbols if len(words) == 3 and words[1] in WEAK]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_instruction_set_exports_no_weak_symbol(build, source):
    trees = [build, ROOT / "build" / "aarch64"]
    objects = [file for tree in trees if (file := tree / f"CMakeFiles/qkv.dir/src/kernels/{source.name}.o").exists()]
    if not objects:
        pytest.skip("for another kind of machine, and build/aarch64 is not built")
    for file in objects:
        assert weak_symbols(file) == [], file


def test_a_weak_symbol_is_found(tmp_path):
    source = tmp_path / "weak.cc"
    source.write_text("inline int twice(int x) { return 2 * x; }\nint (*keep)(int) = twice;\n")
    subprocess.run(["g++", "-c", source, "-o", tmp_path / "weak.o"], check=True)
    assert weak_symbols(tmp_path / "weak.o") == ["twice(int)"]
