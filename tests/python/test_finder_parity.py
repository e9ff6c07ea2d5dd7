"""The C++ finder against its PyTorch twin: every number of the answer within 1e-4, on small random models of several shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from training.finder.export import write  # noqa: E402
from training.finder.model import Finder, Shape, mask_logits  # noqa: E402

torch.set_num_threads(1)

SMALL = {"image": 64, "fine": 8, "middle": 16, "width": 24, "heads": 2, "picture_layers": 2, "picture_ffn": 40, "vocabulary": 50, "piece": 8,
         "words": 12, "text_layers": 2, "text_ffn": 30, "decoder_layers": 2, "decoder_ffn": 36, "queries": 6, "pixel": 8}
SHAPES = {
    "small": SMALL,
    "one of each": SMALL | {"picture_layers": 1, "text_layers": 1, "decoder_layers": 1, "queries": 1, "heads": 1},
    "odd widths": SMALL | {"fine": 5, "middle": 7, "width": 33, "heads": 3, "picture_ffn": 17, "pixel": 3},
    "coarse patches": SMALL | {"image": 96, "patch": 8, "queries": 9},
    "bundled": {},
}


def probe_program() -> Path:
    """tests/models/finder_probe.cc as built: named by QKV_FINDER_PROBE, or the newest one under build/."""
    named = os.environ.get("QKV_FINDER_PROBE")
    if named:
        return Path(named)
    built = sorted(ROOT.glob("build/*/tests/finder_probe"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else ROOT / "build/release/tests/finder_probe"


def ask(folder: Path, *requests: dict) -> list[dict]:
    done = subprocess.run([probe_program(), str(folder)], input="".join(json.dumps(r) + "\n" for r in requests), text=True,
                          capture_output=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def random_finder(folder: Path, shape: Shape, seed=0, wide_boxes=False) -> Finder:
    """Weights that let every part of the answer vary, stored as fp32; wide boxes leave every mask whole."""
    torch.manual_seed(seed)
    model = Finder(shape).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p) * 0.2)
            elif "position" not in name:
                p.mul_(1.5)
        if wide_boxes:
            model.box.out.bias[2:] += 6
    write(model, folder, torch.float32)
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_numbers_are_those_of_the_twin(tmp_path, name):
    shape = Shape(**SHAPES[name])
    model = random_finder(tmp_path, shape)
    generator = torch.Generator().manual_seed(3)
    rgb = torch.rand(1, shape.image, shape.image, 3, generator=generator)
    for length in (1, 5) if SHAPES[name] else (7,):
        ids = torch.randint(0, shape.vocabulary, (1, length), generator=generator)
        with torch.no_grad():
            want = model(rgb, ids, torch.tensor([length]))
        got = ask(tmp_path, {"rgb": rgb.flatten().tolist(), "pieces": ids[0].tolist()})[0]
        assert "error" not in got, got
        last = want["layers"][-1]
        assert got["chosen"] == want["chosen"][0].tolist()
        masks = mask_logits(last["mask"][0], want["pixels"])
        for key, value in (("select", want["select"][0]), ("presence", last["presence"][0]), ("score", last["score"][0]),
                           ("boxes", last["box"][0]), ("masks", masks.flatten())):
            far = (torch.tensor(got[key]) - value).abs().max()
            assert far < 1e-4 * max(1.0, value.abs().max()), (key, far)
        queries, tokens = shape.queries + 1, shape.side**2
        tape = [tuple(record) for record in got["tape"]]
        assert tape == [*((f"picture.{i}.self", shape.heads, tokens, tokens) for i in range(shape.picture_layers)),
                        *((f"text.{i}.self", shape.heads, length, length) for i in range(shape.text_layers)),
                        *((f"decoder.{i}.{what}", shape.heads, queries, keys) for i in range(shape.decoder_layers)
                          for what, keys in (("self", queries), ("words", length), ("picture", tokens)))]


def test_threads_do_not_change_a_bit(tmp_path):
    shape = Shape(**SMALL)
    random_finder(tmp_path, shape)
    rgb = torch.rand(shape.image, shape.image, 3).flatten().tolist()
    one, two = ask(tmp_path, *({"rgb": rgb, "pieces": [3, 4, 0], "threads": n} for n in (1, 2)))
    assert "error" not in one and one == two


@pytest.mark.parametrize(("change", "message"), [
    ({"pieces": []}, "expected 1 to 12 pieces, got 0"),
    ({"pieces": [1] * 13}, "expected 1 to 12 pieces, got 13"),
    ({"pieces": [50]}, "expected ids below 50, got 50"),
    ({"pieces": [-1]}, "expected ids below 50, got -1"),
    ({"rgb": [0.5] * 5}, "expected 64×64×3 = 12288 numbers, got 5"),
    ({"rgb": [0.5] * (64 * 64 * 3 - 1) + [1e9]}, "expected numbers in [0, 1], got"),
])
def test_wrong_input_is_named(tmp_path, change, message):
    random_finder(tmp_path, Shape(**SMALL))
    request = {"rgb": [0.5] * (64 * 64 * 3), "pieces": [1, 2]}
    good, bad = ask(tmp_path, request, request | change)
    assert "error" not in good and message in bad["error"]


@pytest.mark.parametrize(("key", "value", "message"), [
    ("model_type", "marian", 'model_type: expected "qkv-finder", got "marian"'),
    ("image", 65, "image: expected a multiple of 4·patch = 16"),
    ("heads", 5, "heads: expected a divisor of width 24"),
    ("queries", 17, "queries: expected at most one for each of the 16 tokens, got 17"),
    ("width", 48, "expected shape"),
])
def test_a_wrong_folder_is_named(tmp_path, key, value, message):
    random_finder(tmp_path, Shape(**SMALL))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    error = ask(tmp_path)[0]["error"]
    assert message in error, error
