"""Time and memory of one call as the tokens grow, for qkv and its peers: docs/growth.svg and results/growth.json.

    python bench/growth.py --qkv build/release/bin/qkv [--ggml FOLDER] [--heads 1] [--to 131072]

The interpreter needs the peers (peers.py names what is missing). As many queries as keys, fp32, not causal. Every point is a
process of its own: the time is the median of its runs, the memory how far its resident set grows at its highest during the
first call, beside the tensors and the output. A peer gets a call of 16 tokens before, so that loading its code does not
count. An engine stops where its next call would take longer than --limit seconds or half of the free memory. The JSON is
written after each engine; --only NAME measures those engines again, or for the first time, and keeps what it has of the others.
"""

import argparse
import html
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRST = 128


class Eager:
    """PyTorch as textbooks write it: softmax(QKᵀ) in memory, then times V."""

    name = "PyTorch, weights in memory"

    def __init__(self, torch_peer):
        self.peer = torch_peer

    def missing(self):
        return self.peer.missing()

    def version(self):
        return self.peer.version()

    def prepare(self, line, threads):
        import torch

        torch.set_num_threads(threads)
        q, k, v = (torch.from_numpy(line.raw(n)) for n in ("query", "key", "value"))

        def run():
            with torch.inference_mode():
                return self.peer.weights(q, k, line.causal) @ v

        return run, None


def load_peers(ggml):
    spec = importlib.util.spec_from_file_location("peers", HERE / "peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    peers = [*module.PEERS[:-1], module.Ggml(ggml)]
    return module, {p.name: p for p in [*peers, Eager(peers[0])]}


# ---- one point of a peer, in a process of its own


def resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field + ":"))


def random_line(module, heads, tokens, dim):
    import numpy

    shape = [1, heads, heads, tokens, tokens, dim, dim]
    line = module.Line({"shape": shape, "causal": False, "type": "fp32", "kind": "prefill", "folder": ""})
    random = numpy.random.default_rng(tokens)
    for name in ("query", "key", "value"):
        line.read[name] = module.aligned(line.shapes[name], numpy.float32)
        line.read[name][...] = random.random(line.shapes[name], numpy.float32) * 2 - 1
    return line


def peer_point(options):
    module, peers = load_peers(options.ggml)
    peer = peers[options.point]
    peer.prepare(random_line(module, options.heads, 16, options.dim), options.threads)[0]()
    run = peer.prepare(random_line(module, options.heads, options.to, options.dim), options.threads)[0]
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the highest resident set is the present one (proc(5))
    before = resident("VmRSS")
    first = module.time_runs(run, 0, 1)
    # Whoever's memory it is, the output becomes resident in this call; qkv's is before.
    memory = max(resident("VmHWM") - before - 4 * options.heads * options.to * options.dim, 0)
    times = first if first[0] > 2 else module.time_runs(run, 1, 3)
    print(json.dumps({"seconds": statistics.median(times), "extra_memory_bytes": memory}))


def ask_peer(name, tokens, options):
    command = [sys.executable, __file__, "--point", name, "--to", str(tokens), "--heads", str(options.heads)]
    command += ["--dim", str(options.dim), "--threads", str(options.threads), "--ggml", options.ggml]
    try:  # inputs, a warm call and up to three more
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 6 * options.limit)
    except subprocess.TimeoutExpired as slow:
        raise RuntimeError(f"{tokens} tokens took longer than {slow.timeout:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"ends with {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


# ---- one point of qkv


def ask_qkv(tokens, options, expected, facts):
    line = f"1,{options.heads},{options.heads},{tokens},{tokens},{options.dim} prefill"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "point.json"
        command = [options.qkv, "bench", "--shapes", line, "--threads", str(options.threads), "--json", file]
        subprocess.run([*command, "--rounds", "1" if expected > 1 else "5"], check=True, capture_output=True)
        report = json.loads(file.read_text())
    facts.update({"qkv": report["qkv"], "isa": report["isa"], "machine": report["machine"]})
    result = report["results"][0]
    return {"seconds": result["qkv"]["median_s"], "extra_memory_bytes": result.get("extra_memory_bytes")}


# ---- the series


def free_memory():
    with open("/proc/meminfo") as info:
        return next(1024 * int(line.split()[1]) for line in info if line.startswith("MemAvailable"))


def series(name, ask, options):
    """Points until the last, or until the next would be too much: time and at worst memory grow fourfold."""
    points, stopped, tokens = [], None, FIRST
    while tokens <= options.to and stopped is None:
        expected = 4 * points[-1]["seconds"] if points else 0
        memory = 4 * (points[-1]["extra_memory_bytes"] or 0) if points else 0
        if expected > options.limit:
            stopped = f"{tokens} tokens would take about {expected:.0f} s"
        elif memory > free_memory() / 2:
            stopped = f"{tokens} tokens could need {memory / 1e9:.0f} GB"
        else:
            try:
                points.append({"tokens": tokens, **ask(tokens, expected)})
                print(f"{name}: {points[-1]}", file=sys.stderr)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                stopped = str(error)[:200]
        tokens *= 2
    return {"name": name, "points": points, **({"stopped": stopped} if stopped else {})}


def measure(options):
    """Each engine in turn. What the file has of engines that are not asked for stays."""
    facts = {"schema": 1, "shape": [1, options.heads, options.heads, "tokens", "tokens", options.dim]}
    facts.update({"type": "fp32", "threads": options.threads})
    kept = json.loads(options.json.read_text()) if options.only else {"series": []}
    for name in facts:
        if options.only and kept[name] != facts[name]:
            raise SystemExit(f"growth.py: {options.json} has {name} {kept[name]}, not {facts[name]}; measure all of it")
    peers = load_peers(options.ggml)[1]
    names = ["qkv", *peers]
    for name in options.only or names:
        if name not in names:
            raise SystemExit(f"growth.py: --only knows {', '.join(names)}; not {name}")
        if name == "qkv":
            now = series(name, lambda tokens, expected: ask_qkv(tokens, options, expected, facts), options)
        elif peers[name].missing():
            print(f"{name} is not measured: {peers[name].missing()}", file=sys.stderr)
            continue
        else:
            now = series(name, lambda tokens, _, name=name: ask_peer(name, tokens, options), options)
            now["version"] = peers[name].version()
        measured = {s["name"]: s for s in [*kept["series"], now]}
        kept = {**kept, **facts, "series": [measured[n] for n in names if n in measured]}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


# ---- the picture

WIDTH, HEIGHT, BOTTOM = 460, 340, 56  # of a panel, its title and its labels included
LIGHT = ["#c2410c", "#2563eb", "#0f766e", "#7c3aed", "#57534e", "#94a3b8"]
DARK = ["#fb923c", "#60a5fa", "#2dd4bf", "#c4b5fd", "#d6d3d1", "#64748b"]


def short(number, units, step=1000):
    for unit in units[:-1]:
        if number < step:
            return f"{number:g} {unit}"
        number /= step
    return f"{number:g} {units[-1]}"


def seconds_text(seconds):
    return short(round(seconds * 1e6, 6), ["µs", "ms", "s"]) if seconds < 1 else f"{seconds:g} s"


def tokens_text(tokens):
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def powers(numbers):
    """Marks of a logarithmic axis, and where a number lies between the first and the last."""
    first, last = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    last = max(last, first + 1)
    return [10.0**power for power in range(first, last + 1)], lambda x: (math.log10(x) - first) / (last - first)


def steps(numbers):
    """The same for an axis that begins with 0: up to six steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(numbers) / 6))
    step = next(power * n for n in (1, 2, 5, 10) if max(numbers) <= 6 * power * n)
    count = math.ceil(max(numbers) / step)
    return [step * i for i in range(count + 1)], lambda x: x / (step * count)


def panel(left, top, width, title, values, label, axis=powers):
    """One plot over the logarithm of the tokens: `values` are lists of (tokens, value), one for each series."""
    points = [p for line in values for p in line]
    x0, x1 = math.log2(min(p[0] for p in points)), math.log2(max(p[0] for p in points))
    x1 = max(x1, x0 + 1)
    inner, base = width - 84, top + HEIGHT - BOTTOM
    marks, height = axis([p[1] for p in points])

    def place(tokens, value):
        x = left + 64 + (math.log2(tokens) - x0) / (x1 - x0) * inner
        return f"{x:.1f}", f"{base - height(value) * (HEIGHT - BOTTOM - 24):.1f}"

    out = [f'<text class="title" x="{left + 64}" y="{top + 12}">{title}</text>']
    for mark in marks:
        _, y = place(2**x0, mark)
        out.append(f'<path class="grid" d="M{left + 64} {y}h{inner}"/>')
        out.append(f'<text x="{left + 58}" y="{y}" dy="4" text-anchor="end">{label(mark)}</text>')
    for power in range(int(x0), int(x1) + 1, 2 if x1 - x0 > 5 and width == WIDTH else 1):
        x, _ = place(2**power, marks[0])
        out.append(f'<text x="{x}" y="{base + 18}" text-anchor="middle">{tokens_text(2**power)}</text>')
    out.append(f'<text x="{left + 64 + inner / 2}" y="{base + 36}" text-anchor="middle">tokens</text>')
    for i, line in reversed(list(enumerate(values))):  # qkv, the first, on top
        places = [place(*p) for p in line]
        if places:
            out.append(f'<path class="line s{i}" d="M{"L".join(" ".join(p) for p in places)}"/>')
        out += [f'<circle class="dot s{i}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in places]
    return out


def draw(report):
    lines = report["series"][: len(LIGHT)]
    head, dim = report["shape"][1], report["shape"][5]
    times = [[(p["tokens"], p["seconds"]) for p in s["points"]] for s in lines]
    speeds = [[(n, 4e-9 * head * dim * n * n / seconds) for n, seconds in line] for line in times]
    # A page is the least that a resident set grows by.
    memory = [[(p["tokens"], max(p["extra_memory_bytes"], 4096)) for p in s["points"] if p["extra_memory_bytes"] is not None]
              for s in lines]  # fmt: skip
    what = f"{head} head{'s' if head > 1 else ''} of {dim}, fp32, {report['threads']} threads"
    stops = [f"{s['name']}: {s['stopped']}" for s in lines if "stopped" in s]
    rules = "".join(f".line.s{i}{{stroke:{c}}}.dot.s{i}{{fill:{c}}}" for i, c in enumerate(LIGHT))
    dark = "".join(f".line.s{i}{{stroke:{c}}}.dot.s{i}{{fill:{c}}}" for i, c in enumerate(DARK))
    top = 52
    bottom = top + 2 * HEIGHT + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {bottom + 18 * len(stops) + 4}" role="img" '
        f'aria-label="Time, extra memory and speed of exact attention over the number of tokens, {what}">',
        "<style>text{font:12px system-ui,sans-serif;fill:#44403c}.title{font-weight:600;font-size:13px}"
        ".grid{stroke:#a8a29e;stroke-opacity:.35}.line{fill:none;stroke-width:1.6}.line.s0{stroke-width:2.8}"
        f"{rules}@media(prefers-color-scheme:dark){{text{{fill:#d6d3d1}}{dark}}}</style>",
    ]
    x = 64.0
    for i, s in enumerate(lines):
        out.append(f'<circle class="dot s{i}" cx="{x:.0f}" cy="20" r="5"/><text x="{x + 10:.0f}" y="24">{s["name"]}</text>')
        x += 34 + 7 * len(s["name"])
    out += panel(0, top, WIDTH, f"time of a call ({what})", times, seconds_text)
    out += panel(WIDTH, top, WIDTH, "memory beside the tensors", memory, lambda b: short(b, ["B", "kB", "MB", "GB"]))
    out += panel(0, top + HEIGHT, 2 * WIDTH, "useful GFLOP/s", speeds, lambda x: f"{x:g}", steps)
    for i, stop in enumerate(stops):
        out.append(f'<text x="64" y="{bottom + 18 * i}">{html.escape(stop)}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qkv", help="the command")
    parser.add_argument("--ggml", default="", help="the folder of ggml's libraries")
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--to", type=int, default=131072, help="most tokens")
    parser.add_argument("--limit", type=float, default=60, help="seconds that a call may take")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this engine (repeat for more)")
    parser.add_argument("--svg", default=HERE.parent / "docs" / "growth.svg", type=Path)
    parser.add_argument("--json", default=HERE / "results" / "growth.json", type=Path)
    parser.add_argument("--draw", action="store_true", help="only draw --json again")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        return peer_point(options)
    if not options.draw:
        if not options.qkv:
            parser.error("--qkv is needed")
        measure(options)
    options.svg.write_text(draw(json.loads(options.json.read_text())))


if __name__ == "__main__":
    main()
