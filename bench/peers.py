"""The peers of `qkv bench --peers`: answers requests, one JSON object a line, with times of other engines.

    {"peer": "PyTorch", "shape": [1, 12, 12, 128, 128, 64, 64], "causal": false, "threads": 2, "seconds": 0.1, "least": 3}
    -> {"times": [0.0011, ...]}   or   {"times": [], "why": "..."}

A peer is a class with `name`, `packages`, `version()` and `prepare(shape, causal, threads)`, which returns a function
without arguments that does the work once; a new one joins PEERS. The shape is batch, query heads, key/value heads, queries,
keys, key width, value width. Everything is fp32, inputs are uniform in [-1, 1), causal lets the last query see every key.
"""

import gc
import importlib.util
import json
import os
import sys
import time


class PyTorch:
    name = "PyTorch"
    packages = ["torch"]

    def version(self):
        import torch

        return torch.__version__

    def prepare(self, shape, causal, threads):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        torch.set_num_threads(threads)
        b, h, hk, sq, sk, d, dv = shape
        if causal and sq != sk:
            raise ValueError("is_causal is top-left there")
        generator = torch.Generator().manual_seed(1)

        def tensor(*size):
            return torch.rand(*size, generator=generator) * 2 - 1

        q, k, v = tensor(b, h, sq, d), tensor(b, hk, sk, d), tensor(b, hk, sk, dv)
        grouped = {"enable_gqa": True} if h != hk else {}

        def run():
            with torch.inference_mode():
                scaled_dot_product_attention(q, k, v, is_causal=causal, **grouped)

        return run


class OnnxRuntime:
    """com.microsoft.MultiHeadAttention, whose flash kernel is the fastest that ONNX Runtime has for fp32 on CPUs."""

    name = "ONNX Runtime"
    packages = ["onnxruntime", "onnx", "numpy"]

    def version(self):
        import onnxruntime

        return onnxruntime.__version__

    def prepare(self, shape, causal, threads):
        import numpy
        import onnxruntime
        from onnx import TensorProto, helper

        b, h, hk, sq, sk, d, dv = shape
        if h != hk:
            raise ValueError("MultiHeadAttention has no grouped heads")
        if causal and sq != sk:
            raise ValueError("unidirectional is for as many queries as keys")
        sizes = {"query": (b, sq, h * d), "key": (b, sk, h * d), "value": (b, sk, h * dv)}
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in sizes.items()]
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, (b, sq, h * dv))
        node = helper.make_node(
            "MultiHeadAttention", list(sizes), ["out"], domain="com.microsoft", num_heads=h, unidirectional=int(causal)
        )
        graph = helper.make_graph([node], "attention", inputs, [output])
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        random = numpy.random.default_rng(1)
        feed = {n: (random.random(s, numpy.float32) * 2 - 1) for n, s in sizes.items()}

        def run():
            session.run(None, feed)

        run()  # a shape it refuses is refused here
        return run


PEERS = [PyTorch(), OnnxRuntime()]


def time_runs(run, seconds, least):
    times = []
    total = 0.0
    while total < seconds or len(times) < least:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        total += times[-1]
    return times


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr

    def reply(answer):
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    present, missing = {}, []
    for peer in PEERS:
        lacking = [p for p in peer.packages if importlib.util.find_spec(p) is None]
        if lacking:
            missing.append(f"{peer.name} is not measured: {sys.executable} -m pip install {' '.join(lacking)}")
        else:
            present[peer.name] = peer
    reply({"present": [{"name": p.name, "version": p.version()} for p in present.values()], "missing": missing})

    prepared = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "forget" in request:
            prepared.clear()
            gc.collect()
            reply({})
            continue
        key = json.dumps([request[k] for k in ("peer", "shape", "causal", "threads")])
        try:
            if key not in prepared:
                prepared[key] = present[request["peer"]].prepare(request["shape"], request["causal"], request["threads"])
                prepared[key]()
            reply({"times": time_runs(prepared[key], request["seconds"], request["least"])})
        except Exception as error:  # any refusal of a peer is a fact to print, not an end
            reply({"times": [], "why": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})


if __name__ == "__main__":
    main()
