"""The house keeps its rooms apart, and the check that says so can fail."""
from pathlib import Path

import pytest

from layering import BELOW, ROOMS, House

ROOT = Path(__file__).resolve().parents[2]


def test_the_house_keeps_its_rules():
    breaches = [f"{name}:{line}: {reason}" for name, line, reason in House(ROOT).breaches()]
    assert not breaches, "\n" + "\n".join(breaches)


def test_a_room_stands_on_lower_rooms_only():
    for room, below in BELOW.items():
        assert all(ROOMS.index(other) < ROOMS.index(room) for other in below), room


GOOD = {
    "include/qkv/tensor.h": "#include <cstdint>\n",
    "include/qkv/attention.h": '#include "qkv/tensor.h"\n',
    "include/qkv/translate.h": '#include "qkv/tensor.h"\n',
    "include/qkv/qkv.h": '#include "qkv/attention.h"\n#include "qkv/translate.h"\n',
    "src/kernels/kernels.h": "#include <cstdint>\n",
    "src/kernels/vec_avx2.h": "#include <immintrin.h>\n",
    "src/kernels/isa_avx2.cc": '#include "kernels/vec_avx2.h"\n#include "kernels/kernels.h"\n',
    "src/attention/attention.cc": '#include "kernels/kernels.h"\n#include "qkv/attention.h"\n',
    "src/layers/linear.h": '#include "kernels/kernels.h"\n',
    "src/models/translate.cc": '#include "layers/linear.h"\n#include "qkv/translate.h"\n#include <nlohmann/json.hpp>\n',
    "src/memory/state.h": '#include "qkv/attention.h"\n',
    "src/lens/report.h": '#include "qkv/translate.h"\n',
    "cli/main.cc": '#include "lens/report.h"\n#include "qkv/qkv.h"\n#include "options.h"\n',
    "cli/bench.cc": '#include "bench/line.h"\n',
    "bench/line.h": "#include <string>\n",
    "cli/options.h": "#include <CLI/CLI.hpp>\n",
    "bench/speed.cc": '#include "kernels/kernels.h"\n',
    "examples/first.cc": '#include "qkv/qkv.h"\n',
}

BAD = [
    ("src/kernels/kernels.h", '#include "attention/plan.h"\n', "is no file of ours"),
    ("src/kernels/kernels.h", '#include "layers/linear.h"\n', "kernels stands below layers"),
    ("src/kernels/tile.h", '#include "qkv/attention.h"\n', "kernels stands below attention"),
    ("src/kernels/tile.h", "#include <immintrin.h>\n", "intrinsics belong"),
    ("src/kernels/tile.h", "#include <thread>\n", "kernels knows nothing of this"),
    ("src/kernels/isa_avx2.cc", '#include "kernels/kernels.h"\n#include <vector>\n', "vectors and kernels only"),
    ("src/kernels/isa_avx2.cc", '#include "qkv/tensor.h"\n', "vectors and kernels only"),
    ("src/attention/plan.h", '#include "../layers/linear.h"\n', "attention stands below layers"),
    ("src/attention/plan.h", '#include "src/layers/linear.h"\n', "attention stands below layers"),
    ("src/attention/plan.h", '#include "qkv/qkv.h"\n', "attention stands below models"),
    ("src/layers/linear.h", '#include "qkv/translate.h"\n', "layers stands below models"),
    ("src/layers/linear.h", "#include <fstream>\n", "layers knows nothing of this"),
    ("src/models/translate.cc", '#  include "lens/report.h"\n', "models stands below lens"),
    ("src/models/translate.cc", '#include "cli/options.h"\n', "models stands below cli"),
    ("src/memory/state.h", '#include "layers/linear.h"\n', "memory knows nothing of layers"),
    ("src/attic/old.h", "#include <cstdint>\n", "no room is called attic"),
    ("include/qkv/tensor.h", '#include "kernels/kernels.h"\n', "public headers only"),
    ("examples/first.cc", '#include "kernels/kernels.h"\n', "public headers only"),
    ("sql/door.cc", '#include "cli/options.h"\n', "know nothing of each other"),
    ("bench/speed.cc", '#include "cli/options.h"\n', "bench knows nothing of cli"),
    ("src/lens/report.h", "// one\n" * 601, "601 lines"),
]


def build(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [f"{name}:{line}: {reason}" for name, line, reason in House(root).breaches()]


def test_a_good_house_has_no_breach(tmp_path):
    assert build(tmp_path, GOOD) == []


@pytest.mark.parametrize("name, text, reason", BAD, ids=lambda value: value[:40] if isinstance(value, str) else None)
def test_a_breach_is_found(tmp_path, name, text, reason):
    breaches = build(tmp_path, {**GOOD, name: text})
    assert any(breach.startswith(name) and reason in breach for breach in breaches), breaches
