"""What the report says that a finder read, against the softmax of its PyTorch twin; and that looking changes nothing."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from test_finder_parity import ROOT, SMALL, ask, random_finder

from training.finder.model import Shape

VOCABULARY = ROOT / "models" / "translate-en-zh"
SHAPE = Shape(**SMALL | {"vocabulary": 8192, "heads": 3, "words": 8})


def report(folder: Path, *requests: dict) -> list[dict]:
    """tests/lens/find_probe.cc, named by QKV_FIND_PROBE, or the newest one under build/."""
    built = sorted(ROOT.glob("build/*/tests/find_probe"), key=lambda path: path.stat().st_mtime)
    program = os.environ.get("QKV_FIND_PROBE") or (built[-1] if built else ROOT / "build/release/tests/find_probe")
    done = subprocess.run([program, folder, VOCABULARY], input="".join(json.dumps(r) + "\n" for r in requests), text=True,
                          capture_output=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def run(tmp_path):
    """(the twin, a request, the softmaxes of the twin in the order of its layers)"""
    model = random_finder(tmp_path, SHAPE, wide_boxes=True)
    rgb = torch.rand(1, SHAPE.image, SHAPE.image, 3, generator=torch.Generator().manual_seed(3))
    request = {"prompt": "red car", "rgb": rgb.flatten().tolist(), "width": 64, "height": 40, "presence": 0, "score": 0}
    vocabulary = json.loads((VOCABULARY / "vocab.json").read_text(encoding="utf-8"))
    ids = torch.tensor([[vocabulary["▁red"], vocabulary["▁car"], vocabulary["</s>"]]])
    seen = []
    plain = torch.Tensor.softmax

    def softmax(self, *args, **more):
        seen.append(plain(self, *args, **more))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.Tensor, "softmax", softmax)
        model(rgb, ids, torch.tensor([3]))
    return tmp_path, request, seen


def test_words_and_patches_are_those_of_the_twins_softmax(run):
    folder, request, seen = run
    got = report(folder, request)[0]
    assert "error" not in got, got
    reading = got["reading"]
    assert reading["words"] == ["red", "car"] and reading["specials"] == ["⟨end⟩"] and reading["side"] == 4
    assert len(got["objects"]) > 0 and [it["object"] for it in reading["asked"]] == [None, *range(len(got["objects"]))]
    decoder = seen[SHAPE.picture_layers + SHAPE.text_layers:]
    for asker, row in zip(reading["asked"], [0, *(query + 1 for query in got["objects"])], strict=True):
        assert len(asker["layers"]) == SHAPE.decoder_layers
        for layer, said in enumerate(asker["layers"]):
            _, words, patches = (it[0, :, row] for it in decoder[3 * layer: 3 * layer + 3])  # [heads, keys]
            for it, want_words, want_patches in [(said, words.mean(0), patches.mean(0)), *zip(said["heads"], words, patches, strict=True)]:
                assert (torch.tensor(it["words"]) - want_words).abs().max() < 1e-4
                assert (torch.tensor(it["patches"]) - want_patches.view(4, 4)).abs().max() < 1e-4
                if asker["object"] is not None:
                    assert 0 <= it["on_object"] <= 1 and 0 < it["by_chance"] <= 1


def test_recorded_encoder_weights_are_the_twins(run):
    folder, request, seen = run
    vocabulary = json.loads((VOCABULARY / "vocab.json").read_text(encoding="utf-8"))
    pieces = [vocabulary["▁red"], vocabulary["▁car"], vocabulary["</s>"]]
    got = ask(folder, {"rgb": request["rgb"], "pieces": pieces, "weights": True})[0]
    assert len(got["weights"]) == len(seen)
    for recorded, want in zip(got["weights"], seen, strict=True):
        assert (torch.tensor(recorded) - want.flatten()).abs().max() < 1e-4


def test_recording_changes_no_bit_of_the_answer(run):
    folder, request, _ = run
    asked = {"rgb": request["rgb"], "pieces": [5, 9, 0]}
    with_tape, without = ask(folder, asked, asked | {"record": False})
    assert len(with_tape.pop("tape")) > 0 and without.pop("tape") == []
    assert "error" not in without and with_tape == without


def test_the_terminals_map_leaves_out_what_is_beside_the_picture(run):
    folder, request, _ = run
    wide, narrow = report(folder, request, request | {"columns": 40})
    for got in (wide, narrow):
        assert "error" not in got, got
        assert all(len(line) <= (40 if got is narrow else 80) for line in got["terminal"].splitlines())
        assert "Presence, " in got["terminal"] and "Object 1, " in got["terminal"] and "on the object: " in got["terminal"]
    tall = report(folder, request | {"width": 10, "height": 64})[0]  # columns 27 to 37: 2 of 4 columns of patches
    maps = re.findall(r"^  ([·░▒▓█]+)(?= |$)", tall["terminal"], re.MULTILINE)
    assert len(maps) == 4 * (1 + len(tall["objects"])) and all(len(line) == 2 * 2 for line in maps)
    assert "beside the picture: " in tall["terminal"]


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 0}, "expected a picture with pixels, got 0×40"),
    ({"png": "/nowhere.png", "html": "/nowhere.html"}, "expected a picture in PNG for the page, got 64×40 pixels in 0 bytes"),
    ({"prompt": "a red car and a green car and a blue car"}, "expected 1 to 8 pieces"),
])
def test_wrong_input_is_named(run, change, message):
    folder, request, _ = run
    good, bad = report(folder, request, request | change)
    assert "error" not in good and message in bad["error"]
