"""qkv bench: names of lines, what it writes, and the peers' protocol. Nothing here looks at how fast anything is."""
import json
import re
import shlex
import subprocess
import sys

import pytest

from conftest import ROOT, Qkv

QUICK = ["--rounds", 1, "--threads", 1]


@pytest.fixture
def bench(tmp_path):
    command = Qkv()

    def run(*arguments):
        file = tmp_path / "figures.json"
        text = command.ok("bench", *QUICK, *arguments, "--json", file)
        return text, json.loads(file.read_text())

    return run


# What is written, and how it is written again.
NAMES = {
    "1,2,2,16,16,8": "1,2,2,16,16,8",
    "1,2,2,16,16,8 fp32 prefill": "1,2,2,16,16,8",
    "1,2,1,16,16,8:4 causal": "1,2,1,16,16,8:4 causal",
    "1,2,2,16,16,8 backward bf16 causal": "1,2,2,16,16,8 causal bf16 backward",
    "2,4,2,1,32,8 int8": "2,4,2,1,32,8 int8",
    "1,2,2,1,32,8 decode fp16": "1,2,2,1,32,8 fp16",
    "1,2,2,1,32,8 prefill": "1,2,2,1,32,8 prefill",
    "1,2,2,16,16,8 trace": "1,2,2,16,16,8 trace",
    "1,1,1,1,1,8 call fp32": "1,1,1,1,1,8 call",
}


def test_names_parse_back(bench):
    _, figures = bench("--shapes", ";".join([*NAMES, *NAMES.values()]))
    # A name that is shown means the same line again, and a line is measured once.
    assert [result["shape"] for result in figures["results"]] == list(dict.fromkeys(NAMES.values()))


@pytest.mark.parametrize("shape", ["1,2,2,16,16", "1,3,2,16,16,8", "1,2,2,16,16,0", "1,2,2,16,16,8 causal causal",
                                   "1,2,2,16,16,8 bf16 fp16", "1,2,2,16,16,8 sideways", "1,2,2,16,16,8causal", "-1,2,2,1,1,8",
                                   "1,2,2,16,16,8:", "no such line"])
def test_wrong_shapes_say_how_to_write_them(shape):
    message = Qkv().fails(2, "bench", *QUICK, "--shapes", shape)
    assert "batch,heads_q" in message and f'"{shape}"' in message


def test_figures_of_every_kind(bench):
    text, figures = bench("--shapes", "1,2,2,64,64,16;1,2,1,1,64,16;1,2,2,64,64,16 causal backward;1,2,2,64,64,16 trace")
    assert figures["schema"] == 2 and figures["isa"] and figures["machine"]["cores"] > 0
    assert figures["peers"] == [] and figures["missing"] == []
    prefill, decode, backward, trace = figures["results"]
    for result in figures["results"]:
        assert result["threads"] == 1 and result["peak_gflops"] > 0 and result["type"] == result["peak_type"] == "fp32"
        assert isinstance(result["targets"], list)
        if "why" not in result["qkv"]:
            assert result["qkv"]["median_s"] >= result["qkv"]["best_s"] > 0 and result["qkv"]["runs"] >= 2
            assert result["extra_memory_bytes"] >= 0
    assert [r["kind"] for r in figures["results"]] == ["prefill", "decode", "backward", "trace"]
    assert prefill["flops"] == 2 * 2 * 64 * 64 * 32
    assert backward["flops"] == 2.5 * prefill["flops"] / 2  # causal
    assert decode["key_value_bytes"] == 64 * 32 * 4 and decode["read_gb_per_s"] > 0
    assert trace["traced"]["median_s"] > 0
    for table in ("prefill fp32", "decode", "trace (top 8"):
        assert f"| {table}" in text


def test_what_this_build_lacks_is_named(bench):
    text, figures = bench("--shapes", "1,2,2,16,16,8 int8;1,2,2,16,16,8")
    lacking, measured = figures["results"]
    assert "median_s" in measured["qkv"]
    if "why" in lacking["qkv"]:
        assert "Not measured:\n- qkv, " in text and lacking["qkv"]["why"] in text


def test_targets_are_told(bench):
    text, figures = bench("--shapes", "1,12,12,128,128,64")
    (target,) = figures["results"][0]["targets"]  # nobody else was asked
    assert target["of"] == "peak" and target["needed"] == 80 and not target["at_most"]
    assert target["ok"] == (target["reached"] >= 80)
    assert f"% ≥ 80% {'ok' if target['ok'] else 'short'}" in text
    assert f"Targets: {int(target['ok'])} of 1 reached" in text


def test_short_calls_are_held_against_one_thread(bench):
    text, figures = bench("--shapes", "1,1,1,1,1,8 call;1,2,2,8,8,16 call", "--threads", 2)  # and 1
    one, _, two, short = figures["results"]
    for result, threads in ((one, 1), (two, 2)):
        (target,) = result["targets"]
        assert result["threads"] == threads
        assert target["of"] == "time" and target["unit"] == " µs" and target["needed"] == 2 and target["at_most"]
        assert target["reached"] == pytest.approx(1e6 * result["qkv"]["median_s"])
    assert "one_thread" not in one and short["one_thread"]["median_s"] > 0
    (target,) = short["targets"]
    assert target["of"] == "one thread"
    assert target["reached"] == pytest.approx(short["one_thread"]["median_s"] / short["qkv"]["median_s"])
    assert text.count("| short calls") == 2 and "µs ≤ 2.00 µs" in text


def test_missing_peers_are_named(bench, tmp_path):
    bare = tmp_path / "python"  # an interpreter without any package
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    _, figures = bench("--peers", "--python", bare, "--shapes", "1,2,2,16,16,8")
    assert figures["peers"] == []
    sentences = {sentence.split(" is not measured: ")[0]: sentence for sentence in figures["missing"]}
    assert set(sentences) == {"PyTorch", "ONNX Runtime", "OpenVINO", "ggml"}
    for name, package in {"PyTorch": "torch", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}.items():
        assert f"-m pip install {package}" in sentences[name]
    assert "peers" not in figures["results"][0]


def test_no_interpreter():
    message = Qkv().fails(1, "bench", *QUICK, "--peers", "--python", "/no/such/python", "--shapes", "1,1,1,8,8,8")
    assert "/no/such/python" in message and "--python" in message


def documented():
    """The commands of bench/README.md that tests/docs leaves out."""
    text = (ROOT / "bench/README.md").read_text()
    block = re.search(r"<!-- not run: [^\n]*test_bench.py[^\n]*-->\n```sh\n(.*?)```", text, re.DOTALL).group(1)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


@pytest.mark.parametrize("command", documented(), ids=" ".join)
def test_documented_commands_run(command, tmp_path):
    small = {"--json": tmp_path / "figures.json", "--python": sys.executable, "--shapes": None}
    arguments = [small.get(before, word) for before, word in zip(["", *command], command)]
    if None in arguments:  # how a name is looked for has its own tests
        place = arguments.index(None)
        del arguments[place - 1:place + 1]
    text = Qkv().ok(*arguments, "--shapes", "1,2,2,16,16,8", "--rounds", 1)
    assert "| 1,2,2,16,16,8 " in text


# ---- peers.py itself


class Asked:
    """The Python process behind --peers, asked about folders of tensors."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, ROOT / "bench" / "peers.py", ""], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.hello = json.loads(self.process.stdout.readline())

    def __call__(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def time(self, folder, **changes):
        request = {"peer": "PyTorch", "shape": [1, 4, 2, 24, 24, 16, 8], "causal": True, "type": "fp32", "kind": "prefill",
                   "threads": 1, "seconds": 0, "least": 3, "folder": str(folder)}  # fmt: skip
        return self(**{**request, **changes})

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def process():
    one = Asked()
    yield one
    one.end()


@pytest.fixture
def asked(process):
    yield process
    assert process(forget=True) == {}


def write(folder, as_type, **tensors):
    import torch

    for name, tensor in tensors.items():
        stored = tensor.detach().to(getattr(torch, as_type))
        (folder / name).write_bytes(stored.view(torch.int16 if stored.itemsize == 2 else torch.int32).numpy().tobytes())


def reference(torch, causal=True):
    """Inputs of the shape that Asked.time asks for, what comes out, and the gradients, all in double."""
    torch.manual_seed(3)
    q, k, v = (torch.rand(1, h, 24, d).to(torch.float64).requires_grad_() for h, d in ((4, 16), (2, 16), (2, 8)))
    d_out = torch.rand(1, 4, 24, 8).to(torch.float64)
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) / 4
    if causal:
        scores = scores.masked_fill(torch.ones(24, 24, dtype=torch.bool).triu(1), -torch.inf)
    out = scores.softmax(-1) @ v.repeat_interleave(2, 1)
    d_query, d_key, d_value = torch.autograd.grad(out, (q, k, v), d_out)
    return {"query": q, "key": k, "value": v, "d_out": d_out}, {"out": out}, \
        {"d_query": d_query, "d_key": d_key, "d_value": d_value}


@pytest.mark.parametrize("name, stored", [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
@pytest.mark.parametrize("kind", ["prefill", "backward", "trace"])
def test_a_peer_computes_the_same(asked, tmp_path, name, stored, kind):
    torch = pytest.importorskip("torch")
    inputs, out, gradients = reference(torch)
    write(tmp_path, stored, **inputs, **(gradients if kind == "backward" else out))
    first, second = (asked.time(tmp_path, type=name, kind=kind) for _ in range(2))
    assert "why" not in first, first
    assert 0 <= first["difference"] < 0.03 and len(first["times"]) == 3
    assert "difference" not in second and len(second["times"]) == 3  # told once


@pytest.mark.parametrize("peer, package", [("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")])
def test_every_peer_computes_the_same(asked, tmp_path, peer, package):
    pytest.importorskip(package)
    inputs, out, _ = reference(pytest.importorskip("torch"))  # heads are grouped
    write(tmp_path, "float32", **inputs, **out)
    answer = asked.time(tmp_path, peer=peer)
    assert "why" not in answer, answer
    assert 0 <= answer["difference"] < 1e-4 and len(answer["times"]) == 3


def test_a_peer_that_computes_something_else_is_not_timed(asked, tmp_path):
    torch = pytest.importorskip("torch")
    inputs, _, _ = reference(torch)
    _, without_mask, _ = reference(torch, causal=False)
    write(tmp_path, "float32", **inputs, **without_mask)
    answer = asked.time(tmp_path)
    assert answer["times"] == [] and "computes something else" in answer["why"]


def test_without_our_output_there_is_nothing_to_compare(asked, tmp_path):
    torch = pytest.importorskip("torch")
    write(tmp_path, "float32", **reference(torch)[0])
    answer = asked.time(tmp_path)
    assert len(answer["times"]) == 3 and "difference" not in answer


def test_a_refusal_is_an_answer(asked, tmp_path):
    pytest.importorskip("torch")
    assert asked.time(tmp_path, type="int8") == {"times": [], "why": "no int8"}
    assert asked.time(tmp_path)["times"] == []  # no tensors there
