"""The finder: a picture and a prompt in, every object the prompt names out. The PyTorch twin of src/models/finder.

    stem     pixels [256, 256, 3] → 4×4 patches [64·64, 64] → merged 2×2 [32·32, 128] → merged 2×2 [16·16, 192]
    picture  6 layers of self-attention over the 256 tokens
    text     2 layers of self-attention over the pieces of the prompt; `meaning` is their mean
    select   the 16 tokens most like the meaning become object queries
    decoder  3 layers: queries (and one presence token) read each other, the words, the picture
    heads    presence; a query's score, box and mask = query · pixel at half the picture's size

All blocks are normalised before (Xiong et al. 2020). What follows DETR (Carion et al. 2020): a set of queries, one answer each;
MaskFormer (Cheng et al. 2021): masks as products with pixels; SAM 3 (Carion et al. 2025): the presence token.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    image: int = 256
    patch: int = 4  # the finest patches; tokens are four times as wide
    fine: int = 64
    middle: int = 128
    width: int = 192
    heads: int = 6
    picture_layers: int = 6
    picture_ffn: int = 576
    vocabulary: int = 8192
    piece: int = 64
    words: int = 24  # pieces of a prompt at most, the end included
    text_layers: int = 2
    text_ffn: int = 256
    decoder_layers: int = 3
    decoder_ffn: int = 384
    queries: int = 16
    pixel: int = 64

    @property
    def side(self) -> int:
        """Tokens a side."""
        return self.image // (4 * self.patch)

    @property
    def mask_side(self) -> int:
        """Pixels of a mask a side: four to each of the finest patches."""
        return 2 * self.image // self.patch


def shape_dict(shape: Shape) -> dict:
    return asdict(shape)


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[n, tokens, heads·dim] → [n, heads, tokens, dim]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    """softmax(Q·Kᵀ / √d)·V for every head; x asks, memory (x itself if none is given) answers."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def remember(self, memory):
        return split(self.k(memory), self.heads), split(self.v(memory), self.heads)

    def forward(self, x, remembered=None, visible=None):
        return self.read(x, remembered, visible)[0]

    def read(self, x, remembered=None, visible=None):
        """→ what is taken [n, tokens, width], and the weights [n, heads, tokens, keys]"""
        k, v = self.remember(x) if remembered is None else remembered
        # In plain steps: at a few hundred tokens PyTorch's fused backward is several times slower than these on a CPU.
        scores = split(self.q(x) / math.sqrt(k.shape[-1]), self.heads) @ k.transpose(-1, -2)
        if visible is not None:
            scores = scores.masked_fill(~visible, -1e4)
        weights = scores.softmax(-1)
        y = weights.to(v.dtype) @ v
        return self.out(y.transpose(1, 2).flatten(2)), weights


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class EncoderLayer(nn.Module):
    """x += self(norm(x)); x += feed_forward(norm(x))"""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, hidden)

    def forward(self, x, visible=None):
        x = x + self.self_attention(self.self_norm(x), None, visible)
        return x + self.feed_forward(self.norm(x))


class LocalBlock(nn.Module):
    """Neighbours mixed 3×3 in each channel, then the channels: x += W₂·gelu(W₁·norm(mix(x))). x [n, h, w, channels]."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.feed_forward = nn.LayerNorm(channels), FeedForward(channels, 2 * channels)

    def forward(self, x):
        y = self.mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.feed_forward(self.norm(y))


def merge(x: torch.Tensor, n: int) -> torch.Tensor:
    """Each n×n block of a map becomes one row: [b, h, w, c] → [b, h/n, w/n, n·n·c], rows of the block first."""
    b, h, w, c = x.shape
    return x.view(b, h // n, n, w // n, n, c).transpose(2, 3).reshape(b, h // n, w // n, n * n * c)


def spread(x: torch.Tensor, n: int) -> torch.Tensor:
    """The way back: [b, h, w, n·n·c] → [b, h·n, w·n, c]"""
    b, h, w, c = x.shape
    return x.view(b, h, w, n, n, c // (n * n)).transpose(2, 3).reshape(b, h * n, w * n, c // (n * n))


class Mlp(nn.Module):
    def __init__(self, width: int, out: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, out)

    def forward(self, x):
        return self.out(F.gelu(self.hidden(x), approximate="tanh"))


class PictureEncoder(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.shape = s
        self.patch = nn.Linear(3 * s.patch**2, s.fine)
        self.fine = nn.ModuleList([LocalBlock(s.fine)])
        self.to_middle = nn.Linear(4 * s.fine, s.middle)
        self.middle = nn.ModuleList([LocalBlock(s.middle) for _ in range(2)])
        self.to_tokens = nn.Linear(4 * s.middle, s.width)
        self.position = nn.Parameter(torch.randn(s.side**2, s.width) * 0.1)
        self.layers = nn.ModuleList([EncoderLayer(s.width, s.heads, s.picture_ffn) for _ in range(s.picture_layers)])
        self.norm = nn.LayerNorm(s.width)
        self.token_pixels = nn.Linear(s.width, 16 * s.pixel)
        self.middle_pixels = nn.Linear(s.middle, 4 * s.pixel)
        self.fine_pixels = nn.Linear(s.fine, s.pixel)
        self.pixel = LocalBlock(s.pixel)
        self.pixel_norm = nn.LayerNorm(s.pixel)
        self.sharpen = Mlp(s.pixel, 4 * s.pixel)

    def forward(self, rgb):
        """rgb [n, h, w, 3] in [0, 1] → tokens [n, side², width], pixels [n, mask_side, mask_side, pixel]"""
        s = self.shape
        fine = self.patch(merge((rgb - 0.5) * 4, s.patch))
        for block in self.fine:
            fine = block(fine)
        middle = self.to_middle(merge(fine, 2))
        for block in self.middle:
            middle = block(middle)
        x = self.to_tokens(merge(middle, 2)).flatten(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        coarse = self.token_pixels(x).unflatten(1, (s.side, s.side))
        pixels = spread(coarse, 4) + spread(self.middle_pixels(middle), 2) + self.fine_pixels(fine)
        pixels = self.pixel_norm(self.pixel(pixels))
        return x, spread(pixels.repeat(1, 1, 1, 4) + self.sharpen(pixels), 2)


class TextEncoder(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.pieces = nn.Embedding(s.vocabulary, s.piece)
        self.widen = nn.Linear(s.piece, s.width)
        self.position = nn.Parameter(torch.randn(s.words, s.width) * 0.1)
        self.layers = nn.ModuleList([EncoderLayer(s.width, s.heads, s.text_ffn) for _ in range(s.text_layers)])
        self.norm = nn.LayerNorm(s.width)

    def forward(self, ids, lengths):
        """ids [n, words], of which the first lengths[n] count → words [n, words, width], visible [n, 1, 1, words], meaning [n, width]"""
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        visible = real[:, None, None, :]
        x = self.widen(self.pieces(ids)) + self.position[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, visible)
        x = self.norm(x)
        meaning = (x * real[:, :, None]).sum(1) / lengths[:, None]
        return x, visible, meaning.to(x.dtype)


class DecoderLayer(nn.Module):
    """x += self(norm(x)); x += words(norm(x)); x += picture(norm(x)); x += feed_forward(norm(x))"""

    def __init__(self, s: Shape):
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(s.width), Attention(s.width, s.heads)
        self.text_norm, self.text_attention = nn.LayerNorm(s.width), Attention(s.width, s.heads)
        self.picture_norm, self.picture_attention = nn.LayerNorm(s.width), Attention(s.width, s.heads)
        self.norm, self.feed_forward = nn.LayerNorm(s.width), FeedForward(s.width, s.decoder_ffn)

    def forward(self, x, words, visible, picture):
        """x [prompts, 1 + queries, width]; words and picture as their attentions remember them. → x, and the weights over words and
        patches [prompts, heads, 1 + queries, keys]"""
        x = x + self.self_attention(self.self_norm(x))
        taken, words_read = self.text_attention.read(self.text_norm(x), words, visible)
        x = x + taken
        taken, patches_read = self.read_picture(self.picture_norm(x), picture)
        x = x + taken
        return x + self.feed_forward(self.norm(x)), words_read, patches_read

    def read_picture(self, x, picture):
        """The prompts of one picture ask it together: attention of a query does not depend on the others."""
        pictures = picture[0].shape[0]
        together = x.reshape(pictures, -1, x.shape[-1])
        taken, weights = self.picture_attention.read(together, picture)
        return taken.view_as(x), weights.unflatten(2, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)


class Finder(nn.Module):
    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        s = self.shape = shape
        self.picture, self.text = PictureEncoder(s), TextEncoder(s)
        self.select_picture, self.select_text = nn.Linear(s.width, s.width), nn.Linear(s.width, s.width)
        self.select_bias = nn.Parameter(torch.tensor(-4.0))
        self.query_picture, self.query_text = nn.Linear(s.width, s.width), nn.Linear(s.width, s.width)
        self.presence_token = nn.Parameter(torch.randn(s.width) * 0.5)
        self.decoder = nn.ModuleList([DecoderLayer(s) for _ in range(s.decoder_layers)])
        self.norm = nn.LayerNorm(s.width)
        self.presence, self.score = nn.Linear(s.width, 1), nn.Linear(s.width, 1)
        self.box, self.mask = Mlp(s.width, 4), Mlp(s.width, s.pixel + 1)
        side = (torch.arange(s.side) + 0.5) / s.side
        y, x = torch.meshgrid(side, side, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], -1).view(-1, 2), persistent=False)
        with torch.no_grad():
            self.score.bias.fill_(-1.0)
            self.mask.out.bias[-1] = -1.0
            for layer in (*self.picture.layers, *self.text.layers, *self.decoder):
                for name, p in layer.named_parameters():
                    if name.endswith(("out.weight", "down.weight")):
                        p.mul_(0.5)

    def select(self, tokens, meaning):
        """tokens [pictures, t, width], meaning [prompts, width] → logits [prompts, t]: is an object that is meant centred here?"""
        per = meaning.shape[0] // tokens.shape[0]
        asked = self.select_text(meaning).unflatten(0, (-1, per))
        logits = asked @ self.select_picture(tokens).transpose(1, 2) / math.sqrt(self.shape.width)
        return logits.flatten(0, 1).float() + self.select_bias

    def forward(self, rgb, ids, lengths, forced=None):
        """rgb [pictures, h, w, 3]; ids [pictures·per, words]: as many prompts of each picture, together. forced [prompts, t]:
        tokens that are selected whatever their logits (training).

        Returns a dict: tokens [pictures, t, width], meaning [prompts, width], select [prompts, t], chosen [prompts, queries],
        pixels [pictures, mask_side, mask_side, c], and in layers, for each of the decoder's, presence [prompts], score [prompts, queries], box [prompts, queries, 4] (centre, size in [0, 1]),
        mask [prompts, queries, c + 1], whose product with the pixels, plus its last number, is the mask's logit, and the weights over words and patches
        [prompts, heads, 1 + queries, keys], of which the first row is the presence token's."""
        tokens, pixels = self.picture(rgb)
        words, visible, meaning = self.text(ids, lengths)
        per = ids.shape[0] // rgb.shape[0]
        logits = self.select(tokens, meaning)
        ranking = logits.detach() if forced is None else logits.detach() + 100 * forced
        chosen = ranking.topk(self.shape.queries, 1).indices
        owner = torch.arange(ids.shape[0], device=ids.device)[:, None] // per
        x = self.query_picture(tokens)[owner, chosen] + self.query_text(meaning)[:, None]
        x = torch.cat([self.presence_token.to(x.dtype).expand(x.shape[0], 1, -1), x], 1)
        anchor = torch.logit(self.centres[chosen])
        layers = []
        for layer in self.decoder:
            x, words_read, patches_read = layer(x, layer.text_attention.remember(words), visible, layer.picture_attention.remember(tokens))
            layers.append(self.heads(x, anchor) | {"words": words_read, "patches": patches_read})
        return {"tokens": tokens, "meaning": meaning, "select": logits, "chosen": chosen, "pixels": pixels, "layers": layers}

    def heads(self, x, anchor):
        y = self.norm(x)
        box = self.box(y[:, 1:]).float()
        return {"presence": self.presence(y[:, 0]).float()[:, 0], "score": self.score(y[:, 1:]).float()[..., 0],
                "box": torch.cat([torch.sigmoid(box[..., :2] + anchor), torch.sigmoid(box[..., 2:] - 1.5)], -1),
                "mask": self.mask(y[:, 1:])}


def mask_logits(mask, pixels):
    """mask [n, c + 1], pixels [n or 1, h, w, c] → [n, h, w]"""
    return (torch.einsum("nc,nhwc->nhw", mask[:, :-1], pixels.expand(mask.shape[0], -1, -1, -1)) * 0.25 + mask[:, -1, None, None]).float()
