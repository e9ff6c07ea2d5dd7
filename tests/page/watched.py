"""Writes a page of qkv.watch: a Llama-shaped model with random weights reads the project's own documentation, word by word.

    .venv/bin/python tests/page/watched.py page.html [--tokens 4096] [--layers 2] [--heads 4] [--dim 64] [--dtype float32]
                                                    [+ page2.html ...]

Beside it, page.json has what the engine says of some places, to hold the page to.
"""
import argparse
import itertools
import json
import re
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import qkv

ROOT = Path(__file__).resolve().parents[2]


class Words:
    """A vocabulary of the words, signs and line ends of a text."""

    def __init__(self, text):
        self.words = re.findall(r"\n|\w+|[^\w\s]", text)
        self.vocabulary = sorted(set(self.words))
        numbers = {word: i for i, word in enumerate(self.vocabulary)}
        self.ids = [numbers[word] for word in self.words]

    def decode(self, ids):
        return " " + self.vocabulary[ids[0]]


def said(seen, i):
    """What one query read, and a tile of the weights around the first key of it."""
    layer = seen.layers[i % len(seen.layers)]
    head = layer.heads[7 * i % len(layer.heads)]
    call = layer.calls[0]
    query = 4099 * i % call.queries
    read, remainder = head.top(query)
    rows, keys = slice(query, min(query + 5, call.queries)), slice(read[0][0], read[0][0] + 5)
    return {"layer": layer.index, "head": head.index, "query": query, "read": read, "remainder": remainder,
            "first_key": keys.start, "tile": head.weights(rows, keys).tolist()}


def write(arguments):
    parser = argparse.ArgumentParser(description="Write a page of what a model read.")
    parser.add_argument("page", type=Path)
    for name, default in {"tokens": 4096, "layers": 2, "heads": 4, "kv-heads": 2, "dim": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--generate", type=int, default=0, help="tokens to generate behind the text")
    parser.add_argument("--window", type=int, help="a sliding window")
    parser.add_argument("--megabytes", type=float, default=48)
    asked = parser.parse_args(arguments)

    torch.manual_seed(6)
    words = Words("\n".join(path.read_text() for path in sorted(ROOT.glob("docs/*.md"))))
    config = LlamaConfig(vocab_size=len(words.vocabulary), hidden_size=asked.heads * asked.dim, intermediate_size=2 * asked.heads * asked.dim,
                         num_hidden_layers=asked.layers, num_attention_heads=asked.heads, num_key_value_heads=asked.kv_heads,
                         max_position_embeddings=asked.tokens + asked.generate, initializer_range=0.12, eos_token_id=None)
    kind, model_config = LlamaForCausalLM, config
    if asked.window:
        from transformers import MistralConfig, MistralForCausalLM
        kind, model_config = MistralForCausalLM, MistralConfig(**{**config.to_dict(), "model_type": "mistral", "sliding_window": asked.window})
    model = kind(model_config).to(getattr(torch, asked.dtype)).eval()
    ids = torch.tensor([(words.ids * (1 + asked.tokens // len(words.ids)))[:asked.tokens]])
    begin = time.perf_counter()
    with torch.no_grad(), qkv.watch(model, tokenizer=words) as seen:
        if asked.generate:
            model.generate(ids, max_new_tokens=asked.generate, do_sample=False, pad_token_id=0)
        else:
            model(input_ids=ids)
    read = time.perf_counter()
    seen.save(asked.page, megabytes=asked.megabytes)
    asked.page.with_suffix(".json").write_text(json.dumps([said(seen, i) for i in range(40)]))
    print(f"read in {read - begin:.1f} s, written in {time.perf_counter() - read:.1f} s, {asked.page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    for is_sign, group in itertools.groupby(sys.argv[1:], "+".__eq__):
        if not is_sign:
            write(list(group))
