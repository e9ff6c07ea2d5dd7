"""Wrong arguments: a ValueError that names the function and the argument, in Python's words, and nothing is written."""
import numpy as np
import pytest
import torch
from attention_reference import random

import qkv

Q, K, V = random(2, 4, 9, 8), random(2, 2, 13, 8), random(2, 2, 13, 6)
READ_ONLY = np.zeros((2, 4, 9, 6), np.float32)
READ_ONLY.flags.writeable = False
WRONG = {
    "query is None": ({"query": None}, "query is None"),
    "query is text": ({"query": "text"}, "query is a str; expected a NumPy array"),
    "objects": ({"query": np.zeros((2, 4, 9, 8), object)}, "query is a ndarray of type object"),
    "float64": ({"query": Q.astype(np.float64)}, r"query has elements of type float64.*query.astype\('float32'\)"),
    "float64 tensor": ({"query": torch.zeros(2, 4, 9, 8, dtype=torch.float64)}, r"query has elements of type float64.*query.float\(\)"),
    "int32 value": ({"value": V.astype(np.int32)}, "value has elements of type int32"),
    "another device": ({"key": torch.zeros(2, 2, 13, 8, device="meta")}, r"key is on meta; qkv computes on the CPU.*key.cpu\(\)"),
    "another kind of tensor": ({"key": torch.zeros(2, 2, 13, 8).to_sparse()}, "key cannot be read"),
    "five dimensions": ({"query": Q[None]}, "query has 5 dimensions; expected at most 4"),
    "three dimensions": ({"query": Q[0]}, r"query has shape \[4, 9, 8\]; expected \[batch, heads_q, tokens, head_dim\]"),
    "two dimensions": ({"key": K[0, 0]}, r"key has shape \[13, 8\]"),
    "no last stride": ({"key": K.repeat(2, -1)[..., ::2]}, "key has stride 2 in its last dimension"),
    "types differ": ({"key": K.astype(np.float16)}, "key has elements of type float16 and query float32"),
    "heads": ({"query": Q[:, :3]}, "query has 3 heads and key 2"),
    "batch": ({"key": K[:1], "value": V[:1]}, "key has batch 1 and query 2"),
    "head dim": ({"key": K[..., :4]}, "key has head dimension 4 and query 8"),
    "values": ({"value": V[:, :, :5]}, r"value has shape \[2, 2, 5, 6\]"),
    "scale": ({"scale": "big"}, "scale is 'big'; expected a number"),
    "infinite scale": ({"scale": float("inf")}, "scale is inf"),
    "causal": ({"causal": "upper-left"}, "causal is 'upper-left'; expected False, True"),
    "window": ({"window": 3}, r"window is 3; expected \(left, right\)"),
    "window of floats": ({"window": (1.5, 2)}, r"window\[0\] is 1.5; expected an integer"),
    "negative window": ({"window": (-2, 0)}, "window is"),
    "mask of floats": ({"mask": np.zeros((9, 13), np.float32)}, "mask has elements of type float32; expected bool"),
    "mask's shape": ({"mask": np.ones((5, 13), bool)}, "mask has shape"),
    "bias in bfloat16": ({"bias": torch.zeros(9, 13, dtype=torch.bfloat16)}, "bias has elements of type bfloat16; expected float32"),
    "softcap": ({"softcap": -1}, "softcap is -1"),
    "sinks": ({"sinks": [1, 2]}, "sinks has 2 entries; expected one for each of the 4 query heads"),
    "sinks of text": ({"sinks": ["a"] * 4}, "sinks is 'a'; expected a number"),
    "sinks in a table": ({"sinks": np.zeros((1, 4), np.float32)}, r"sinks has shape \[1, 4\]; expected one dimension"),
    "key lengths": ({"key_lengths": [13, 14]}, r"key_lengths\[1\] is 14"),
    "long key lengths": ({"key_lengths": [2**40, 1]}, "key_lengths holds 1099511627776; expected numbers that fit"),
    "key lengths in floats": ({"key_lengths": [1.0, 2.0]}, "key_lengths is 1.0; expected an integer"),
    "starts": ({"cu_seqlens_q": [0, 9]}, "query has shape .* expected batch 1 with cu_seqlens_q"),
    "table without lengths": ({"block_table": [[0], [0]]}, "block_table needs key_lengths"),
    "table of another batch": ({"block_table": [[0]], "key_lengths": [1, 1]}, "block_table has 1 rows; expected one for each of the 2"),
    "uneven table": ({"block_table": [[0], [0, 1]], "key_lengths": [1, 1]}, "block_table has rows of different lengths"),
    "scale without int8": ({"k_scale": 0.5}, "k_scale is given but key is float32"),
    "int8 without scale": ({"key": K.astype(np.int8)}, "key is int8; expected k_scale"),
    "threads": ({"threads": -1}, "threads is -1"),
    "threads in words": ({"threads": "two"}, "threads is 'two'; expected an integer"),
    "trace": ({"trace": qkv.Trace(top=5000)}, "trace.top is 5000"),
    "trace's top": ({"trace": qkv.Trace(top="all")}, "trace.top is 'all'; expected an integer"),
    "out's shape": ({"out": np.zeros((2, 4, 9, 5), np.float32)}, r"out has shape \[2, 4, 9, 5\]; expected \[2, 4, 9, 6\]"),
    "out's dimensions": ({"out": np.zeros(3, np.float32)}, r"out has shape \[3\]; expected as many dimensions"),
    "read-only out": ({"out": READ_ONLY}, "out is read-only"),
    "out's type": ({"out": np.zeros((2, 4, 9, 6), np.int8)}, "out has elements of type int8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_attention(case):
    changes, message = WRONG[case]
    out = np.full((2, 4, 9, 6), 7, np.float32)
    arguments = {"query": Q, "key": K, "value": V, "out": out, **changes}
    with pytest.raises(ValueError, match=message) as caught:
        qkv.attention(**arguments)
    assert str(caught.value).startswith("qkv.attention: ") and "qkv::" not in str(caught.value)
    assert (out == 7).all()


def test_out_overlaps_an_input():
    with pytest.raises(ValueError, match="overlaps"):
        qkv.attention(Q, K, V, out=Q[..., :6])


@pytest.mark.parametrize("call, message", [
    (lambda: qkv.weights(Q, K, lse=np.zeros((2, 4, 8), np.float32)), "lse has 64 entries"),
    (lambda: qkv.weights(Q, K, lse=np.zeros((2, 4, 9))), "lse has elements of type float64; expected float32"),
    (lambda: qkv.weights(Q, K, lse=np.zeros((2, 4, 18), np.float32)[..., ::2]), "lse is not contiguous"),
    (lambda: qkv.weights(Q, K, queries=3), "queries is 3; expected a slice"),
    (lambda: qkv.weights(Q, K, keys=slice(0, 9, 2)), r"keys is slice\(0, 9, 2\); expected a slice of integers with step 1"),
    (lambda: qkv.weights(Q, K, keys=slice("a", "b")), "keys is slice.*expected a slice of integers"),
])
def test_weights(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).startswith("qkv.weights: ")


@pytest.mark.parametrize("parts, message", [
    ([], "there are no parts"),
    ([(Q,)], r"parts\[0\] is a tuple; expected \(out, lse\)"),
    ([(Q, Q[..., 0].copy()), (K, K[..., 0].copy())], r"parts\[1\].out has shape \[2, 2, 13, 8\]"),
    ([(Q, Q[0, 0, :, 0].copy())], r"parts\[0\].lse has 9 entries"),
    ([(Q[0, 0], Q[0, 0, :, 0].copy())], r"parts\[0\].out has shape \[9, 8\]"),
])
def test_merge(parts, message):
    with pytest.raises(ValueError, match=message) as caught:
        qkv.merge(parts)
    assert str(caught.value).startswith("qkv.merge: ")


def test_unknown_names():
    with pytest.raises(TypeError):
        qkv.attention(Q, K, V, casual=True)
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        qkv.atention


def test_an_instruction_set_that_is_not_there():
    import os
    import subprocess
    import sys
    done = subprocess.run([sys.executable, "-c", "import qkv; qkv.isa()"], capture_output=True, text=True,
                          env={**os.environ, "QKV_ISA": "abacus"})
    assert done.returncode == 1 and "ValueError" in done.stderr and "abacus" in done.stderr
