"""From a picture and its prompts to the numbers a step needs."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from . import prompts, scenes, strange
from .lexicon import CLASS_NAMES, CLASSES, COLOUR_NAMES, COLOUR_WORDS
from .model import Shape

VOCABULARY = Path(__file__).resolve().parents[2] / "models" / "translate-en-zh"
HALF, TOKENS = scenes.SIZE // 2, scenes.SIZE // 16
STRANGE = 0.3  # share of training prompts with pieces around them that nothing explains
ASKED = 3  # every so many pixels of a half the teacher asks what it is: odd, so that each of a patch's four has its turn
# What prompts name: classes, colours, places and sizes, and things no picture has.
NAMES = (*(text for c in CLASSES.values() for text in (*c.en, *c.plurals, *c.zh)),
         *(text for both in COLOUR_WORDS.values() for words in both for text in words),
         *(text for en, zh, *_ in (*prompts.PLACES.values(), *prompts.SIZES.values()) for text in (*en, *zh)),
         *(text for both in prompts.FOREIGN.values() for words in both for text in words))


class Pieces:
    """Text to ids, as src/models/tokenizer.h numbers them; the end of sentence is the last."""

    def __init__(self, folder: Path = VOCABULARY):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
        self.ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self.unknown, self.end = self.ids["<unk>"], self.ids["</s>"]

    def __call__(self, text: str, most: int) -> list[int]:
        found = [self.ids.get(piece, self.unknown) for piece in self.sp.encode(text, out_type=str)]
        return [*found[: most - 1], self.end]

    def of(self, texts) -> set[str]:
        """The pieces of texts and frames."""
        return {piece for text in texts for piece in self.sp.encode(text.replace("{s}", "").replace("{n}", "").replace("{m}", ""), out_type=str)}

    @cached_property
    def named(self) -> frozenset[int]:
        """Pieces of what a prompt names, but those of the words around it."""
        pieces = self.of(NAMES) - self.of(prompts.FRAMES)
        return frozenset(self.ids[piece] for piece in pieces if piece in self.ids)

    @cached_property
    def strangers(self) -> np.ndarray:
        """Pieces of no word that a prompt is made of, in training or in measuring."""
        known = self.of((*NAMES, *(c.measure for c in CLASSES.values()), *prompts.FRAMES))
        return np.array([i for piece, i in self.ids.items() if piece not in known and piece[0] not in "<>"])

    @cached_property
    def strange_words(self) -> dict[str, list[str]]:
        """By language: those of them that are words, and twice as many that are made up, of any pieces."""
        strangers = set(self.strangers.tolist())
        pieces = [piece for piece, i in self.ids.items() if i in strangers]
        words = {"en": [p[1:] for p in pieces if p[0] == "▁" and len(p) > 3 and p[1:].isascii() and p[1:].isalpha()],
                 "zh": [p for p in pieces if all("\u4e00" <= c <= "\u9fff" for c in p)]}
        return {language: [*found, *strange.made_up(language, 2 * len(found))] for language, found in words.items()}

    def among_strangers(self, ids: list[int], most: int, rng) -> list[int]:
        """A prompt's pieces, the end included, with one to three others before or after them, if there is room."""
        count = min(int(rng.integers(1, 4)), most - len(ids))
        if count <= 0:
            return ids
        others = rng.choice(self.strangers, count).tolist()
        return [*others, *ids] if rng.random() < 0.5 else [*ids[:-1], *others, self.end]


@dataclass
class Example:
    """One picture: what is in it, and its prompts."""

    rgb: np.ndarray  # [size, size, 3] uint8
    ids: np.ndarray  # [size, size] uint8
    masks: np.ndarray  # [things, size/2, size/2] uint8: pixels of each block of 2×2 that are the thing's, 0 to 4
    boxes: np.ndarray  # [things, 4] float32: centre and size in [0, 1], of what can be seen
    centres: np.ndarray  # [things] the token an object is centred in
    heat: np.ndarray  # [things, tokens] float32: 1 there, less around it
    classes: np.ndarray  # [asked, asked], every ASKEDth pixel of size/2: 0 nothing, else 1 + class
    colours: np.ndarray  # [asked, asked]: 0 none, else 1 + colour
    offsets: np.ndarray  # [asked, asked, 2] float32: from the pixel to the middle of its object
    prompts: list[prompts.Prompt]  # targets and candidates are rows of masks here
    pieces: list[list[int]]
    named: list[list[bool]]  # which of them say what is asked for


def boxes_of(ids: np.ndarray, numbers: list[int]) -> np.ndarray:
    """[n, 4] centre and size in [0, 1]"""
    size = ids.shape[0]
    out = np.zeros((len(numbers), 4), np.float32)
    for i, n in enumerate(numbers):
        mask = ids == n
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x0, x1, y0, y1 = xs[0], xs[-1] + 1, ys[0], ys[-1] + 1
        out[i] = (x0 + x1) / 2 / size, (y0 + y1) / 2 / size, (x1 - x0) / size, (y1 - y0) / size
    return out


def halved(mask: np.ndarray) -> np.ndarray:
    """Pixels of every block of 2×2 that are set: [size, size] bool → [size/2, size/2] uint8"""
    m = mask.view(np.uint8)
    rows = m[0::2] + m[1::2]
    return rows[:, 0::2] + rows[:, 1::2]  # many times as fast as a sum over short axes


def covered(masks: np.ndarray) -> np.ndarray:
    """Pixels of every token that lie on each mask: [n, size/2, size/2] → [n, tokens, tokens], 0 to 256"""
    return masks.reshape(-1, TOKENS, 8, TOKENS, 8).sum((2, 4), dtype=np.int32)


def centre_token(cover: np.ndarray) -> int:
    """The token nearest to the middle of what is seen, among those that hold a good part of it. cover [tokens, tokens]"""
    ys, xs = np.nonzero(cover >= 0.5 * cover.max())
    all_y, all_x = np.nonzero(cover)
    weight = cover[all_y, all_x]
    y, x = (all_y * weight).sum() / weight.sum(), (all_x * weight).sum() / weight.sum()
    k = np.argmin((ys - y) ** 2 + (xs - x) ** 2)
    return int(ys[k] * TOKENS + xs[k])


GRID = np.stack(np.meshgrid(np.arange(TOKENS), np.arange(TOKENS), indexing="ij"), -1).reshape(-1, 2)


def example(picture: scenes.Picture, asked: list[prompts.Prompt], pieces: list[list[int]], named: frozenset[int]) -> Example:
    numbers = [t.number for t in picture.things]
    row = {n: i for i, n in enumerate(numbers)}
    masks = np.stack([halved(picture.ids == n) for n in numbers])
    boxes = boxes_of(picture.ids, numbers)
    cover = covered(masks)
    centres = np.array([centre_token(c) for c in cover])
    far = ((GRID[None] - GRID[centres][:, None]) ** 2).sum(-1)
    wide = np.maximum(0.4, 0.12 * TOKENS * np.sqrt(boxes[:, 2] * boxes[:, 3]))
    heat = np.exp(-far / (2 * wide[:, None] ** 2)) * (cover.reshape(len(numbers), -1) > 0)
    asked_pixels = picture.ids[:: 2 * ASKED, :: 2 * ASKED]
    classes, colours = np.zeros(256, np.int64), np.zeros(256, np.int64)
    middles = np.zeros((256, 2), np.float32)
    for t, box in zip(picture.things, boxes):
        classes[t.number] = 1 + CLASS_NAMES.index(t.name)
        colours[t.number] = 1 + COLOUR_NAMES.index(t.colour) if t.colour else 0
        middles[t.number] = box[:2]
    at = (np.arange(HALF, dtype=np.float32)[::ASKED] + 0.5) / HALF
    offsets = middles[asked_pixels] - np.stack(np.meshgrid(at, at), -1)
    for p in asked:
        p.targets, p.candidates = [row[n] for n in p.targets], [row[n] for n in p.candidates]
    return Example(picture.rgb, picture.ids, masks, boxes, centres, heat.astype(np.float32), classes[asked_pixels], colours[asked_pixels], offsets, asked, pieces,
                   [[i in named for i in ids] for ids in pieces])


class Pictures(torch.utils.data.Dataset):
    """Endless numbered examples of one split; the same number is the same example."""

    def __init__(self, split: str, count: int, per: int, shape: Shape, seed: int = 0, unseen_wording=False, first: int = 0):
        self.split, self.count, self.per, self.shape, self.seed = split, count, per, shape, seed
        self.unseen_wording, self.first, self.pieces = unseen_wording, first, None

    def __len__(self):
        return self.count

    def __getitem__(self, index: int) -> Example:
        self.pieces = self.pieces or Pieces()
        number = self.first + index
        picture = scenes.draw(self.split, number)
        rng = np.random.Generator(np.random.SFC64([self.seed, number, 77]))
        words = self.pieces.strange_words if self.split == "train" else None
        asked = prompts.Asker(picture, rng, self.split == "unseen", self.unseen_wording, words).make(self.per)
        pieces = [self.pieces(p.text, self.shape.words) for p in asked]
        if self.split == "train":
            rng = np.random.Generator(np.random.SFC64([self.seed, number, 78]))
            pieces = [self.pieces.among_strangers(ids, self.shape.words, rng) if rng.random() < STRANGE else ids for ids in pieces]
        return example(picture, asked, pieces, self.pieces.named)


@dataclass
class Batch:
    """As many prompts for each picture; prompt p belongs to picture p // per. Objects are numbered over the whole batch."""

    rgb: torch.Tensor  # [pictures, size, size, 3] in [0, 1]
    pieces: torch.Tensor  # [prompts, longest]
    lengths: torch.Tensor  # [prompts]
    named: torch.Tensor  # [prompts, longest]: 1 for the pieces that say what is asked for
    targets: list[torch.Tensor]  # for each prompt the objects it means
    picture_of: torch.Tensor  # [objects]
    masks: torch.Tensor  # [objects, size/2, size/2] in [0, 1]
    boxes: torch.Tensor  # [objects, 4]
    centres: torch.Tensor  # [objects]
    heat: torch.Tensor  # [prompts, tokens]
    cover: torch.Tensor  # [prompts, tokens]: how much of a token lies on what the prompt could mean, without its place or size
    forced: torch.Tensor  # [prompts, tokens]
    classes: torch.Tensor  # [pictures, asked, asked]
    colours: torch.Tensor
    offsets: torch.Tensor  # [pictures, asked, asked, 2]
    examples: list[Example] | None = None

    def to(self, device):
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.to(device, non_blocking=True))
        self.targets = [t.to(device) for t in self.targets]
        return self


def collate(examples: list[Example]) -> Batch:
    pieces = [p for e in examples for p in e.pieces]
    longest = max(map(len, pieces))
    padded, named = torch.zeros(len(pieces), longest, dtype=torch.long), torch.zeros(len(pieces), longest)
    for row, p in zip(padded, pieces):
        row[: len(p)] = torch.tensor(p)
    for row, those in zip(named, (n for e in examples for n in e.named)):
        row[: len(those)] = torch.tensor(those)
    first = np.cumsum([0] + [len(e.masks) for e in examples])
    asked = [(start, e, p) for start, e in zip(first, examples) for p in e.prompts]
    heat, cover, forced = (torch.zeros(len(asked), TOKENS**2) for _ in range(3))
    for n, (_, e, p) in enumerate(asked):
        if p.candidates:
            heat[n] = torch.from_numpy(e.heat[p.candidates].max(0))
            forced[n, e.centres[p.candidates]] = 1
            cover[n] = torch.from_numpy(covered(e.masks[p.candidates].sum(0, dtype=np.int32)[None])[0].reshape(-1) / 256)
    stack = lambda name: torch.from_numpy(np.stack([getattr(e, name) for e in examples]))
    joined = lambda name: torch.from_numpy(np.concatenate([getattr(e, name) for e in examples]))
    return Batch(stack("rgb").float() / 255, padded, torch.tensor([len(p) for p in pieces]), named,
                 [torch.tensor([start + t for t in p.targets], dtype=torch.long) for start, _, p in asked],
                 torch.from_numpy(np.repeat(np.arange(len(examples)), [len(e.masks) for e in examples])),
                 joined("masks").float() / 4, joined("boxes"), joined("centres"), heat, cover.float(), forced,
                 stack("classes"), stack("colours"), stack("offsets"))


def collate_kept(examples: list[Example]) -> Batch:
    """With the examples themselves, for measuring."""
    batch = collate(examples)
    batch.examples = examples
    return batch
