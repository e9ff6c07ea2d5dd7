"""Greedy translation with the lean model, for looking at a run while it trains. (Reported scores come from transformers.)"""

import torch

from .batches import padded


@torch.no_grad()
def greedy(model, tokenizer, texts: list[str], to: str, batch: int = 100, longest: int = 60) -> list[str]:
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    result = [""] * len(texts)
    device = model.positions.device
    for a in range(0, len(order), batch):
        part = order[a:a + batch]
        rows = [[tokenizer.to[to], *tokenizer.encode(texts[n]), tokenizer.eos] for n in part]
        memory, hidden = model.encode(padded(rows, tokenizer.pad).to(device))
        past, token = model.no_past(), torch.full((len(part), 1), tokenizer.pad, device=device)
        done, out = torch.zeros(len(part), dtype=torch.bool, device=device), []
        for _ in range(longest):
            logits = model.logits(model.decode(token, memory, hidden, past=past)[:, -1])
            logits[:, tokenizer.pad] = -torch.inf
            token = torch.where(done, tokenizer.eos, logits.argmax(-1))[:, None]
            out.append(token)
            done |= token[:, 0] == tokenizer.eos
            if done.all():
                break
        for n, row in zip(part, torch.cat(out, 1).tolist()):
            result[n] = tokenizer.decode(row[:row.index(tokenizer.eos)] if tokenizer.eos in row else row)
    return result
