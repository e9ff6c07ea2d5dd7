"""The wheel that `make wheel` makes, in an environment that has nothing else."""
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel():
    made = subprocess.run([ROOT / "scripts/package", "wheel"], capture_output=True, text=True, check=True).stdout.split()
    return ROOT / made[-1]


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a new environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", wheel], check=True, stdin=subprocess.DEVNULL)
    return folder / "bin/python"


def run(python, program, **environment):
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, cwd=python.parent,
                          env={"PATH": os.environ["PATH"], **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_it_holds(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"qkv/__init__.py", "qkv/py.typed", "qkv/_core.pyi", "qkv/pytorch.py"} <= set(names)
    assert sum(name.endswith(".so") for name in names) == 1
    assert all(name.startswith("qkv") for name in names), names  # no header, no library, no CMake package


@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf")
def test_it_needs_the_c_library_only(wheel, tmp_path):
    archive = zipfile.ZipFile(wheel)
    core = archive.extract(next(name for name in archive.namelist() if name.endswith(".so")), tmp_path)
    dynamic = subprocess.run(["readelf", "-d", core], capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}, needed


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the C library that it asks for is another on this machine")
def test_it_says_which_linux_it_runs_on(wheel):
    """manylinux_2_34 is Debian 12, Ubuntu 22.04, Red Hat 9 and later: nothing newer must slip in."""
    glibc = re.search(r"manylinux_2_(\d+)_x86_64", wheel.name)
    assert glibc and int(glibc[1]) <= 34, wheel.name


def test_it_computes(python):
    program = ("import numpy as np, qkv; q = np.ones((1, 2, 5, 8), np.float32); v = np.arange(10, dtype=np.float32)"
               ".reshape(1, 2, 5, 1); print(qkv.attention(q, q, v)[:, :, 0, 0].tolist(), qkv.isa())")
    for isa in ("scalar", "avx2") if os.uname().machine == "x86_64" else ("scalar",):
        assert run(python, program, QKV_ISA=isa) == f"[[2.0, 7.0]] {isa}"


def test_what_needs_pytorch_says_so(python):
    assert "No module named 'torch'" in run(python, "import qkv\ntry: qkv.scaled_dot_product_attention\nexcept ImportError as e: print(e)")
