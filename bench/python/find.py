"""qkv find: the finder's picture and prompt beside the same weights in PyTorch, and the whole command by size of the picture.

usage: bench/python/find.py [--model FOLDER] [--threads 2] [--turns 9]
                                                    with the Python of .venv, after `make build` and a build of bench/find_picture

Model: one picture of 256×256 and one prompt, or eight prompts, fp32; qkv's steps (bench/find_picture) and training/finder/model.py in PyTorch
take turns, medians. PyTorch computes attention once as the model writes it and once by scaled_dot_product_attention. Command: from exec to exit, one prompt,
median of as many runs; pictures are examples/pictures/street.png enlarged. Prints one JSON object.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build/release"))
STREET = ROOT / "examples/pictures/street.png"
PROMPTS = ("red car", "tree", "sky", "road", "house", "红色的车", "树", "天空")
sys.path.insert(0, str(ROOT))


def ours(model, threads):
    """(one prompt, eight prompts) in ms"""
    told = subprocess.run([BUILD / "bench/find_picture", model, STREET, "--threads", str(threads), "--repeats", "11"], check=True, capture_output=True,
                          text=True).stdout
    step = {name: float(ms) for name, ms in re.findall(r"^(\w+) +([\d.]+) ms", told, re.MULTILINE)}
    return step["picture"] + step["prompt"], step["picture"] + 8 * step["prompt"]


def fused_attention(self, x, remembered=None, visible=None):
    """finder.Attention.read by PyTorch's own kernel, which keeps no weights."""
    from torch.nn.functional import scaled_dot_product_attention
    k, v = self.remember(x) if remembered is None else remembered
    y = scaled_dot_product_attention(self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2), k, v, attn_mask=visible)
    return self.out(y.transpose(1, 2).flatten(2)), x.new_empty(len(x), 0, x.shape[1], 0)


def twin(model, fused):
    """A function of the number of prompts that does in PyTorch what qkv's picture and prompt steps do."""
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import load_file

    from training.finder import model as finder
    from training.finder.batches import Pieces

    settings = json.loads((Path(model) / "config.json").read_text())
    settings.pop("model_type")
    net = finder.Finder(finder.Shape(**settings)).eval()
    net.load_state_dict({name: value.float().view_as(net.state_dict()[name]) for name, value in load_file(Path(model) / "model.safetensors").items()})
    rgb = torch.from_numpy(np.asarray(Image.open(STREET).convert("RGB")).copy())[None].float() / 255
    pieces = [Pieces()(text, net.shape.words) for text in PROMPTS]
    ids = torch.zeros(len(pieces), max(map(len, pieces)), dtype=torch.long)
    for row, those in zip(ids, pieces):
        row[: len(those)] = torch.tensor(those)
    lengths = torch.tensor([len(those) for those in pieces])
    if fused:
        for module in net.modules():
            if isinstance(module, finder.Attention):
                module.read = fused_attention.__get__(module)

    def run(count):
        with torch.inference_mode():
            out = net(rgb, ids[:count], lengths[:count])
            finder.mask_logits(out["layers"][-1]["mask"].flatten(0, 1), out["pixels"])
    return run


def milliseconds(run):
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def command(model, picture, threads, *more):
    return milliseconds(lambda: subprocess.run([BUILD / "bin/qkv", "find", "red car", picture, "--model", model, "--threads", str(threads), *more],
                                               check=True, capture_output=True))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", default=str(ROOT / "models/finder"))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--turns", type=int, default=9)
    a = p.parse_args()
    import torch
    from PIL import Image
    torch.set_num_threads(a.threads)
    peers = {"PyTorch": twin(a.model, False), "PyTorch, scaled_dot_product_attention": twin(a.model, True)}
    taken = {"qkv": ([], []), **{name: ([], []) for name in peers}}
    for turn in range(a.turns + 1):
        rounds = {"qkv": ours(a.model, a.threads), **{name: (milliseconds(lambda: run(1)), milliseconds(lambda: run(8))) for name, run in peers.items()}}
        for name, both in rounds.items():
            if turn:  # the first warms up
                for list_, ms in zip(taken[name], both):
                    list_.append(ms)
    result = {"threads": a.threads, "model_ms": {name: {"1 prompt": round(statistics.median(one), 1), "8 prompts": round(statistics.median(eight), 1)}
                                                 for name, (one, eight) in taken.items()}, "command_ms": {}}
    with tempfile.TemporaryDirectory() as folder:
        for side, kind in ((256, "png"), (1024, "jpg"), (4096, "jpg")):
            file = Path(folder) / f"{side}.{kind}"
            Image.open(STREET).convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(file)
            for name, more in ((f"{side}×{side} {kind}", ()), (f"{side}×{side} {kind} --out", ("--out", str(Path(folder) / "out.png")))):
                result["command_ms"][name] = round(statistics.median(command(a.model, file, a.threads, *more) for _ in range(a.turns)), 1)
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
