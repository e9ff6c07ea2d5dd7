"""From what the model says to what a user gets: which objects, and their masks in the picture's own pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .model import mask_logits


@dataclass(frozen=True)
class Thresholds:
    """As in src/models/finder/answer.h; measured by thresholds.py."""

    presence: float = 0.5  # from which on the picture is believed to hold what the prompt names
    score: float = 0.3  # from which on a query stands for an object
    same: float = 0.5  # two masks that overlap by more (intersection over union) are one object


BEYOND = 0.15  # how much wider and higher than its box a mask may be, besides one place of the map on each side
OUTSIDE = -4.0  # a mask's logits there


@dataclass
class Answer:
    presence: float  # how sure it is that what the prompt names is in the picture
    present: bool  # whether that is enough to believe it
    scores: list[float]  # of the objects, best first
    boxes: torch.Tensor  # [objects, 4] centre and size in [0, 1]
    masks: torch.Tensor  # [objects, size, size] bool


@torch.no_grad()
def answers(out, per: int, size: int, least: Thresholds = Thresholds()) -> list[Answer]:
    """One for each prompt of a forward pass."""
    last, pixels, found = out["layers"][-1], out["pixels"].float(), []
    presence, scores = torch.sigmoid(last["presence"]).tolist(), torch.sigmoid(last["score"])
    for p, sure in enumerate(presence):
        order = torch.argsort(scores[p], descending=True, stable=True)
        order = order[scores[p][order] >= least.score] if sure >= least.presence else order[:0]
        logits = inside(mask_logits(last["mask"][p, order].float(), pixels[p // per][None]), last["box"][p, order])
        kept = distinct(logits > 0, least.same)
        big = F.interpolate(logits[kept][:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0] > 0
        found.append(Answer(sure, sure >= least.presence, scores[p][order[kept]].tolist(), last["box"][p, order[kept]], big))
    return found


def inside(logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """logits [n, h, h] with nothing far outside the boxes [n, 4]: a like thing nearby, which box and query tell apart better than pixels."""
    side = logits.shape[-1]
    middle = (torch.arange(side, device=logits.device) + 0.5) / side
    x, y, width, height = boxes[:, :, None].unbind(1)
    reach = lambda at, size: (middle - at).abs() <= size * (1 + BEYOND) / 2 + 1 / side
    return torch.where(reach(y, height)[:, :, None] & reach(x, width)[:, None, :], logits, logits.clamp(max=OUTSIDE))


def distinct(masks: torch.Tensor, same: float = Thresholds.same) -> list[int]:
    """Of masks [n, h, w], best first, those that are not empty and no other view of an earlier one."""
    kept: list[int] = []
    for i, mask in enumerate(masks):
        if mask.any() and all((mask & masks[k]).sum() <= same * (mask | masks[k]).sum() for k in kept):
            kept.append(i)
    return kept
