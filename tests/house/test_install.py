"""What `cmake --install` leaves is complete: a stranger's program builds against it, and the command runs from anywhere."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from commands import ROOT, run

CONSUMER = ROOT / "tests/house/consumer"
ANSWER = "out 7.00000 lse 1.38629\n"
HAS_CLI = any((ROOT / "cli").glob("*.cc"))


def configured(build, name):
    """A value of the build tree's CMake cache."""
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split("=", 1)[1]
    return ""


def move(made, wanted):
    """Installed trees can be moved, so every test uses one that was."""
    shutil.move(made, wanted)
    return wanted


@pytest.fixture(scope="session")
def static_prefix(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    run("cmake", "--install", build, "--prefix", folder / "made")
    return move(folder / "made", folder / "moved here")


@pytest.fixture(scope="session")
def shared_prefix(build, tmp_path_factory):
    """The plain three commands, with a shared library. The flags are the release tree's, so ccache has the objects."""
    folder = tmp_path_factory.mktemp("shared")
    run("cmake", "-S", ROOT, "-B", folder / "build", "-G", "Ninja", "-DBUILD_SHARED_LIBS=ON",
        f"-DQKV_WERROR={configured(build, 'QKV_WERROR') or 'OFF'}")
    run("cmake", "--build", folder / "build")
    run("cmake", "--install", folder / "build", "--prefix", folder / "made")
    return move(folder / "made", folder / "moved")


@pytest.fixture(params=["static", "shared"])
def prefix(request):
    return request.getfixturevalue(f"{request.param}_prefix")


def test_a_consumer_finds_the_cmake_package(prefix, tmp_path):
    run("cmake", "-S", CONSUMER, "-B", tmp_path, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "consumer") == ANSWER


def test_a_consumer_finds_the_pkg_config_file(prefix, tmp_path):
    (tmp_path / "link").symlink_to(prefix)  # pkg-config splits words at the blank in the static prefix
    libraries = tmp_path / "link" / configured_libdir(prefix)
    flags = run("pkg-config", "--cflags", "--libs", "qkv",
                env={**os.environ, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")}).split()
    run("g++", "-std=c++20", CONSUMER / "main.cc", "-o", tmp_path / "consumer", *flags)
    assert run(tmp_path / "consumer", env={"LD_LIBRARY_PATH": str(libraries)}) == ANSWER


def test_a_consumer_in_c(prefix, tmp_path):
    (tmp_path / "link").symlink_to(prefix)
    libraries = tmp_path / "link" / configured_libdir(prefix)
    flags = run("pkg-config", "--cflags", "--libs", "qkv",
                env={**os.environ, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")}).split()
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", CONSUMER / "main.c", "-o", tmp_path / "consumer",
        *flags, "-lm")
    assert run(tmp_path / "consumer", env={"LD_LIBRARY_PATH": str(libraries)}) == ANSWER


def test_the_shared_library_exports_the_c_interface(shared_prefix):
    header = (shared_prefix / "include/qkv/c.h").read_text()
    declared = set(re.findall(r"^QKV_C_API .*?(qkv_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 10
    exported = run("nm", "-D", "--defined-only", next(shared_prefix.rglob("libqkv.so"))).split()
    assert declared <= set(exported), declared - set(exported)


def configured_libdir(prefix):
    return next(Path(prefix).rglob("qkv.pc")).parent.parent.relative_to(prefix)


def test_nothing_of_the_tree_is_missing(prefix):
    headers = {file.name for file in (ROOT / "include/qkv").glob("*.h")}
    assert {file.name for file in (prefix / "include/qkv").glob("*.h")} == headers
    assert list(prefix.rglob("libqkv.*")) and list(prefix.rglob("qkvConfig.cmake"))
    for config in (ROOT / "models").glob("*/config.json"):
        for file in config.parent.rglob("*"):
            assert (prefix / "share/qkv/models" / file.relative_to(ROOT / "models")).exists(), file


@pytest.mark.skipif(not HAS_CLI, reason="cli/ is empty")
def test_the_installed_command_runs_anywhere(prefix, tmp_path):
    version = run(prefix / "bin/qkv", "--version", cwd=tmp_path, env={})
    assert "0.1.0" in version


@pytest.mark.skipif(not HAS_CLI, reason="cli/ is empty")
def test_the_installed_command_looks_for_models_beside_itself(prefix, tmp_path):
    done = subprocess.run([prefix / "bin/qkv", "translate", "--model", "no-such-model", "word"], cwd=tmp_path, env={},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert str(prefix / "share/qkv/models/no-such-model") in done.stderr, done.stderr
