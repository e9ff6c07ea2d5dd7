"""Learning to look up a key, by gradient descent through qkv.    python examples/python/associative_recall.py [--steps N]

A sequence is eight pairs of a key and a value, k7 v3, k50 v21, …, and a question, k50? The answer is v21. Pairs are drawn anew for
every sequence, so nothing can be learned by heart: what the projections can learn is to find the pair by its key and to bring
its value. Printed before and after: the loss, how often the answer is right, and where the question looked.
"""
import argparse

import torch
from torch import nn

import qkv

KINDS, PAIRS, WIDTH, HEAD, BATCH = 32, 8, 64, 32, 64


class Recall(nn.Module):
    """One layer of cross-attention: the question asks the pairs."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Embedding(KINDS, WIDTH), nn.Embedding(KINDS, WIDTH)
        self.w_q, self.w_k, self.w_v = (nn.Linear(WIDTH, HEAD, bias=False) for _ in range(3))
        self.w_o = nn.Linear(HEAD, KINDS)

    def forward(self, keys, values, asked, trace=None):
        pairs = self.keys(keys) + self.values(values)  # [batch, pairs, width]
        query = self.w_q(self.keys(asked))[:, None, None]  # [batch, 1 head, 1 query, head]
        key, value = self.w_k(pairs)[:, None], self.w_v(pairs)[:, None]
        read = qkv.attention(query, key, value, trace=trace)
        out, seen = read if trace else (read, None)
        return self.w_o(out[:, 0, 0]), seen


def sequences(generator):
    """keys, values [batch, pairs], and which pair is asked for [batch]."""
    keys = torch.stack([torch.randperm(KINDS, generator=generator)[:PAIRS] for _ in range(BATCH)])
    values = torch.randint(KINDS, (BATCH, PAIRS), generator=generator)
    return keys, values, torch.randint(PAIRS, (BATCH,), generator=generator)


def show(when, model, generator):
    keys, values, place = sequences(generator)
    rows = torch.arange(BATCH)
    with torch.no_grad():
        logits, seen = model(keys, values, keys[rows, place], trace=qkv.Trace(top=PAIRS))
    right = (logits.argmax(-1) == values[rows, place]).float().mean()
    looked = (seen.top_keys[:, 0, 0, 0] == place).float().mean()
    loss = nn.functional.cross_entropy(logits, values[rows, place])
    print(f"{when}: loss {loss:.3f}, recall {right:.1%}, looked at the right pair in {looked:.1%}")
    read = sorted(zip(seen.top_keys[0, 0, 0].tolist(), seen.top_weights[0, 0, 0].tolist()))
    print(f"  k{keys[0, place[0]]} is in pair {place[0]}; weights " + " ".join(f"{weight:.2f}" for _, weight in read))
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Recall()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    show("before", model, generator)
    for step in range(steps):
        keys, values, place = sequences(generator)
        rows = torch.arange(BATCH)
        logits, _ = model(keys, values, keys[rows, place])
        loss = nn.functional.cross_entropy(logits, values[rows, place])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 150 == 0:
            print(f"step {step + 1}: loss {loss:.3f}")
    return 0 if show("after", model, generator) > 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
