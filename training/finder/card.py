"""The model card, from measured numbers, and a sheet of the worst answers.

    python -m training.finder.card --work DIR --out models/finder [--pictures 250]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import skia

from .answers import Answer
from .evaluate import SETS, believed, load, measure, overlaps, readings, table
from .lexicon import CLASSES, COLOURS, UNSEEN_PAIRS
from .prompts import Prompt

COLUMNS, SHEET = 4, 12  # failures a row, and in all
TARGETS = (("mask IoU over present objects", "mask_iou", 0.80), ("presence accuracy", "presence_accuracy", 0.95),
           ("instance F1 at IoU 0.5", "f1", 0.85), ("count right, where something is", "count_right", 0.85))
GAP = 0.05  # that unseen pairs of colour and class may be below seen ones


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


def goals(result: dict) -> list[str]:
    """Lines of a table: each target beside what every set reached."""
    lines = ["| measured | target | " + " | ".join(SETS) + " |", "|---|---|" + "---|" * len(SETS)]
    for what, key, target in TARGETS:
        values = [result[name]["all"][key] for name in SETS]
        lines.append(f"| {what} | ≥ {target:.2f} | " + " | ".join(f"{v:.3f}" if v >= target else f"{v:.3f} **missed**" for v in values) + " |")
    return lines


def gaps(result: dict) -> list[str]:
    """Lines of a table: prompts of colour and class, with pairs that training saw and with those it did not."""
    seen, unseen = result["seen pairs, new pictures"]["colour"], result["unseen pairs"]["colour"]
    lines = ["| prompts of colour and class | seen pairs | unseen pairs | points below (≤ 5) |", "|---|---|---|---|"]
    for what, key, _ in TARGETS:
        gap = seen[key] - unseen[key]
        lines.append(f"| {what} | {seen[key]:.3f} | {unseen[key]:.3f} | {100 * gap:.1f}{'' if gap <= GAP else ' **missed**'} |")
    return lines


def reads(shares: list[dict]) -> list[str]:
    """Lines of a table: where the decoder's layers look."""
    lines = ["| what an object's query read, mean of the heads | of it on the object's patches (by chance) | on the words that say what is asked for (by chance) |",
             "|---|---|---|"]
    cell = lambda s, name: f"{100 * s[name]:.0f}% ({100 * s[name + ' by chance']:.0f}%)"
    return lines + [f"| decoder layer {n} | {cell(s, 'patches')} | {cell(s, 'words')} |" for n, s in enumerate(shares)]


def unknown(words: dict) -> str:
    """A sentence: how often words of no class are taken for something."""
    told = lambda language, name: f"{100 * words[language]['believed']:.1f}% of {words[language]['prompts']} prompts in {name} ({words[language]['words']} words)"
    return ("Asked for things of no class by words that it never met in training (one word alone, such as unicorn or 独角兽), it believes wrongly that they are there in "
            f"{told('en', 'English')} and {told('zh', 'Chinese')}.")


def card(result: dict, shares: list[dict], pictures: int, seconds: float, parameters: int, remark: str) -> str:
    pairs = ", ".join(f"{colour} {name}" for name, colour in sorted(UNSEEN_PAIRS))
    lines = ["---", "license: apache-2.0", "language: [en, zh]", "pipeline_tag: image-segmentation", "---",
             "# finder: objects in a picture by a prompt", "",
             f"A picture and a prompt in English or Chinese in, the masks of every object it names out: {parameters / 1e6:.2f} million parameters, float16.",
             "`qkv find \"red car\" picture.png` uses it; pieces of prompts are numbered by `models/translate-en-zh`. This card is written by",
             "`training/finder/card.py` from measured numbers.", "",
             f"Trained on {pictures} drawn pictures of {len(CLASSES)} classes in {len(COLOURS)} colours, {seconds / 3600:.1f} hours; "
             "it knows drawings of this kind and nothing else. How it is made: `training/finder`.", *([remark] if remark else []), "",
             *goals(result), "", *gaps(result), "", *reads(shares), "", unknown(result["unknown words"]), "", f"Pairs never drawn nor asked for in training: {pairs}.", "", "```"]
    lines += [table(name, result[name]) for name in SETS]
    lines += ["```", "Mask IoU is the mean over objects, a missed one counting 0; union IoU that of all masks of a prompt together.", "",
              "The worst answers of the first set (red: answer, green: truth, below it):", "", "![failures](failures.png)", "",
              "Everything the model learnt from was drawn by this repository's own program; the licence is the repository's."]
    return "\n".join(lines) + "\n"


def main():
    import torch

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--pictures", type=int, default=250, help="of each set")
    p.add_argument("--remark", default="", help="a sentence on how the run went, for the card")
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
    result["unknown words"] = believed(model, max(1, a.pictures // 10))
    shares = readings(model, max(1, a.pictures // 5))
    (a.out / "scores.json").write_text(json.dumps(result | {"readings": shares}, indent=1) + "\n")
    _, pictures, seconds, _ = torch.load(a.work / "checkpoint.pt", map_location="cpu", weights_only=False)["at"]
    (a.out / "README.md").write_text(card(result, shares, pictures, seconds, sum(p.numel() for p in model.parameters()), a.remark), encoding="utf-8")


if __name__ == "__main__":
    main()
