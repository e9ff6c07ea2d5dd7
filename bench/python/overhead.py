#!/usr/bin/env python3
"""What a call of qkv from Python costs above the C++ call, in microseconds. usage: bench/python/overhead.py [--json]

The C++ call is timed through the C interface (build/release/tests/libqkv_c.so), in a loop without Python objects where there is a
compiler, else by ctypes; here: the smallest problem on one thread, so that almost all of the time is the way there.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path

import numpy as np
import torch

import qkv

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = r"""
#include <chrono>
#include <cstdio>
#include "qkv/qkv.h"
int main() {
  float q[8] = {1}, k[8] = {1}, v[8] = {1}, out[8], lse[1];
  qkv::AttentionOptions options;
  options.threads = 1;
  double best = 1e9;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 20000; ++i) qkv::attention({q, {1, 1, 1, 8}}, {k, {1, 1, 1, 8}}, {v, {1, 1, 1, 8}}, options, {{out, {1, 1, 1, 8}}, {}, nullptr});
    const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / 20000;
    best = time < best ? time : best;
  }
  std::printf("%g\n", best);
}
"""


def microseconds(call, number=10000, repeat=15):
    return min(timeit.repeat(call, number=number, repeat=repeat)) / number * 1e6


def cpp():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "call.cc"
        source.write_text(PROGRAM)
        subprocess.run(["g++", "-O2", "-std=c++20", f"-I{ROOT}/include", source, ROOT / "build/python/libqkv.a", "-pthread",
                        "-o", source.with_suffix("")], check=True)
        return float(subprocess.run([source.with_suffix("")], check=True, capture_output=True, text=True).stdout) * 1e6


def main():
    parser = argparse.ArgumentParser(description="Overhead of a call from Python.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    q, k, v = (np.ones((1, 1, 1, 8), np.float32) for _ in range(3))
    out = np.empty_like(q)
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    trained = [x.clone().requires_grad_() for x in tensors]
    base = cpp()
    calls = {
        "NumPy": lambda: qkv.attention(q, k, v, threads=1),
        "NumPy, out given": lambda: qkv.attention(q, k, v, threads=1, out=out),
        "NumPy, with lse": lambda: qkv.attention(q, k, v, threads=1, return_lse=True),
        "PyTorch": lambda: qkv.attention(*tensors, threads=1),
        "PyTorch, with lse": lambda: qkv.attention(*tensors, threads=1, return_lse=True),
        "PyTorch, for a backward pass": lambda: qkv.attention(*trained, threads=1),
    }
    above = {name: microseconds(call) - base for name, call in calls.items()}
    if arguments.json:
        print(json.dumps({"cpp": base, "above": above}))
        return
    print(f"the C++ call {base:.2f} µs; above it:")
    for name, time in above.items():
        print(f"  {name:30} {time:6.2f} µs")


if __name__ == "__main__":
    sys.exit(main())
