"""Linear layers at the bundled model's shapes: qkv's (bench_layers) beside PyTorch's torch.nn.functional.linear, GFLOP/s.

    python bench/linear_peers.py build/release/bench/bench_layers [--threads N]
"""

import argparse
import json
import os
import subprocess
import time


def qkv(program, threads):
    """{(rows, in, out, half): GFLOP/s}"""
    command = [program, f"--benchmark_filter=threads:{threads}/", "--benchmark_format=json", "--benchmark_min_time=0.05"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {}
    for line in report["benchmarks"]:
        sizes = dict(part.split(":") for part in line["name"].split("/") if ":" in part)
        found[tuple(int(sizes[key]) for key in ("rows", "in", "out", "half"))] = line["GFLOP/s"] * 1e-0
    return found


def pytorch(rows, inputs, outputs, seconds=0.05):
    import torch

    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    calls, spent = 1, 0.0
    with torch.inference_mode():
        torch.nn.functional.linear(x, weight)
        while spent < seconds:
            calls *= 2
            start = time.perf_counter()
            for _ in range(calls):
                torch.nn.functional.linear(x, weight)
            spent = time.perf_counter() - start
    return 2e-9 * rows * inputs * outputs * calls / spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    ours = qkv(args.program, args.threads)
    print(f"{args.threads} threads, GFLOP/s; weights of a checkpoint in fp32 and in fp16")
    print(f"{'rows':>5} {'in':>5} {'out':>5} {'qkv fp32':>9} {'qkv fp16':>9} {'PyTorch':>9} {'fp32':>6} {'fp16':>6}")
    for rows, inputs, outputs, half in sorted(ours):
        if half:
            continue
        theirs = pytorch(rows, inputs, outputs)
        a, b = ours[rows, inputs, outputs, 0], ours[rows, inputs, outputs, 1]
        print(f"{rows:>5} {inputs:>5} {outputs:>5} {a:>9.1f} {b:>9.1f} {theirs:>9.1f} {a / theirs:>5.2f}x {b / theirs:>5.2f}x")


if __name__ == "__main__":
    main()
