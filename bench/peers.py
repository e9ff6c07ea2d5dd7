"""The peers of `qkv bench --peers`: answers requests, one JSON object a line, with times of other engines.

    {"peer": "PyTorch", "shape": [1, 12, 12, 128, 128, 64, 64], "causal": false, "type": "fp32", "kind": "prefill",
     "threads": 2, "seconds": 0.1, "least": 2, "folder": "/tmp/..."}
    -> {"times": [0.0011, ...], "difference": 2e-7}   or   {"times": [], "why": "..."}

A peer is a class with `name`, `missing()`, `version()` and `prepare(line, threads)`, which returns a function without
arguments that does the work once and returns what it computed, and a function that turns this into the arrays that qkv
wrote; a new one joins PEERS. A line that the peer cannot do raises. The shape is batch, query heads, key/value heads,
queries, keys, key width, value width. The folder holds the inputs as qkv has them, and its outputs where it does the line:
the first answer of a line tells by how much the peer differs, and one that computes something else is not timed.

Started with one argument, the folder of ggml's libraries, or an empty one.
"""

import ctypes
import gc
import glob
import importlib.util
import json
import os
import sys
import time

# Largest difference over qkv's largest number. The low types round the weights and the output, and backward adds up what the
# forward pass has rounded; a wrong mask, scale or head shows as 0.3 and more.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03, "fp16": 0.005, "int8": 0.03}


def aligned(shape, dtype):
    """An empty array at a multiple of 64 bytes, where an engine's own tensors lie."""
    import numpy

    count = 1
    for n in shape:
        count *= n
    size = count * numpy.dtype(dtype).itemsize
    memory = numpy.empty(size + 64, numpy.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


class Line:
    def __init__(self, request):
        self.shape = request["shape"]
        self.causal, self.type, self.kind = request["causal"], request["type"], request["kind"]
        self.folder = request["folder"]
        b, h, hk, sq, sk, d, dv = self.shape
        query, key, value, out = (b, h, sq, d), (b, hk, sk, d), (b, hk, sk, dv), (b, h, sq, dv)
        self.shapes = {"query": query, "key": key, "value": value, "out": out, "d_out": out}
        self.shapes.update({"d_query": query, "d_key": key, "d_value": value})
        self.outputs = ["d_query", "d_key", "d_value"] if self.kind == "backward" else ["out"]
        self.read = {}  # the peers share one copy

    def only(self, kinds, types):
        if self.kind not in kinds:
            raise ValueError(f"no {self.kind}")
        if self.type not in types:
            raise ValueError(f"no {self.type}")

    def raw(self, name):
        """As it is stored; bf16 as uint16."""
        import numpy

        if name not in self.read:
            quantised = self.type == "int8" and name in ("key", "value")
            stored = {"fp32": "f4", "bf16": "u2", "fp16": "f2", "int8": "i1" if quantised else "f4"}[self.type]
            array = aligned(self.shapes[name], numpy.dtype(stored))
            with open(os.path.join(self.folder, name), "rb") as file:
                if file.readinto(array.reshape(-1).view(numpy.uint8)) != array.nbytes:
                    raise ValueError(f"{name} is too short")
            self.read[name] = array
        return self.read[name]

    def floats(self, name):
        import numpy

        raw = self.raw(name)
        if raw.dtype == numpy.float32:
            return raw
        array = aligned(raw.shape, numpy.float32)
        if raw.dtype == numpy.uint16:
            array.view(numpy.uint32)[...] = raw.astype(numpy.uint32) << 16
        else:
            array[...] = raw
        if raw.dtype == numpy.int8:
            array *= numpy.fromfile(os.path.join(self.folder, name + "_scale"), numpy.float32).reshape(*raw.shape[:3], 1)
        return array

    def difference(self, computed):
        """From what qkv computed; None where it has not."""
        import numpy

        if not all(os.path.exists(os.path.join(self.folder, name)) for name in self.outputs):
            return None
        largest = 0.0
        for name in self.outputs:
            ours, theirs = self.floats(name), numpy.asarray(computed[name], numpy.float32)
            if ours.shape != theirs.shape:
                raise ValueError(f"{name} comes as {theirs.shape}")
            largest = max(largest, float(numpy.abs(ours - theirs).max() / numpy.abs(ours).max()))
            self.read.pop(name)
        return largest


def lacking(packages):
    """The command that installs those packages that are not there, or nothing."""
    absent = [p for p in packages if importlib.util.find_spec(p) is None]
    return f"{sys.executable} -m pip install {' '.join(absent)}" if absent else ""


class PyTorch:
    """scaled_dot_product_attention; its gradient; and, to look at weights, softmax(QKᵀ) in memory and statistics of it."""

    name = "PyTorch"

    def missing(self):
        return lacking(["torch", "numpy"])

    def version(self):
        import torch

        return torch.__version__

    def prepare(self, line, threads):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        line.only(["prefill", "decode", "backward", "trace"], ["fp32", "bf16", "fp16"])
        torch.set_num_threads(threads)
        b, h, hk, sq, sk, d, dv = line.shape
        if line.causal and sq != sk:
            raise ValueError("is_causal is top-left there")

        def tensor(name):
            if line.type == "bf16":
                return torch.from_numpy(line.raw(name).view("i2")).view(torch.bfloat16)
            return torch.from_numpy(line.raw(name))

        q, k, v = tensor("query"), tensor("key"), tensor("value")
        grouped = {"enable_gqa": True} if h != hk else {}
        if line.kind == "backward":
            return self.backward(line, q, k, v, tensor("d_out"), grouped)

        def fused():
            with torch.inference_mode():
                return scaled_dot_product_attention(q, k, v, is_causal=line.causal, **grouped)

        def looking():
            return self.look(q, k, v, line.causal)[0]

        return looking if line.kind == "trace" else fused, lambda out: {"out": out.float().numpy()}

    def backward(self, line, q, k, v, d_out, grouped):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        leaves = [x.requires_grad_() for x in (q, k, v)]
        out = scaled_dot_product_attention(*leaves, is_causal=line.causal, **grouped)

        def run():
            return torch.autograd.grad(out, leaves, d_out, retain_graph=True)

        return run, lambda grads: {n: g.float().numpy() for n, g in zip(line.outputs, grads)}

    def weights(self, q, k, causal):
        import torch

        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1) if q.shape[1] != k.shape[1] else k
        scores = (q @ k.transpose(-1, -2)).mul_(q.shape[-1] ** -0.5)
        if causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu_(1)
            scores.masked_fill_(hidden, float("-inf"))
        return torch.softmax(scores, -1)

    def look(self, q, k, v, causal):
        """What a trace of top 8, received mass and blocks of 64 records, and the output."""
        import torch

        with torch.inference_mode():
            p = self.weights(q, k, causal)
            v = v.repeat_interleave(q.shape[1] // v.shape[1], 1) if q.shape[1] != v.shape[1] else v
            entropy = torch.special.entr(p).sum(-1)
            top = p.topk(min(8, p.shape[-1]), -1)
            received = p.sum(-2)
            rows, columns = p.shape[-2] // 64 * 64, p.shape[-1] // 64 * 64
            blocks = p[..., :rows, :columns].unflatten(-1, (-1, 64)).sum(-1).unflatten(-2, (-1, 64)).sum(-2)
            return p @ v, entropy, top, received, blocks


class OnnxRuntime:
    """com.microsoft.MultiHeadAttention, whose flash kernel is the fastest that ONNX Runtime has for fp32 on CPUs; where heads
    are grouped, which it cannot, Attention of opset 23, which decodes faster than com.microsoft.GroupQueryAttention."""

    name = "ONNX Runtime"

    def missing(self):
        return lacking(["onnxruntime", "onnx", "numpy"])

    def version(self):
        import onnxruntime

        return onnxruntime.__version__

    def prepare(self, line, threads):
        import numpy
        import onnxruntime
        from onnx import TensorProto, helper

        line.only(["prefill", "decode"], ["fp32"])
        b, h, hk, sq, sk, d, dv = line.shape
        if line.causal and sq != sk:
            raise ValueError("unidirectional is for as many queries as keys")
        grouped = h != hk
        if grouped:
            sizes = {n: line.shapes[n] for n in ("query", "key", "value", "out")}
            node = helper.make_node("Attention", list(sizes)[:3], ["out"], is_causal=int(line.causal))
        else:  # tokens before heads, which lie side by side
            sizes = {"query": (b, sq, h * d), "key": (b, sk, h * d), "value": (b, sk, h * dv), "out": (b, sq, h * dv)}
            order = {"num_heads": h, "unidirectional": int(line.causal)}
            node = helper.make_node("MultiHeadAttention", list(sizes)[:3], ["out"], domain="com.microsoft", **order)
        *inputs, output = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in sizes.items())
        graph = helper.make_graph([node], "attention", inputs, [output])
        domains = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        binding = session.io_binding()  # output memory is there before, as it is for qkv
        held = {name: aligned(size, numpy.float32) for name, size in sizes.items()}
        for name in ("query", "key", "value"):
            array = held[name]
            if grouped:
                array[...] = line.raw(name)
            else:
                array.reshape(b, array.shape[1], h, -1)[...] = line.raw(name).transpose(0, 2, 1, 3)
            binding.bind_cpu_input(name, array)
        out = held["out"]
        binding.bind_output("out", "cpu", 0, numpy.float32, out.shape, out.ctypes.data)

        def run():
            session.run_with_iobinding(binding)
            return held["out"]

        return run, lambda out: {"out": out if grouped else out.reshape(b, sq, h, dv).transpose(0, 2, 1, 3)}


class OpenVino:
    """scaled_dot_product_attention of opset 13; for bf16 tensors of bf16 and the hint that lets it compute so."""

    name = "OpenVINO"

    def missing(self):
        return lacking(["openvino", "numpy"])

    def version(self):
        import openvino

        return openvino.__version__.split("-")[0]

    def prepare(self, line, threads):
        import numpy
        import openvino
        from openvino import opset13

        line.only(["prefill", "decode"], ["fp32", "bf16"])
        b, h, hk, sq, sk, d, dv = line.shape
        if line.causal and sq != sk:
            raise ValueError("causal is top-left there")
        names = ("query", "key", "value")
        element = openvino.Type.bf16 if line.type == "bf16" else openvino.Type.f32
        inputs = [opset13.parameter(line.shapes[n], element, name=n) for n in names]
        nodes = list(inputs)
        if h != hk:  # grouped heads as exported models write them
            for i, width in ((1, d), (2, dv)):
                one = opset13.reshape(inputs[i], numpy.array([b, hk, 1, sk, width]), False)
                many = opset13.broadcast(one, numpy.array([b, hk, h // hk, sk, width]))
                nodes[i] = opset13.reshape(many, numpy.array([b, h, sk, width]), False)
        model = openvino.Model([opset13.scaled_dot_product_attention(*nodes, causal=line.causal)], inputs, "attention")
        hint = {"fp32": "f32", "bf16": "bf16"}[line.type]
        properties = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
        stored = numpy.uint16 if line.type == "bf16" else numpy.float32  # it has no name for bf16 in NumPy
        for i, name in enumerate(names):
            tensor = openvino.Tensor(element, openvino.Shape(line.shapes[name]))
            tensor.data.view(stored)[...] = line.raw(name)
            request.set_input_tensor(i, tensor)

        def run():
            request.infer()
            return request.get_output_tensor(0).data

        def arrays(out):
            wide = out.dtype == numpy.float32
            return {"out": out if wide else (out.view(numpy.uint16).astype("u4") << 16).view(numpy.float32)}

        return run, arrays


class Ggml:
    """ggml_flash_attn_ext over keys and values of the line's type (int8: its Q8_0), through the C interface."""

    name = "ggml"
    TYPES = {"fp32": 0, "fp16": 1, "bf16": 30, "int8": 8}

    def __init__(self, folder):
        self.folder = folder

    def missing(self):
        if importlib.util.find_spec("numpy") is None:
            return lacking(["numpy"])
        if self.folder and self.find("ggml-base") and self.find("ggml-cpu"):
            return ""
        where = f"no libggml-base.so and libggml-cpu.so under {self.folder}; " if self.folder else ""
        return where + "cmake -B build -DBUILD_SHARED_LIBS=ON && cmake --build build in its source, then --ggml build"

    def find(self, library):
        return sorted(glob.glob(os.path.join(self.folder, "**", f"lib{library}.so"), recursive=True))

    def load(self):
        if hasattr(self, "base"):
            return
        self.base = ctypes.CDLL(self.find("ggml-base")[0], ctypes.RTLD_GLOBAL)
        self.cpu = ctypes.CDLL(self.find("ggml-cpu")[0])
        pointers = ["init", "new_tensor_4d", "flash_attn_ext", "new_graph", "get_data", "threadpool_new", "backend_cpu_init"]
        for name in pointers:
            self.function(name).restype = ctypes.c_void_p
        self.base.ggml_version.restype = ctypes.c_char_p
        self.base.ggml_tensor_overhead.restype = ctypes.c_size_t

    def function(self, name):
        name = "ggml_" + name
        return getattr(self.base, name) if hasattr(self.base, name) else getattr(self.cpu, name)

    def version(self):
        self.load()
        return self.base.ggml_version().decode()

    def prepare(self, line, threads):
        import numpy

        line.only(["prefill", "decode"], list(self.TYPES))
        b, h, hk, sq, sk, d, dv = line.shape
        if line.causal and sq != sk:
            raise ValueError("left out: its mask is ours to make")
        if line.type == "int8" and (d % 32 or dv % 32):
            raise ValueError("Q8_0 comes in blocks of 32")
        self.load()
        Pointer, Long, Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

        class Parameters(ctypes.Structure):  # ggml_init_params
            _fields_ = [("size", ctypes.c_size_t), ("buffer", Pointer), ("no_alloc", ctypes.c_bool)]

        def call(name, *arguments):
            return self.function(name)(*arguments)

        def tensor(kind, *sizes):
            return call("new_tensor_4d", Pointer(context), ctypes.c_int(kind), *map(Long, sizes))

        def fill(into, array):
            ctypes.memmove(call("get_data", Pointer(into)), array.ctypes.data, array.nbytes)

        out_bytes = 4 * b * h * sq * dv
        inputs = line.floats("query").nbytes + 4 * b * hk * sk * (d + dv) + 2 * sq * sk * line.causal
        context = call("init", Parameters(inputs + out_bytes + (16 << 20), None, False))
        if not context:
            raise ValueError("ggml_init fails")
        query, mask = tensor(0, d, sq, h, b), None
        fill(query, line.floats("query"))
        pair = []
        for name, width in (("key", d), ("value", dv)):
            into = tensor(self.TYPES[line.type], width, sk, hk, b)
            if line.type == "int8":
                rows, data = line.floats(name), call("get_data", Pointer(into))
                call("quantize_chunk", ctypes.c_int(8), Pointer(rows.ctypes.data), Pointer(data), Long(0), Long(b * hk * sk),
                     Long(width), None)  # fmt: skip
            else:
                fill(into, line.raw(name))
            pair.append(into)
        if line.causal:
            mask = tensor(1, sk, sq, 1, 1)
            fill(mask, numpy.triu(numpy.full((sq, sk), -numpy.inf, numpy.float16), 1))
        tensors = map(Pointer, (context, query, *pair, mask))
        out = call("flash_attn_ext", *tensors, Float(d**-0.5), Float(0), Float(0))
        call("flash_attn_ext_set_prec", Pointer(out), ctypes.c_int(10))  # GGML_PREC_F32
        graph = call("new_graph", Pointer(context))
        call("build_forward_expand", Pointer(graph), Pointer(out))
        # A pool of its own, kept: without one every call would make threads. The size is enough for any version.
        parameters = ctypes.create_string_buffer(1 << 14)
        call("threadpool_params_init", parameters, ctypes.c_int(threads))
        pool = call("threadpool_new", parameters)
        backend = call("backend_cpu_init")
        call("backend_cpu_set_n_threads", Pointer(backend), ctypes.c_int(threads))
        call("backend_cpu_set_threadpool", Pointer(backend), Pointer(pool))
        data = (ctypes.c_float * (b * h * sq * dv)).from_address(call("get_data", Pointer(out)))

        class Held:  # ends with the function that uses it
            def __del__(held):
                call("backend_free", Pointer(backend))
                call("threadpool_free", Pointer(pool))
                call("free", Pointer(context))

        held = Held()

        def run():
            status = call("backend_graph_compute", Pointer(backend), Pointer(graph))
            if status != 0 or held is None:
                raise ValueError(f"ggml_backend_graph_compute returns {status}")
            return data

        def arrays(data):
            return {"out": numpy.frombuffer(data, numpy.float32).reshape(b, sq, h, dv).transpose(0, 2, 1, 3)}

        return run, arrays


PEERS = [PyTorch(), OnnxRuntime(), OpenVino(), Ggml(sys.argv[1] if len(sys.argv) > 1 else "")]


def time_runs(run, seconds, least):
    long = 2  # seconds after which one run is enough
    times = []
    total = 0.0
    while total < seconds or (total < long and len(times) < least):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        total += times[-1]
    return times


def first_run(peer, line, threads):
    """The function that does the work, and how far its first answer is from ours."""
    run, arrays = peer.prepare(line, threads)
    difference = line.difference(arrays(run()))
    if difference is not None and not difference <= TOLERANCE[line.type]:
        raise ArithmeticError(f"computes something else: differs by {difference:.2g} of the largest number")
    return run, difference


def answer(request, present, state):
    """`state` keeps what is prepared for the line at hand."""
    if "forget" in request:
        state.clear()
        gc.collect()
        return {}
    reply = {}
    try:
        if "line" not in state:
            state["line"] = Line(request)
        if request["peer"] not in state:
            run, difference = first_run(present[request["peer"]], state["line"], request["threads"])
            state[request["peer"]] = run
            if difference is not None:
                reply["difference"] = difference
        reply["times"] = time_runs(state[request["peer"]], request["seconds"], request["least"])
    except Exception as error:  # any refusal of a peer is a fact to print, not an end
        plain = isinstance(error, (ValueError, ArithmeticError))
        why = str(error).strip() or type(error).__name__
        reply = {"times": [], "why": (why if plain else f"{type(error).__name__}: {why}").splitlines()[0][:200]}
    return reply


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr

    def send(reply):
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    present, missing = {}, []
    for peer in PEERS:
        install = peer.missing()
        if install:
            missing.append(f"{peer.name} is not measured: {install}")
        else:
            present[peer.name] = peer
    send({"present": [{"name": p.name, "version": p.version()} for p in present.values()], "missing": missing})
    state = {}
    for text in sys.stdin:
        send(answer(json.loads(text), present, state))


if __name__ == "__main__":
    main()
