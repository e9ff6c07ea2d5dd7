#!/usr/bin/env python3
"""Looking at a long text: qkv.watch beside eager attention with output_attentions, in time and memory.

usage: bench/python/long.py [--tokens N]... [--json FILE]

The Llama-shaped model of models.py (4 layers, 8 query heads over 2, fp32). Each run is a process of its own, which may use the memory
that the machine has free when it starts and no more; the memory told is the process's peak.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("qkv", "watched", "eager, output_attentions")


def free_bytes():
    """MemAvailable of /proc/meminfo."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def run(way, tokens):
    """Seconds and GiB of one forward pass, as JSON on the standard output."""
    import torch
    from models import LLAMA
    from transformers import LlamaConfig, LlamaModel

    import qkv
    import qkv.huggingface  # noqa: F401

    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**LLAMA)).eval()
    model.set_attn_implementation("eager" if way.startswith("eager") else "qkv")
    ids = torch.randint(5, 1000, (1, tokens))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_DATA, (free_bytes(), resource.RLIM_INFINITY))
    begin = time.perf_counter()
    with torch.no_grad():
        if way == "watched":
            with qkv.watch(model) as seen:
                model(ids, use_cache=False)
            seen.layers[-1].heads[-1].top(tokens - 1)
        else:
            model(ids, use_cache=False, output_attentions=way != "qkv")
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": took, "GiB": peak / 2**20}))


def measured(way, tokens):
    done = subprocess.run([sys.executable, __file__, "--one", way, "--tokens", str(tokens)], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "can't allocate memory" in done.stderr or "MemoryError" in done.stderr:
        return None
    raise RuntimeError(f"{way} at {tokens} tokens ended with {done.returncode}:\n{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, action="append", help="default: 2048, 4096, 8192 and 16384")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run(arguments.one, arguments.tokens[0])
    print("| tokens | " + " | ".join(WAYS) + " |\n" + "|---" * (len(WAYS) + 1) + "|")
    results = []
    for tokens in arguments.tokens or (2048, 4096, 8192, 16384):
        found = {way: measured(way, tokens) for way in WAYS}
        results.append({"tokens": tokens, **found})
        cells = ("out of memory" if f is None else f"{f['seconds']:.1f} s, {f['GiB']:.2f} GiB" for f in found.values())
        print(f"| {tokens} | " + " | ".join(cells) + " |", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
