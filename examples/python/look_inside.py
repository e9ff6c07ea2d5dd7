"""Look inside a Hugging Face model: the bundled translator, loaded by transformers, runs on qkv and shows what it reads.

    python examples/python/look_inside.py ["The cat sat on the mat because it was tired"] [--html page.html]

Where does the translation look, what does the pronoun mean, and which heads do nothing but rest on one token?
"""
import argparse
import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, MarianMTModel

import qkv

MODEL = Path(__file__).resolve().parents[2] / "models/translate-en-zh"


def best(role, block):
    """(layer, head) that does this best, as measured on held-out sentences (the model's card)."""
    heads = json.loads((MODEL / "roles.json").read_text())["heads"]
    found = max((h for h in heads if h["block"] == block and h["role"] == role), key=lambda h: h["score"])
    return found["layer"], found["head"]


def main():
    parser = argparse.ArgumentParser(description="Look inside a Hugging Face model.")
    parser.add_argument("text", nargs="?", default="The cat sat on the mat because it was tired")
    parser.add_argument("--html", metavar="FILE", help="also write a page to look around in")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = MarianMTModel.from_pretrained(MODEL, dtype=torch.float32).eval()

    inputs = tokenizer(">>zh<<" + arguments.text, return_tensors="pt")
    with torch.no_grad(), qkv.watch(model, tokenizer=tokenizer) as seen:
        translated = model.generate(**inputs, num_beams=1, max_length=60)
    print(tokenizer.decode(translated[0], skip_special_tokens=True))

    source = [tokenizer.convert_ids_to_tokens(i).lstrip("▁") for i in inputs["input_ids"][0].tolist()]
    target = [tokenizer.convert_ids_to_tokens(i).lstrip("▁") for i in translated[0, 1:].tolist()]
    layer, head = best("alignment", "decoder_cross")
    aligned = [layer for layer in seen.layers if layer.is_cross][layer].heads[head]
    for step, token in enumerate(target):  # the step that made the token read these
        read, _ = aligned.top(step, n=2)
        print(f"  {token:4} reads " + ", ".join(f"{source[key]} {weight:.0%}" for key, weight in read))

    layer, head = best("coreference", "encoder")
    for place, token in enumerate(source):
        if token in ("it", "she", "he", "they"):
            read, rest = seen.layers[layer].heads[head].top(place, n=3)
            print(f"{token} means " + ", ".join(f"{source[key]} {weight:.0%}" for key, weight in read) + f", the rest {rest:.0%}")

    sinks = [(layer.name, head.index) for layer in seen.layers for head in layer.heads if head.sinks(share=0.5)]
    print(f"{len(sinks)} of {sum(len(layer.heads) for layer in seen.layers)} heads give half of their attention to one token")
    if arguments.html:
        seen.save(arguments.html)


if __name__ == "__main__":
    main()
