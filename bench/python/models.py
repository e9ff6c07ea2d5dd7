#!/usr/bin/env python3
"""Whole models on qkv beside PyTorch's sdpa and eager attention: tokens per second, attention's share, and what watching costs.

usage: bench/python/models.py [--case NAME]... [--seconds N] [--turns N] [--json FILE] [--processor-time]

Random weights. The implementations take turns; a figure is the median of its turns. "attention" is the time inside the attention
function, the same way around each implementation. On a machine that has other work, one thread (OMP_NUM_THREADS=1) and
--processor-time tell what each computes, and nothing of how the work is shared out.
"""
import argparse
import gc
import json
import os
import statistics
import sys
import time

import torch
import transformers
from transformers import AttentionInterface

import qkv
import qkv.huggingface

transformers.logging.set_verbosity_error()
BERT = {}
LLAMA = {"vocab_size": 1000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 8,
         "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 40000}
SAM3_VIT = {"model_type": "sam3_vit_model", "num_hidden_layers": 3, "global_attn_indexes": [2]}  # else width 1024, windows of 24
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CASES = {f"{shape} {dtype}": (shape, dtype) for dtype in TYPES
         for shape in ("BERT-base 128", "BERT-base 512", "Llama prefill 4096", "Llama decode over 8192", "SAM 3 48×48")}


class Clock:
    """Time spent inside attention functions; `now` is the clock of everything measured here."""

    now = staticmethod(time.perf_counter)

    def __init__(self):
        self.total = 0.0

    def around(self, function):
        def timed(*arguments, **keywords):
            begin = self.now()
            result = function(*arguments, **keywords)
            self.total += self.now() - begin
            return result

        return timed


def timed_implementations(clock):
    """Names under which each implementation can be chosen with the clock around it."""
    functions = {"sdpa": transformers.integrations.sdpa_attention.sdpa_attention_forward, "qkv": qkv.huggingface.attention}
    masks = transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
    for name, function in functions.items():
        AttentionInterface.register(f"timed {name}", clock.around(function))
        transformers.AttentionMaskInterface.register(f"timed {name}", masks[name])


def model_and_step(shape, dtype):
    """A model and one step of it: (step, tokens it handles)."""
    torch.manual_seed(0)
    if shape.startswith("BERT"):
        tokens = int(shape.split()[-1])
        model = transformers.BertModel(transformers.BertConfig(**BERT)).to(dtype).eval()
        ids = torch.randint(5, 30000, (1, tokens))
        seen = torch.ones_like(ids)
        return model, lambda **more: model(input_ids=ids, attention_mask=seen, **more), tokens
    if shape.startswith("SAM 3"):
        return sam3_and_step(int(shape.split("×")[-1]), dtype)
    model = transformers.LlamaModel(transformers.LlamaConfig(**LLAMA)).to(dtype).eval()
    if "prefill" in shape:
        tokens = int(shape.split()[-1])
        ids = torch.randint(5, 1000, (1, tokens))
        return model, lambda **more: model(input_ids=ids, use_cache=False, **more), tokens
    past = int(shape.split()[-1])
    heads, dim, layers = LLAMA["num_key_value_heads"], LLAMA["head_dim"], LLAMA["num_hidden_layers"]
    cache = transformers.DynamicCache()
    for layer in range(layers):
        cache.update(torch.randn(1, heads, past, dim, dtype=dtype), torch.randn(1, heads, past, dim, dtype=dtype), layer)
    one = torch.ones(1, 1, dtype=torch.long)

    def step(**more):
        for _ in range(8):
            model(input_ids=one, past_key_values=cache, **more)
        cache.crop(-8)

    return model, step, 8


def sam3_and_step(side, dtype):
    """SAM 3 over side × side patches, which are its tokens: all parts at their own width, few layers, 200 object queries, 32 words."""
    sizes = [[side * scale, side * scale] for scale in (4, 2, 1)]
    config = transformers.Sam3Config(
        vision_config={"backbone_config": {**SAM3_VIT, "image_size": 14 * side}, "backbone_feature_sizes": sizes},
        text_config={"model_type": "clip_text_model", "hidden_size": 1024, "intermediate_size": 4096, "projection_dim": 512,
                     "hidden_act": "gelu", "num_hidden_layers": 2, "num_attention_heads": 16, "max_position_embeddings": 32},
        detr_encoder_config={"num_layers": 1}, detr_decoder_config={"num_layers": 1})
    model = transformers.Sam3Model(config).to(dtype).eval()
    pixels = torch.randn(1, 3, 14 * side, 14 * side, dtype=dtype)
    ids = torch.randint(5, 40000, (1, 32))
    seen = (torch.arange(32) < 5).long()[None]
    return model, lambda **more: model(pixel_values=pixels, input_ids=ids, attention_mask=seen, **more), side * side


def turns(model, step, seconds, least):
    """Median seconds of each way to run a step."""
    clock = Clock()
    timed_implementations(clock)

    def plain(name):
        def run():
            model.set_attn_implementation(name)
            return time_of(step)

        return run

    def share(name):
        def run():
            model.set_attn_implementation(f"timed {name}")
            clock.total = 0.0
            step()
            return clock.total

        return run

    def watched():
        with qkv.watch(model, keep=None):
            return time_of(step)

    def looked_at():
        model.set_attn_implementation("eager")
        return time_of(lambda: step(output_attentions=True))

    ways = {"qkv": plain("qkv"), "sdpa": plain("sdpa"), "eager": plain("eager"), "attention qkv": share("qkv"),
            "attention sdpa": share("sdpa"), "watched": watched, "eager, output_attentions": looked_at}
    found = {name: [] for name in ways}
    for run in ways.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["qkv"]) < least:
        for name, run in ways.items():
            found[name].append(run())
    return {name: statistics.median(times) for name, times in found.items()}


def time_of(step):
    begin = Clock.now()
    step()
    return Clock.now() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--seconds", type=float, default=10, help="of turns for each case")
    parser.add_argument("--turns", type=int, default=3, help="at least so many (default 3)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, instead of the time that passes")
    arguments = parser.parse_args()
    if arguments.processor_time:
        Clock.now = staticmethod(time.process_time)
    print(f"qkv {qkv.__version__} ({qkv.isa()}), PyTorch {torch.__version__}, transformers {transformers.__version__}, "
          f"{torch.get_num_threads()} threads\n")
    print("| case | tokens/s qkv | sdpa | eager | qkv is × sdpa | × eager | attention × sdpa | watching costs | output_attentions costs |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = {}
    for name in arguments.case or CASES:
        shape, dtype = CASES[name]
        with torch.no_grad():
            model, step, tokens = model_and_step(shape, TYPES[dtype])
            t = results[name] = turns(model, step, arguments.seconds, arguments.turns)
        print(f"| {name} | {tokens / t['qkv']:.0f} | {tokens / t['sdpa']:.0f} | {tokens / t['eager']:.0f} | {t['sdpa'] / t['qkv']:.2f} | "
              f"{t['eager'] / t['qkv']:.2f} | {t['attention sdpa'] / t['attention qkv']:.2f} | {t['watched'] / t['qkv'] - 1:+.1%} | "
              f"{t['eager, output_attentions'] / t['sdpa'] - 1:+.1%} |", flush=True)
        del model, step
        gc.collect()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
