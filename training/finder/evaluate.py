"""Scores on pictures, pairs of colour and class, and wordings that training never saw.

    python -m training.finder.evaluate --work DIR [--pictures 250]
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from . import prompts, strange
from .answers import Answer, Thresholds, answers
from .batches import Batch, Pictures, Pieces, collate, collate_kept
from .lexicon import UNSEEN_PAIRS
from .losses import covers, match
from .model import Finder, Shape

# name: split, wording held out
SETS = {"seen pairs, new pictures": ("seen", False), "unseen pairs": ("unseen", False), "unseen wordings": ("seen", True)}
FIRST = {"seen pairs, new pictures": 0, "unseen pairs": 0, "unseen wordings": 100_000}


class Tally:
    """Counts of one group of prompts."""

    def __init__(self):
        self.prompts = self.present = self.presence_right = self.count_right = self.hit = self.spurious = self.missed = 0
        self.iou, self.union = [], []

    def add(self, truth: np.ndarray, answer: Answer):
        """truth [n, h, w] bool"""
        mine = answer.masks.cpu().numpy()
        self.prompts += 1
        self.presence_right += answer.present == (len(truth) > 0)
        overlap = overlaps(truth, mine)
        rows, cols = linear_sum_assignment(-overlap)
        hits = int((overlap[rows, cols] >= 0.5).sum())
        self.hit, self.spurious, self.missed = self.hit + hits, self.spurious + len(mine) - hits, self.missed + len(truth) - hits
        if len(truth):
            self.present += 1
            self.count_right += len(truth) == len(mine)
            best = np.zeros(len(truth))
            best[rows] = overlap[rows, cols]
            self.iou += best.tolist()
            whole, said = truth.any(0), mine.any(0) if len(mine) else np.zeros_like(truth[0])
            self.union.append((whole & said).sum() / (whole | said).sum())

    def scores(self) -> dict:
        part = lambda a, b: round(float(a) / b, 4) if b else None
        return {"prompts": self.prompts, "presence_accuracy": part(self.presence_right, self.prompts),
                "mask_iou": part(sum(self.iou), len(self.iou)), "union_iou": part(sum(self.union), len(self.union)),
                "f1": part(2 * self.hit, 2 * self.hit + self.spurious + self.missed), "count_right": part(self.count_right, self.present)}


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every mask of a with every mask of b: [n, m]"""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    x, y = a.reshape(len(a), -1).astype(np.float32), b.reshape(len(b), -1).astype(np.float32)
    both = x @ y.T
    return both / (x.sum(1)[:, None] + y.sum(1)[None] - both)


def counts(prompt: prompts.Prompt, name: str) -> bool:
    """Of the pictures with unseen pairs, only the prompts that name one are that set's."""
    return name != "unseen pairs" or (prompt.name, prompt.colour) in UNSEEN_PAIRS


def asked(batch: Batch, per: int, name: str):
    """(index, example, prompt, truth [n, h, w] bool) of every prompt that counts in the set."""
    for p in range(len(batch.examples) * per):
        e = batch.examples[p // per]
        prompt = e.prompts[p % per]
        if counts(prompt, name):
            things = np.unique(e.ids[e.ids > 0])
            yield p, e, prompt, np.array([e.ids == things[t] for t in prompt.targets], bool).reshape(-1, *e.ids.shape)


def outputs(model: Finder, data: Pictures, dtype=torch.float32):
    """(batch, what the model says of it), four pictures at a time."""
    device = next(model.parameters()).device
    model.eval()
    for batch in torch.utils.data.DataLoader(data, batch_size=4, collate_fn=collate_kept, num_workers=1):
        batch.to(device)
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            yield batch, model(batch.rgb, batch.pieces, batch.lengths)


def measure(model: Finder, name: str, pictures: int, per: int = 8, dtype=torch.float32, watch=None) -> dict:
    """Scores of one set: over all prompts, by kind and by language. watch(example, prompt, answer, truth): sees each."""
    split, wording = SETS[name]
    data = Pictures(split, pictures, per, model.shape, seed=1, unseen_wording=wording, first=FIRST[name])
    groups: dict[str, Tally] = defaultdict(Tally)
    for batch, out in outputs(model, data, dtype):
        found = answers(out, per, model.shape.image)
        for p, example, prompt, truth in asked(batch, per, name):
            for group in ("all", prompt.kind, prompt.language):
                groups[group].add(truth, found[p])
            if watch:
                watch(example, prompt, found[p], truth)
    order = ["all", "en", "zh", *prompts.KINDS]
    return {g: groups[g].scores() for g in order if g in groups}


def readings(model: Finder, pictures: int = 50, per: int = 8) -> list[dict]:
    """For each decoder layer how much of what the queries of present objects read, as the mean of the heads, lies on the object and on the words that
    say what is asked for; and how much would if all were read alike."""
    found = [defaultdict(list) for _ in range(model.shape.decoder_layers)]
    for batch, out in outputs(model, Pictures("seen", pictures, per, model.shape, seed=1)):
        p, q, o = match(out["layers"][-1], out["chosen"], batch)
        cover, named = covers(batch)[o], batch.named[p]
        for shares, layer in zip(found, out["layers"], strict=True):
            read = {"patches": (layer["patches"][p, :, q + 1].mean(1) * cover).sum(1), "patches by chance": cover.mean(1),
                    "words": (layer["words"][p, :, q + 1].mean(1) * named).sum(1), "words by chance": named.sum(1) / batch.lengths[p]}
            for name, values in read.items():
                shares[name] += values.tolist()
    return [{name: round(sum(values) / len(values), 4) for name, values in shares.items()} for shares in found]


def believed(model: Finder, pictures: int = 25) -> dict:
    """By language, prompts that are one real word of no class, which training never asked for: how many words, how many prompts over so many held-out
    pictures, and the share of them that the model takes for present."""
    data = Pictures("seen", pictures, 1, model.shape, seed=1)
    pieces = Pieces()
    met = {language: {*words, *(foreign for row in prompts.FOREIGN[language] for foreign in row)} for language, words in pieces.strange_words.items()}
    prompts_of = {language: [word for word in words if word not in met[language]] for language, words in strange.REAL.items()}
    wrong = dict.fromkeys(prompts_of, 0)
    for batch in torch.utils.data.DataLoader(data, batch_size=1, collate_fn=collate):
        for language, words in prompts_of.items():
            ids = [torch.tensor(pieces(word, model.shape.words)) for word in words]
            with torch.no_grad():
                out = model(batch.rgb, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.tensor([len(i) for i in ids]))
            wrong[language] += int((torch.sigmoid(out["layers"][-1]["presence"]) >= Thresholds.presence).sum())
    return {language: {"words": len(words), "prompts": len(words) * pictures, "believed": round(wrong[language] / (len(words) * pictures), 4)}
            for language, words in prompts_of.items()}


def load(work: Path) -> Finder:
    """The averaged weights of a run."""
    kept = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=False)
    model = Finder(Shape(**kept["shape"]))
    model.load_state_dict(kept["average"])
    return model.eval()


def table(name: str, scores: dict) -> str:
    lines = [f"{name:<26} prompts  presence  mask IoU  union IoU  F1@0.5  count"]
    for group, s in scores.items():
        cell = lambda v: "     –" if v is None else f"{v:6.3f}"
        lines.append(f"  {group:<24} {s['prompts']:7d}   {cell(s['presence_accuracy'])}    {cell(s['mask_iou'])}     {cell(s['union_iou'])}  "
                     f"{cell(s['f1'])} {cell(s['count_right'])}")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--pictures", type=int, default=250, help="of each set")
    a = p.parse_args()
    model, result = load(a.work), {}
    for name in SETS:
        result[name] = measure(model, name, a.pictures)
        print(table(name, result[name]), flush=True)
    result["unknown words"] = believed(model, max(1, a.pictures // 10))
    print(f"believed unknown words: {result['unknown words']}")
    (a.work / "scores.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
