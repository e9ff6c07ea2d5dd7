"""A needle in a long text: which of many thousand tokens did the last one read?

    python examples/python/long_context.py [--tokens 32768] [--watch qkv|eager]

A Llama-shaped layer whose weights are set by hand to what a trained "induction" head does: a token looks for an earlier one
of its own kind. The needle stands somewhere in the text once, and again at its end. On qkv the text is read and watched in memory
that grows with its length; eager attention with output_attentions=True, the usual way, needs its square.
"""
import argparse
import resource
import time

import torch
from transformers import LlamaConfig, LlamaModel

import qkv
import qkv.huggingface

NEEDLE = 7


def model_of(heads=4, dim=64):
    """One layer that finds tokens of the same kind: W_Q and W_K are the same multiple of the identity."""
    config = LlamaConfig(vocab_size=1000, hidden_size=heads * dim, intermediate_size=64, num_hidden_layers=1, num_attention_heads=heads,
                         num_key_value_heads=heads, head_dim=dim, max_position_embeddings=1 << 20,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e30})
    torch.manual_seed(0)
    model = LlamaModel(config).eval()
    attention = model.layers[0].self_attn
    with torch.no_grad():
        kept = torch.arange(heads * dim) % (dim // 2) >= dim // 4  # the others are what the rotary positions turn
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(2.0 * torch.diag(kept.float()))
        model.embed_tokens.weight.normal_()
    return model


def main():
    parser = argparse.ArgumentParser(description="A needle in a long text.")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--watch", choices=("qkv", "eager"), default="qkv")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(NEEDLE + 1, 1000, (1, arguments.tokens), generator=generator)
    place = arguments.tokens // 3
    ids[0, place] = ids[0, -1] = NEEDLE
    model = model_of()
    begin = time.perf_counter()
    with torch.no_grad():
        if arguments.watch == "eager":
            model.set_attn_implementation("eager")
            row = model(ids, output_attentions=True).attentions[0][0, :, -1]
            found = [row[head, :-1].topk(1) for head in range(row.shape[0])]
            read = [(int(best.indices), float(best.values)) for best in found]
        else:
            with qkv.watch(model, top=4) as seen:
                model(ids)
            read = [next(pair for pair in head.top(-1)[0] if pair[0] != arguments.tokens - 1) for head in seen.layers[0].heads]
    took = time.perf_counter() - begin
    for head, (key, weight) in enumerate(read):
        print(f"head {head}: the last token read {key} with weight {weight:.3f}" + (", the needle" if key == place else ""))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{arguments.tokens} tokens in {took:.2f} s, at most {peak:.2f} GiB in all")
    return 0 if sum(key == place for key, _ in read) >= 2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
