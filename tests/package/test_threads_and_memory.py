"""Many Python threads, and what a call leaves behind."""
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import torch
from attention_reference import random

import qkv


def tensors(kind):
    arrays = [random(1, 4, 64, 32, seed=seed) for seed in range(3)]
    if kind == "torch":
        return [torch.from_numpy(array) for array in arrays]
    return [array.astype(ml_dtypes.bfloat16) for array in arrays] if kind == "bfloat16" else arrays


def test_many_threads_get_the_same_bits():
    cases = [tensors("numpy"), tensors("torch"), tensors("bfloat16")]
    expected = [qkv.attention(*case, causal=True) for case in cases]

    def work(i):
        case = i % len(cases)
        out, trace = qkv.attention(*cases[case], causal=True, trace=qkv.Trace(top=4))
        return bool((out == expected[case]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(600)))


def test_other_threads_run_meanwhile():
    q = random(1, 8, 4096, 64)
    turns, done = [], threading.Event()

    def count():
        while not done.is_set():
            turns.append(time.monotonic())
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    begin = time.monotonic()
    qkv.attention(q, q, q, threads=1)
    end = time.monotonic()
    done.set()
    counter.join()
    assert sum(begin < turn < end for turn in turns) > 3


@pytest.mark.parametrize("kind", ["numpy", "torch", "bfloat16"])
def test_no_reference_stays(kind):
    q, k, v = tensors(kind)
    lengths = np.int32([64])
    before = [sys.getrefcount(x) for x in (q, k, v, lengths)]
    for _ in range(50):
        out, lse, trace = qkv.attention(q, k, v, return_lse=True, trace=qkv.Trace(top=2, received=True, block=8), key_lengths=lengths)
        qkv.weights(q, k, lse=lse)
        qkv.merge([(out, lse), (out, lse)])
        with pytest.raises(ValueError):
            qkv.attention(q, k, v, key_lengths=[100])
    out = lse = trace = None
    gc.collect()
    assert [sys.getrefcount(x) for x in (q, k, v, lengths)] == before


def test_memory_does_not_grow():
    program = """
import resource, numpy as np, qkv
q = np.ones((1, 4, 256, 64), np.float32)
def calls(n):
    for _ in range(n):
        out, lse, trace = qkv.attention(q, q, q, return_lse=True, trace=qkv.Trace(top=8, received=True, block=16))
        qkv.weights(q, q, lse=lse)
        try: qkv.attention(q, q, q[:, :3])
        except ValueError: pass
calls(30)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls(300)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 10, done.stdout  # KiB; a leak of one weight matrix a call would be 300 MiB


def test_results_outlive_their_call():
    q, k, v = tensors("numpy")
    _, trace = qkv.attention(q, k, v, trace=qkv.Trace(top=3))
    keys, copy = trace.top_keys, trace.top_keys.copy()
    del trace, q, k, v
    gc.collect()
    random(1 << 20)
    assert np.array_equal(keys, copy)


def test_importing_qkv_imports_no_framework():
    program = "import sys, qkv; print(*[m for m in ('torch', 'transformers', 'ml_dtypes') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_a_forked_child_computes_too():
    program = """
import multiprocessing as mp, numpy as np, qkv
q = np.random.default_rng(0).standard_normal((1, 8, 512, 64)).astype(np.float32)
def work(_): return qkv.attention(q, q, q)
expected = qkv.attention(q, q, q)
with mp.get_context("fork").Pool(2) as pool:
    assert all((out == expected).all() for out in pool.map(work, range(4)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_pytorchs_threads_serve_qkv_and_a_forked_child_has_its_own():
    program = """
import os, threading, numpy as np, torch, qkv, qkv.pytorch
q = torch.randn(1, 8, 512, 64, generator=torch.Generator().manual_seed(0))
expected = qkv.attention(q, q, q, threads=1)
torch.mm(torch.ones(500, 500), torch.ones(500, 500))
before = len(os.listdir("/proc/self/task"))
assert torch.equal(qkv.attention(q, q, q, threads=2), expected)
assert len(os.listdir("/proc/self/task")) == before  # no thread was started
threads = [threading.Thread(target=lambda: [qkv.attention(q, q, q) for _ in range(20)]) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
child = os.fork()
if child == 0:
    same = (qkv.attention(q.numpy(), q.numpy(), q.numpy(), threads=2) == expected.numpy()).all()
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
