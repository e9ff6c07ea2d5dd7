"""The model card, from measured numbers, and a sheet of the worst answers.

    python -m training.finder.card --work DIR --out models/finder [--pictures 250]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import skia

from .answers import Answer
from .evaluate import SETS, load, measure, overlaps, table
from .lexicon import CLASSES, COLOURS, UNSEEN_PAIRS
from .prompts import Prompt

COLUMNS, SHEET = 4, 12  # failures a row, and in all
TARGETS = (("mask IoU over present objects", "seen pairs, new pictures", "mask_iou", 0.80),
           ("presence accuracy", "seen pairs, new pictures", "presence_accuracy", 0.95),
           ("instance F1 at IoU 0.5", "seen pairs, new pictures", "f1", 0.85),
           ("count right", "seen pairs, new pictures", "count_right", 0.85))


def badness(truth: np.ndarray, answer: Answer) -> float:
    """Objects missed or made up, and how sure the presence was where it is wrong."""
    mine = answer.masks.cpu().numpy()
    overlap = overlaps(truth, mine)
    hits = int((overlap >= 0.5).any(1).sum()) if overlap.size else 0
    wrong = len(truth) - hits + max(0, len(mine) - hits)
    return wrong + abs(answer.presence - (len(truth) > 0))


def painted(rgb: np.ndarray, masks: np.ndarray, colour) -> np.ndarray:
    """The picture with the masks laid over it and everything else paler."""
    out = rgb.astype(np.float32)
    if len(masks):
        inside = masks.any(0)
        out[~inside] = out[~inside] * 0.45 + 140
        edge = np.zeros_like(inside)
        for m in masks:
            edge |= m & ~(np.roll(m, 1, 0) & np.roll(m, -1, 0) & np.roll(m, 1, 1) & np.roll(m, -1, 1))
        out[edge] = colour
    else:
        out = out * 0.45 + 140
    return out.clip(0, 255).astype(np.uint8)


def sheet(cases: list[tuple], path: Path) -> None:
    """For each case the answer (left) above the truth, and the prompt below: PNG."""
    size, text = 256, 34
    rows = -(-len(cases) // COLUMNS)
    surface = skia.Surface(COLUMNS * (size + 8), rows * (2 * size + text + 8))
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorWHITE)
    font = skia.Font(skia.FontMgr().matchFamilyStyleCharacter("", skia.FontStyle(), ["zh"], ord("的")) or skia.Typeface(""), 14)
    for n, (rgb, prompt, answer, truth) in enumerate(cases):
        x, y = n % COLUMNS * (size + 8), n // COLUMNS * (2 * size + text + 8)
        for k, masks, colour in ((0, answer.masks.cpu().numpy(), (255, 40, 40)), (1, truth, (20, 160, 40))):
            picture = np.dstack([painted(rgb, masks, colour), np.full((size, size), 255, np.uint8)])
            canvas.drawImage(skia.Image.fromarray(np.ascontiguousarray(picture), skia.kRGBA_8888_ColorType), x, y + k * size)
        canvas.drawString(prompt.text, x + 2, y + 2 * size + 15, font, skia.Paint(AntiAlias=True))
        canvas.drawString(f"present {answer.presence:.2f}, {len(answer.masks)} of {len(truth)}", x + 2, y + 2 * size + 31, font, skia.Paint(AntiAlias=True))
    surface.makeImageSnapshot().save(str(path), skia.kPNG)


def card(result: dict, at: tuple, parameters: int) -> str:
    _, pictures, seconds, _ = at
    pairs = ", ".join(f"{colour} {name}" for name, colour in sorted(UNSEEN_PAIRS))
    lines = ["# The finder", "",
             f"{parameters / 1e6:.2f} million parameters. A picture and a prompt in English or Chinese in, the masks of every object it names out.",
             f"Trained on {pictures} drawn pictures of {len(CLASSES)} classes in {len(COLOURS)} colours, {seconds / 3600:.1f} hours; "
             "it knows drawings of this kind and nothing else. How it is made: `training/finder`.", "",
             "| measured | value | target |", "|---|---|---|"]
    for what, name, key, target in TARGETS:
        value = result[name]["all"][key]
        lines.append(f"| {what} | {value:.3f} | {target:.2f}{'' if value >= target else ', **missed**'} |")
    seen, unseen = result["seen pairs, new pictures"], result["unseen pairs"]
    for key in ("mask_iou", "presence_accuracy", "f1"):
        gap = 100 * (seen["colour"][key] - unseen["colour"][key]) if unseen.get("colour") else None
        if gap is not None:
            lines.append(f"| {key.replace('_', ' ')}, points that unseen pairs are below seen ones | {gap:.1f} | 5{'' if gap <= 5 else ', **missed**'} |")
    lines += ["", f"Pairs never drawn nor asked for in training: {pairs}.", "", "```"]
    lines += [table(name, result[name]) for name in SETS]
    lines += ["```", "", "The worst answers of the first set (red: answer, green: truth, below it):", "", "![failures](failures.png)", "",
              "Everything the model learnt from was drawn by this repository's own program; the licence is the repository's."]
    return "\n".join(lines) + "\n"


def main():
    import torch

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--pictures", type=int, default=250, help="of each set")
    a = p.parse_args()
    model, cases, result = load(a.work), [], {}

    def watch(example, prompt: Prompt, answer: Answer, truth):
        cases.append((badness(truth, answer), len(cases), example.rgb, prompt, answer, truth))
        cases.sort(key=lambda c: c[:2], reverse=True)
        del cases[SHEET:]

    for n, name in enumerate(SETS):
        result[name] = measure(model, name, a.pictures, watch=None if n else watch)
        print(table(name, result[name]), flush=True)
    a.out.mkdir(parents=True, exist_ok=True)
    sheet([c[2:] for c in cases], a.out / "failures.png")
    (a.out / "scores.json").write_text(json.dumps(result, indent=1) + "\n")
    at = torch.load(a.work / "checkpoint.pt", map_location="cpu", weights_only=False)["at"]
    (a.out / "README.md").write_text(card(result, at, sum(p.numel() for p in model.parameters())), encoding="utf-8")


if __name__ == "__main__":
    main()
