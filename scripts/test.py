#!/usr/bin/env python3
"""Every check of the project, stage by stage; `make test` calls it.

usage: scripts/test.py [--list] [-v] [stage ...]     no stage: all of them

Each stage writes build/test-logs/<stage>.log; a failed one shows its end. The last line is
"N passed, N failed, N skipped": test cases, and one for each stage that is a single check.
"""
import argparse
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
JOBS = str(os.cpu_count() or 2)
LOWER_ROOMS = r"^(kernels|attention)\."  # test names start with their folder
# Test processes run side by side; PyTorch's OpenMP threads must not spin while they wait.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "CTEST_OUTPUT_ON_FAILURE": "1", "PYTHONDONTWRITEBYTECODE": "1",
               "QKV_BUILD": str(ROOT / "build" / "release"),
               "QKV_MARIAN_PROBE": str(ROOT / "build" / "release" / "tests" / "marian_probe")}
# Tests that valgrind has time for, some fifty times slower than without it.
MEMCHECK = ["Contract*", "CApi.*", "Overlap.*", "Merge.*", "Trace.*", "Backward*.*",
            "Differential.*-*Slow*", "Trace.EveryFieldAgainstTheReferenceAtEveryBlockSize"]
COLOUR = r"\x1b\[[0-9;]*m"
NOISE = r"^clang-tidy-?\d* |warnings? generated\.$"  # of clang-tidy, around what it found


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0


class Failed(Exception):
    """A stage's single check failed; its log says how."""


class Skipped(Exception):
    """A stage cannot run here; the text says why."""


class Stage:
    """What a stage's function gets: its log, and the ways to run things."""

    verbose = False

    def __init__(self, name):
        self.name = name
        self.log = LOGS / f"{name}.log"
        self.log.write_text("")

    def run(self, *command, minutes=20, check=True, **environment):
        """Runs a command with its output in the log; no standard input."""
        with open(self.log, "a") as log:
            log.write("$ " + " ".join(map(str, command)) + "\n")
            log.flush()
            out = None if self.verbose else log
            try:
                status = subprocess.run(
                    list(map(str, command)), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    env={**os.environ, **ENVIRONMENT, **environment}, timeout=minutes * 60).returncode
            except subprocess.TimeoutExpired:
                log.write(f"stopped: still running after {minutes} minutes\n")
                status = 124
            if status != 0:
                log.write(f"{command[0]} ended with {status}\n")
        if check and status != 0:
            raise Failed(f"{command[0]} ended with {status}")
        return status

    def build(self, preset, *options, target="all"):
        self.run("cmake", "--preset", preset, *options)
        targets = [target] if isinstance(target, str) else target
        self.run("cmake", "--build", f"build/{preset}", "-j", JOBS, "--target", *targets)

    def junit(self, *command, **environment):
        """Runs a test program that writes JUnit XML to the path given as its last argument, and counts its cases."""
        results = LOGS / f"{self.name}.xml"
        results.unlink(missing_ok=True)
        status = self.run(*command, results, check=False, **environment)
        count = Count()
        if results.exists():
            for case in ElementTree.parse(results).getroot().iter("testcase"):
                if case.find("failure") is not None or case.find("error") is not None:
                    count.failed += 1
                elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
                    count.skipped += 1
                else:
                    count.passed += 1
        if status != 0 and count.failed == 0:
            count.failed = 1  # it crashed, or found no test
        return count

    def ctest(self, preset, *options, before=(), **environment):
        return self.junit(*before, "ctest", "--preset", preset, "-j", JOBS, *options, "--output-junit", **environment)

    def pytest(self, *paths):
        """The tests in these places, file by file on every core."""
        self.run("scripts/venv")
        self.run("scripts/package")
        return self.junit(".venv/bin/python", "-m", "pytest", "-q", "-rs", "--durations=10", "-n", JOBS, "--dist", "loadfile", *paths, "--junit-xml")


def sources(*patterns):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
                            cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return sorted(path for path in set(listed) if (ROOT / path).exists())


# ---- the stages, in order; a name is its function's, a sentence its docstring

def shell(stage):
    """shellcheck over every shell script"""
    scripts = [path for path in sources("scripts", ".ci", "training", "bench")
               if (ROOT / path).read_bytes()[:64].startswith((b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh"))]
    stage.run("shellcheck", *scripts)


def format(stage):
    """clang-format over every C and C++ source"""
    stage.run("clang-format", "--dry-run", "-Werror", *sources("*.h", "*.cc", "*.c"))


def release(stage):
    """release build with gcc, warnings as errors: library, command, tests, benches, examples"""
    stage.build("release", "-DQKV_TESTS=ON", "-DQKV_BENCH=ON", "-DQKV_EXAMPLES=ON", "-DQKV_WERROR=ON")


def gtest(stage):
    """every C++ test, in release"""
    return stage.ctest("release")


def isa_scalar(stage):
    """tests of kernels and attention under QKV_ISA=scalar"""
    return stage.ctest("release", "-R", LOWER_ROOMS, "-L", "fast", QKV_ISA="scalar")


def cpu_has(flag):
    """Whether /proc/cpuinfo lists it, on x86-64."""
    return platform.machine() == "x86_64" and f" {flag} " in Path("/proc/cpuinfo").read_text()


def isa_avx2(stage):
    """tests of kernels and attention under QKV_ISA=avx2"""
    if not cpu_has("avx2"):
        raise Skipped("this CPU has no AVX2")
    return stage.ctest("release", "-R", LOWER_ROOMS, "-L", "fast", QKV_ISA="avx2")


def isa_avx512(stage):
    """tests of attention under QKV_ISA=avx512, on a CPU whose own choice is avx512_bf16"""
    if not cpu_has("avx512_bf16"):
        raise Skipped("this CPU has no AVX512_BF16")
    return stage.ctest("release", "-R", r"^attention\.", "-L", "fast", QKV_ISA="avx512")


def house(stage):
    """layering, symbols, install and a consumer program (tests/house)"""
    return stage.pytest("tests/house")


def docs(stage):
    """the commands and programs in README and docs/ (tests/docs)"""
    return stage.pytest("tests/docs")


def page(stage):
    """types, style and layout of the page's modules; the page in Chromium (tests/page)"""
    stage.run("scripts/page-tools")
    tools, files = "tests/page/node_modules", sources("page/*.js", "tests/page/*.js", "bench/page/*.js")
    stage.run("node", f"{tools}/typescript/bin/tsc", "-p", "tests/page")
    stage.run("node", f"{tools}/eslint/bin/eslint.js", "--config", "tests/page/eslint.config.js", *files)
    stage.run("node", f"{tools}/prettier/bin/prettier.cjs", "--check", "--print-width=100", *files)
    stage.run("scripts/venv")
    stage.run("scripts/package")  # pages of seen.save
    return stage.junit("node", "tests/page/run.js")


def python(stage):
    """every other pytest suite"""
    return stage.pytest(*(folder for folder in ("tests", "training") if (ROOT / folder).is_dir()),
                        "--ignore=tests/house", "--ignore=tests/docs")


def clang(stage):
    """build with clang, warnings as errors, not optimised: tsan and asan run what clang makes"""
    stage.build("clang", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")


def tidy(stage):
    """clang-tidy over src/ and python/core/"""
    if not (ROOT / "build/clang/compile_commands.json").exists():
        stage.run("cmake", "--preset", "clang")
    stage.run("run-clang-tidy", "-quiet", "-p", "build/clang", "-j", JOBS, f"^{ROOT}/src/")
    stage.run("scripts/venv")
    stage.run("scripts/package")
    stage.run("run-clang-tidy", "-quiet", "-p", "build/python", "-j", JOBS, f"^{ROOT}/python/core/")


def asan(stage):
    """fast C++ tests under the address and undefined-behaviour sanitizers"""
    stage.build("asan", target="qkv_tests")
    return stage.ctest("asan")


def tsan(stage):
    """fast C++ tests under the thread sanitizer"""
    stage.build("tsan", target="qkv_tests")
    # clang 14's sanitizer gives up where the kernel scatters addresses over more than 28 bits.
    still = ["setarch", platform.machine(), "-R"]
    allowed = subprocess.run([*still, "true"], capture_output=True).returncode == 0
    return stage.ctest("tsan", before=still if allowed else [])


def fuzz(stage):
    """every fuzz target for 15 s: calls of attention, files of models, tokenizers, titles and pictures, indexes, rows and states of SQL"""
    targets = sorted(file.stem for file in (ROOT / "fuzz").glob("*_fuzz.cc"))
    stage.build("asan", target=targets)  # which the preset `fuzz` is, by another name
    for target in targets:
        stage.run(f"build/asan/fuzz/{target}", "-seed=1", "-max_total_time=15", "-max_len=1024", "-len_control=0", "-timeout=10",
                  "-rss_limit_mb=4096", "-print_final_stats=1", f"-artifact_prefix={LOGS}/{target}-", start_of(target))
    return Count(passed=len(targets))


def start_of(target):
    """A folder the fuzzer starts from and adds to: a copy of the committed corpus, or else some bytes."""
    name = target.removesuffix("_fuzz")
    copy = ROOT / "build" / "fuzz-corpus" / name
    shutil.rmtree(copy, ignore_errors=True)
    if (ROOT / "fuzz/corpus" / name).is_dir():
        return shutil.copytree(ROOT / "fuzz/corpus" / name, copy)
    copy.mkdir(parents=True)
    for seed in range(32):
        (copy / f"random-{seed}").write_bytes(random.Random(seed).randbytes(1024))
    return copy


def memcheck(stage):
    """some tests of attention under valgrind's memcheck, scalar"""
    stage.run("valgrind", "--error-exitcode=9", "--quiet", "--leak-check=full", "--show-leak-kinds=definite",
              "--errors-for-leak-kinds=definite",
              "build/release/tests/test_attention", "--gtest_filter=" + ":".join(MEMCHECK), minutes=5, QKV_ISA="scalar",
              OMP_NUM_THREADS="2", QKV_TEST_SCALE="0.02")


def aarch64(stage):
    """cross build for 64-bit ARM; fast tests of kernels and attention under qemu (but those that start themselves again)"""
    if platform.machine() == "aarch64":
        raise Skipped("this machine is one")
    stage.build("aarch64", target="qkv_tests")
    return stage.ctest("aarch64")


STAGES = [shell, format, release, gtest, isa_scalar, isa_avx2, isa_avx512, page, python, clang, tidy, asan, tsan, fuzz, memcheck,
          aarch64, house, docs]
NEED_RELEASE = [gtest, isa_scalar, isa_avx2, isa_avx512, page, python, memcheck, house, docs]


def main():
    parser = argparse.ArgumentParser(description="Every check of qkv.")
    parser.add_argument("stages", nargs="*", metavar="stage", help="run only these")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("-v", "--verbose", action="store_true", help="show output instead of logging it")
    arguments = parser.parse_args()
    known = {function.__name__: function for function in STAGES}
    if arguments.list:
        for name, function in known.items():
            print(f"{name:12} {function.__doc__}")
        return 0
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        parser.error(f"no stage {unknown[0]}; there are {' '.join(known)}")

    LOGS.mkdir(parents=True, exist_ok=True)
    Stage.verbose = arguments.verbose
    total, lines, failed = Count(), [], set()
    for name in arguments.stages or known:
        print(f"{name:12} {known[name].__doc__} ...", flush=True)
        stage, note, start = Stage(name), "", time.monotonic()
        try:
            if "release" in failed and known[name] in NEED_RELEASE:
                raise Skipped("the release build failed")
            count = known[name](stage) or Count(passed=1)
        except Failed as reason:
            count, note = Count(failed=1), str(reason)
        except Skipped as reason:
            count, note = Count(skipped=1), str(reason)
        if count.failed:
            failed.add(name)
            lines_of_log = re.sub(COLOUR, "", stage.log.read_text(errors="replace")).splitlines()
            tail = [line for line in lines_of_log if not re.search(NOISE, line)][-80:]
            print("\n".join(f"  | {line}" for line in tail), flush=True)
            note = f"{note} (build/test-logs/{name}.log)".strip()
        verdict = "FAILED" if count.failed else "passed" if count.passed else "skipped"
        counts = ", ".join(f"{number} {what}" for what, number in vars(count).items() if number)
        lines.append(f"{name:12} {time.monotonic() - start:6.0f} s  {verdict:8} {counts or 'nothing'}  {note}".rstrip())
        print(lines[-1], flush=True)
        total.passed += count.passed
        total.failed += count.failed
        total.skipped += count.skipped

    closing = f"{total.passed} passed, {total.failed} failed" + (f", {total.skipped} skipped" if total.skipped else "")
    summary = "\n".join(["", *lines, "", closing])
    (LOGS / "summary.txt").write_text(summary + "\n")
    print(summary)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
