"""What is wrong with an answer: which query stands for which object, and how far each is off.

Every object a prompt means gets one query, the cheapest assignment of all (Carion et al. 2020), where a query that was selected at
the object's own centre has a head start, so that an object keeps its query from step to step. Other queries that see the same object
are no error of the score: an answer keeps the best of them (answers.distinct).
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn

from .batches import ASKED, TOKENS, Batch
from .lexicon import CLASS_NAMES, COLOUR_NAMES
from .model import Shape

WEIGHTS = {"select": 1.0, "presence": 1.0, "score": 0.5, "box": 3.0, "giou": 1.0, "bce": 4.0, "dice": 2.0, "class": 1.0, "colour": 0.5, "offset": 2.0, "cover": 4.0,
           "words": 0.1, "patches": 0.2}
HEAD_START = 2.0  # what a query at the object's centre is cheaper by
SAME = 0.6  # overlap of boxes from which on a query sees an object that another one stands for


def corners(box):
    return torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def overlap(a, b):
    """Intersection and union of boxes [..., 4] given by corners."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return inner, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner


def giou(a, b):
    """Generalised intersection over union (Rezatofighi et al. 2019) of boxes [..., 4] given by centre and size."""
    a, b = corners(a), corners(b)
    inner, union = overlap(a, b)
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return inner / union.clamp(min=1e-9) - (outer - union) / outer.clamp(min=1e-9)


def heat_loss(logits, heat):
    """Focal loss that forgives near a centre (Zhou et al. 2019, eq. 1), a centre."""
    p = torch.sigmoid(logits).clamp(1e-5, 1 - 1e-5)
    centre = heat > 0.999
    found = ((1 - p) ** 2 * -F.logsigmoid(logits))[centre].sum()
    other = ((1 - heat) ** 4 * p**2 * -F.logsigmoid(-logits))[~centre].sum()
    return (found + other) / max(1, int(centre.sum()))


@torch.no_grad()
def match(layer, chosen, batch: Batch):
    """prompt, query and object of every pair: three equally long index tensors."""
    out = ([], [], [])
    box, score, chosen, centres = layer["box"].cpu(), torch.sigmoid(layer["score"]).cpu(), chosen.cpu(), batch.centres.cpu()
    boxes = batch.boxes.cpu()
    for p, objects in enumerate(batch.targets):
        if not len(objects):
            continue
        objects = objects.cpu()
        want = boxes[objects]
        cost = 3 * torch.cdist(box[p], want, p=1) - 2 * giou(box[p][:, None], want[None]) - 2 * score[p][:, None]
        cost = cost - HEAD_START * (chosen[p][:, None] == centres[objects][None])
        rows, cols = linear_sum_assignment(cost.numpy())
        for to, values in zip(out, ([p] * len(rows), rows.tolist(), objects[cols].tolist())):
            to.extend(values)
    return tuple(torch.tensor(v, dtype=torch.long, device=batch.rgb.device) for v in out)


@torch.no_grad()
def judged(layer, batch: Batch, p, q):
    """[prompts, queries]: 1 where a query's score can be right or wrong, 0 where it sees an object that another query stands for."""
    out = torch.ones_like(layer["score"])
    boxes = corners(layer["box"])
    for prompt, objects in enumerate(batch.targets):
        if len(objects):
            inner, union = overlap(boxes[prompt][:, None], corners(batch.boxes[objects])[None])
            out[prompt, (inner > SAME * union).any(1)] = 0
    out[p, q] = 1
    return out


def covers(batch: Batch):
    """How much of each token is an object's: [objects, tokens]"""
    return F.avg_pool2d(batch.masks[:, None], batch.masks.shape[-1] // TOKENS).flatten(1)


def missed(weights, wanted):
    """−log of how much of what was read, as the mean of the heads, was wanted: weights [n, heads, keys], wanted [n, keys] in [0, 1]; rows
    that want nothing do not count."""
    some = wanted.amax(1) > 0
    on = (weights.float().mean(1) * wanted)[some].sum(1)
    return -on.clamp(min=1e-4).log().mean() if len(on) else weights.sum() * 0


def masks_of(mask, picture, pixels):
    """mask [n, c + 1], picture [n], pixels: a list of maps [h, w, c] → logits [n, h, w]; each map is read once for all its masks."""
    parts, order = [], []
    for p in picture.unique().tolist():
        mine = torch.nonzero(picture == p)[:, 0]
        parts.append((torch.einsum("nc,hwc->nhw", mask[mine, :-1], pixels[p]) * 0.25 + mask[mine, -1, None, None]).float())
        order.append(mine)
    return torch.cat(parts)[torch.argsort(torch.cat(order))]


class Teacher(nn.Module):
    """Asked in training only: what every pixel is, so that pictures are understood long before prompts are, and which tokens lie on
    what a prompt means, so that words find their things from every token and not from the middle ones alone."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.parts = (len(CLASS_NAMES) + 1, len(COLOUR_NAMES) + 1, 2)
        self.read = nn.Linear(shape.pixel, sum(self.parts))
        self.cover_picture, self.cover_text = nn.Linear(shape.width, shape.width), nn.Linear(shape.width, shape.width)
        self.cover_bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, out, batch: Batch):
        kind, colour, offset = self.read(out["pixels"][:, ::ASKED, ::ASKED]).float().split(self.parts, -1)
        tokens, meaning = self.cover_picture(out["tokens"]), self.cover_text(out["meaning"])
        cover = meaning.unflatten(0, (len(tokens), -1)) @ tokens.transpose(1, 2) / meaning.shape[-1] ** 0.5
        on, coloured = batch.classes > 0, batch.colours > 0
        return {"class": F.cross_entropy(kind.flatten(0, 2), batch.classes.flatten()),
                "colour": F.cross_entropy(colour[coloured], batch.colours[coloured]) if coloured.any() else colour.sum() * 0,
                "offset": F.l1_loss(offset[on], batch.offsets[on]),
                "cover": F.binary_cross_entropy_with_logits(cover.flatten(0, 1).float() + self.cover_bias, batch.cover)}


def losses(out, batch: Batch, teacher: Teacher) -> dict[str, torch.Tensor]:
    per = len(batch.targets) // batch.rgb.shape[0]
    there = torch.tensor([float(len(t) > 0) for t in batch.targets], device=batch.rgb.device)
    pixels = out["pixels"].unbind(0)  # one gradient for all masks of a picture, where an index would make a whole batch of zeros for each
    cover = covers(batch)
    cover = cover / cover.amax(1, keepdim=True).clamp(min=1e-6)
    whole = torch.stack([cover[t].amax(0) if len(t) else cover.new_zeros(cover.shape[1]) for t in batch.targets])
    total = {"select": heat_loss(out["select"], batch.heat), **teacher(out, batch)}
    for layer in out["layers"]:
        p, q, o = match(layer, out["chosen"], batch)
        count = max(1, len(o))
        score = torch.zeros_like(layer["score"])
        score[p, q] = 1
        found = {"presence": F.binary_cross_entropy_with_logits(layer["presence"], there),
                 "words": missed(torch.cat([layer["words"][:, :, 0], layer["words"][p, :, q + 1]]), torch.cat([batch.named, batch.named[p]])),
                 "patches": missed(torch.cat([layer["patches"][:, :, 0], layer["patches"][p, :, q + 1]]), torch.cat([whole, cover[o]])),
                 "score": F.binary_cross_entropy_with_logits(layer["score"], score, judged(layer, batch, p, q), reduction="sum") / count}
        if len(o):
            box, want = layer["box"][p, q], batch.boxes[o]
            logits = masks_of(layer["mask"][p, q], p // per, pixels).flatten(1)
            mask = batch.masks[o].flatten(1)
            sure = torch.sigmoid(logits)
            found |= {"box": F.l1_loss(box, want), "giou": (1 - giou(box, want)).mean(),
                      "bce": F.binary_cross_entropy_with_logits(logits, mask),
                      "dice": (1 - (2 * (sure * mask).sum(1) + 1) / (sure.sum(1) + mask.sum(1) + 1)).mean()}
        for name, value in found.items():
            total[name] = total.get(name, 0) + value / len(out["layers"])
    return total


def weighted(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(WEIGHTS[name] * value for name, value in parts.items())
