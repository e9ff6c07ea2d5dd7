"""Attention in ten lines: what does "it" read?    python examples/python/ten_lines.py"""
import numpy as np

import qkv

words = ["apple", "tree", "eat"]
key = np.array([[4, 0], [2, 0], [0, 4]], np.float32)[None, None]  # [batch, heads, tokens, dim]: how each word can be found
value = np.array([[1, 0.1], [0, 6], [0, 0]], np.float32)[None, None]  # what is taken away: redness, height in metres
query = np.array([[1, 0]], np.float32)[None, None]  # "it" looks for a thing
out, trace = qkv.attention(query, key, value, scale=1.0, trace=qkv.Trace(top=3))
for k, weight in zip(trace.top_keys[0, 0, 0], trace.top_weights[0, 0, 0]):
    print(f"it reads {words[k]:5} {weight:.4f}")
print("so it is", " red and ".join(f"{x:.4f}" for x in out[0, 0, 0]), "m high")
