"""Marian's encoder-decoder, lean enough to train on a CPU.

The parameter names and the arithmetic are those of `transformers.MarianMTModel` (tests/test_model.py compares the logits), so a
trained state dict loads there unchanged. What differs is only how the work is done: weights are cast to bfloat16 where the
machine multiplies those faster, dropout masks come from a pool drawn beforehand, and the output layer's loss and gradient are
computed together in chunks, so that the logits of a batch never exist at once.

    embed: x = E[token] * sqrt(d) + position            position[p] = (sin half, cos half), p from 0
    block: x = LayerNorm(x + dropout(sublayer(x)))       post-norm, as Marian
    attention: softmax(Q K^T / sqrt(d_head)) V           Q, K, V: [batch, heads, tokens, d_head]
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    """What config.json says about the model's size."""

    vocab_size: int
    d_model: int = 256
    ffn: int = 1024
    heads: int = 8
    encoder_layers: int = 3
    decoder_layers: int = 3
    max_positions: int = 512

    @property
    def pad(self) -> int:
        return self.vocab_size - 1

    def marian_config(self) -> dict:
        """The same sizes in the words of transformers' MarianConfig."""
        return {
            "architectures": ["MarianMTModel"], "model_type": "marian",
            "vocab_size": self.vocab_size, "decoder_vocab_size": self.vocab_size, "share_encoder_decoder_embeddings": True,
            "d_model": self.d_model, "encoder_layers": self.encoder_layers, "decoder_layers": self.decoder_layers,
            "encoder_attention_heads": self.heads, "decoder_attention_heads": self.heads,
            "encoder_ffn_dim": self.ffn, "decoder_ffn_dim": self.ffn, "activation_function": "swish",
            "max_position_embeddings": self.max_positions, "scale_embedding": True, "static_position_embeddings": True,
            "normalize_before": False, "normalize_embedding": False, "add_final_layer_norm": False, "add_bias_logits": False,
            "tie_word_embeddings": True, "is_encoder_decoder": True, "use_cache": True,
            "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0,
            "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "classifier_dropout": 0.0, "init_std": 0.02,
            "eos_token_id": 0, "forced_eos_token_id": 0, "bos_token_id": 0, "unk_token_id": 1,
            "pad_token_id": self.pad, "decoder_start_token_id": self.pad, "bad_words_ids": [[self.pad]],
            "num_beams": 4, "max_length": self.max_positions,
        }


def positions(count: int, width: int) -> torch.Tensor:
    """position[p] = (sin(p / 10000^(2i/d)) for every i, then the cosines)."""
    angle = np.array([[p / np.power(10000, 2 * (j // 2) / width) for j in range(width)] for p in range(count)])
    return torch.tensor(np.concatenate([np.sin(angle[:, 0::2]), np.cos(angle[:, 1::2])], axis=1), dtype=torch.float32)


class DropoutPool:
    """Masks drawn once and read at random offsets: drawing them anew is over a quarter of a step on a CPU."""

    def __init__(self, p: float, seed: int, dtype: torch.dtype, device: torch.device, size: int = 1 << 24):
        generator = torch.Generator().manual_seed(seed)
        keep = (torch.rand(size, generator=generator) >= p).float() / (1 - p)
        self.pool, self.rng, self.size, self.p = keep.to(device=device, dtype=dtype), np.random.default_rng(seed), size, p

    def mask(self, x: torch.Tensor) -> torch.Tensor:
        count = x.numel()
        if count > self.size:
            self.pool = self.pool.repeat(-(-count // self.size))
            self.size = self.pool.numel()
        start = int(self.rng.integers(0, self.size - count + 1))
        return self.pool[start:start + count].view(x.shape)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(width, width))

    def split(self, x):  # [batch, tokens, width] -> [batch, heads, tokens, width / heads]
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, memory=None, hidden=None, past=None):
        """`hidden` is added to the scores: 0, or a large negative number at keys that may not be seen."""
        dtype = x.dtype
        if memory is None:
            names = (self.q_proj, self.k_proj, self.v_proj)
            q, k, v = F.linear(x, torch.cat([n.weight for n in names]).to(dtype),
                               torch.cat([n.bias for n in names]).to(dtype)).chunk(3, -1)
            k, v = self.split(k), self.split(v)
            if past is not None:
                if past.get("k") is not None:
                    k, v = torch.cat([past["k"], k], 2), torch.cat([past["v"], v], 2)
                past["k"], past["v"] = k, v
        else:
            q = F.linear(x, self.q_proj.weight.to(dtype), self.q_proj.bias.to(dtype))
            if past is not None and past.get("k") is not None:
                k, v = past["k"], past["v"]
            else:
                names = (self.k_proj, self.v_proj)
                k, v = F.linear(memory, torch.cat([n.weight for n in names]).to(dtype),
                                torch.cat([n.bias for n in names]).to(dtype)).chunk(2, -1)
                k, v = self.split(k), self.split(v)
                if past is not None:
                    past["k"], past["v"] = k, v
        q = self.split(q * (q.shape[-1] // self.heads) ** -0.5)
        scores = q @ k.transpose(-1, -2)
        weights = torch.softmax(scores if hidden is None else scores + hidden, -1)
        mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
        return F.linear(mixed, self.out_proj.weight.to(dtype), self.out_proj.bias.to(dtype)), scores, weights


class Layer(nn.Module):
    def __init__(self, shape: Shape, cross: bool):
        super().__init__()
        self.self_attn = Attention(shape.d_model, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.d_model)
        if cross:
            self.encoder_attn = Attention(shape.d_model, shape.heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(shape.d_model)
        self.fc1 = nn.Linear(shape.d_model, shape.ffn)
        self.fc2 = nn.Linear(shape.ffn, shape.d_model)
        self.final_layer_norm = nn.LayerNorm(shape.d_model)

    def add(self, x, y, norm, drop):
        x = x + y if drop is None else torch.addcmul(x, y, drop.mask(y))
        return F.layer_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.bias.to(x.dtype))

    def feed_forward(self, x, drop):
        dtype = x.dtype
        y = F.silu(F.linear(x, self.fc1.weight.to(dtype), self.fc1.bias.to(dtype)))
        if drop is not None:
            y = y * drop.mask(y)
        return self.add(x, F.linear(y, self.fc2.weight.to(dtype), self.fc2.bias.to(dtype)), self.final_layer_norm, drop)


class Stack(nn.Module):
    def __init__(self, shape: Shape, count: int, cross: bool):
        super().__init__()
        self.layers = nn.ModuleList(Layer(shape, cross) for _ in range(count))


class Half(nn.Module):
    """`model.` in the parameter names."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shared = nn.Embedding(shape.vocab_size, shape.d_model, padding_idx=shape.pad)
        self.encoder = Stack(shape, shape.encoder_layers, False)
        self.decoder = Stack(shape, shape.decoder_layers, True)


class Marian(nn.Module):
    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.shape, self.dtype, self.drop = shape, dtype, None
        self.model = Half(shape)
        self.register_buffer("positions", positions(shape.max_positions, shape.d_model), persistent=False)
        self.start()

    def start(self):
        for name, p in self.named_parameters():
            if p.dim() == 2 and "shared" not in name:
                nn.init.xavier_uniform_(p)
            elif "shared" in name:
                nn.init.normal_(p, std=self.shape.d_model ** -0.5)
                p.data[self.shape.pad].zero_()
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def embed(self, tokens, first=0):
        x = F.embedding(tokens, self.model.shared.weight, padding_idx=self.shape.pad) * math.sqrt(self.shape.d_model)
        x = (x + self.positions[first:first + tokens.shape[1]]).to(self.dtype)
        return x if self.drop is None else x * self.drop.mask(x)

    def hide(self, tokens):
        """Scores of padded keys: [batch, 1, 1, tokens]."""
        return (tokens == self.shape.pad).to(self.dtype)[:, None, None, :] * -1e4

    def encode(self, tokens, see=None):
        """`see(block, layer, scores, weights)` is handed every layer's attention."""
        x, hidden = self.embed(tokens), self.hide(tokens)
        for n, layer in enumerate(self.model.encoder.layers):
            y, scores, weights = layer.self_attn(x, hidden=hidden)
            if see is not None:
                see("encoder", n, scores + hidden, weights)
            x = layer.add(x, y, layer.self_attn_layer_norm, self.drop)
            x = layer.feed_forward(x, self.drop)
        return x, hidden

    def decode(self, tokens, memory, hidden, see=None, past=None):
        """Hidden states of the decoder for the tokens given; with `past`, for tokens that follow those given before."""
        first = past[0]["self"]["k"].shape[2] if past and past[0]["self"].get("k") is not None else 0
        x = self.embed(tokens, first)
        count = tokens.shape[1]
        later = torch.full((count, first + count), -1e4, dtype=self.dtype, device=x.device).triu(first + 1)
        for n, layer in enumerate(self.model.decoder.layers):
            kept = past[n] if past is not None else {"self": None, "cross": None}
            y, scores, weights = layer.self_attn(x, hidden=later, past=kept["self"])
            if see is not None:
                see("decoder_self", n, scores + later, weights)
            x = layer.add(x, y, layer.self_attn_layer_norm, self.drop)
            y, scores, weights = layer.encoder_attn(x, memory=memory, hidden=hidden, past=kept["cross"])
            if see is not None:
                see("decoder_cross", n, scores + hidden, weights)
            x = layer.add(x, y, layer.encoder_attn_layer_norm, self.drop)
            x = layer.feed_forward(x, self.drop)
        return x

    def logits(self, x):
        return (x @ self.model.shared.weight.to(x.dtype).t()).float()

    def no_past(self):
        return [{"self": {}, "cross": {}} for _ in range(self.shape.decoder_layers)]


class SmoothedLoss(torch.autograd.Function):
    """Sum over rows of the label-smoothed cross-entropy of softmax(x E^T); the gradient is made in the same pass.

    loss = lse - (1 - eps) * logit[y] - eps * mean(logits);   d_logits = softmax - (1 - eps) * onehot(y) - eps / V
    """

    @staticmethod
    def forward(ctx, x, embedding, target, smoothing, chunk=512):
        # x [rows, d], embedding [V, d] (float32), target [rows]
        low = embedding.to(x.dtype)
        d_x, d_low = torch.empty_like(x), torch.zeros_like(embedding)
        loss = plain = 0.0
        for a in range(0, len(x), chunk):
            rows, want = x[a:a + chunk], target[a:a + chunk, None]
            logits = (rows @ low.t()).float()
            mean = logits.mean(1)
            picked = logits.gather(1, want)[:, 0]
            lse = logits.logsumexp(1)
            plain += float((lse - picked).sum())
            loss += (lse - (1 - smoothing) * picked - smoothing * mean).sum()
            d = logits.sub_(lse[:, None]).exp_().sub_(smoothing / low.shape[0])
            d.scatter_add_(1, want, torch.full_like(want, -(1 - smoothing), dtype=d.dtype))
            d = d.to(x.dtype)
            d_x[a:a + chunk] = d @ low
            d_low += (d.t() @ rows).float()
        ctx.save_for_backward(d_x, d_low)
        return loss, torch.tensor(plain)

    @staticmethod
    def backward(ctx, d_loss, _):
        d_x, d_low = ctx.saved_tensors
        return d_x * d_loss.to(d_x.dtype), d_low * d_loss, None, None, None


def shape_dict(shape: Shape) -> dict:
    return asdict(shape)
