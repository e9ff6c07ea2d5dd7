"""From what the model says to what a user gets: which objects, and their masks in the picture's own pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .model import mask_logits

PRESENT, OBJECT, SAME = 0.5, 0.5, 0.7  # thresholds: presence, a query's score, overlap above which two masks are one object


@dataclass
class Answer:
    presence: float  # how sure it is that what the prompt names is in the picture
    scores: list[float]  # of the objects, best first
    boxes: torch.Tensor  # [objects, 4] centre and size in [0, 1]
    masks: torch.Tensor  # [objects, size, size] bool


@torch.no_grad()
def answers(out, per: int, size: int) -> list[Answer]:
    """One for each prompt of a forward pass."""
    last, pixels, found = out["layers"][-1], out["pixels"].float(), []
    presence, scores = torch.sigmoid(last["presence"]).tolist(), torch.sigmoid(last["score"])
    for p, sure in enumerate(presence):
        order = torch.argsort(scores[p], descending=True, stable=True)
        order = order[scores[p][order] >= OBJECT] if sure >= PRESENT else order[:0]
        logits = mask_logits(last["mask"][p, order].float(), pixels[p // per][None])
        kept = distinct(logits > 0)
        big = F.interpolate(logits[kept][:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0] > 0
        found.append(Answer(sure, scores[p][order[kept]].tolist(), last["box"][p, order[kept]], big))
    return found


def distinct(masks: torch.Tensor) -> list[int]:
    """Of masks [n, h, w], best first, those that are not empty and no other view of an earlier one."""
    kept: list[int] = []
    for i, mask in enumerate(masks):
        if mask.any() and all((mask & masks[k]).sum() <= SAME * (mask | masks[k]).sum() for k in kept):
            kept.append(i)
    return kept
