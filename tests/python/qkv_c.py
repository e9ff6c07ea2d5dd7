"""The C interface (include/qkv/c.h) by ctypes over numpy arrays, for the tests in Python.

The library is the one that QKV_C_LIBRARY names, or the build tree's (QKV_BUILD, else build/release).
"""
import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {np.dtype(np.float32): 0, np.dtype(np.bool_): 1, np.dtype(np.float16): 2, BFLOAT16: 3, np.dtype(np.int8): 4}
CAUSAL = {None: 0, "bottom_right": 1, "top_left": 2}


def library_path():
    build = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
    named = os.environ.get("QKV_C_LIBRARY")
    places = [Path(named)] if named else [build / "tests" / "libqkv_c.so", build / "libqkv.so"]
    return next((path for path in places if path.exists()), places[0])


class Tensor(Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("reserved", c_int32), ("shape", c_int64 * 4), ("strides", c_int64 * 4)]


def array_fields(*names):
    return [field for name in names for field in ((name, c_void_p), (f"{name}_size", c_int64))]


class Options(Structure):
    _fields_ = [("struct_size", c_size_t), ("window_left", c_int64), ("window_right", c_int64), ("scale", c_float),
                ("has_scale", c_int32), ("softcap", c_float), ("causal", c_int32), ("threads", c_int32), ("reserved", c_int32),
                ("mask", Tensor), ("bias", Tensor), ("k_scale", Tensor), ("v_scale", Tensor),
                *array_fields("sinks", "alibi_slopes", "key_lengths", "cu_seqlens_q", "cu_seqlens_k", "block_table")]


class Trace(Structure):
    ARRAYS = {"lse": ("rows", np.float32), "max": ("rows", np.float32), "entropy": ("rows", np.float32),
              "remainder": ("rows", np.float32), "top_keys": ("tops", np.int32), "top_weights": ("tops", np.float32),
              "received": ("columns", np.float32), "visible": ("columns", np.int32), "block_mass": ("blocks", np.float32),
              "block_max": ("blocks", np.float32)}
    _fields_ = [("struct_size", c_size_t), ("top", c_int32), ("block", c_int32),
                *((name, c_int64) for name in ("rows", "tops", "columns", "blocks")), *((name, c_void_p) for name in ARRAYS),
                *((name, c_int64) for name in ("batch", "heads", "queries", "keys"))]


class Output(Structure):
    _fields_ = [("struct_size", c_size_t), ("out", Tensor), *array_fields("lse"), ("trace", POINTER(Trace))]


class Part(Structure):
    _fields_ = [("struct_size", c_size_t), ("out", Tensor), *array_fields("lse")]


class Gradients(Structure):
    _fields_ = [("struct_size", c_size_t), ("d_query", Tensor), ("d_key", Tensor), ("d_value", Tensor), ("d_bias", Tensor),
                *array_fields("d_sinks")]


class QkvError(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def tensor(array):
    """A view of a 4-dimensional array, or no tensor. The caller keeps the array alive."""
    t = Tensor()
    if array is None:
        return t
    assert array.ndim == 4, array.shape
    t.data = array.ctypes.data
    t.dtype = DTYPES[array.dtype]
    t.shape[:] = array.shape
    t.strides[:] = [step // array.itemsize for step in array.strides]
    return t


class Qkv:
    """The library, its structs filled from numpy arrays. `options` are the fields of qkv_options by name."""

    def __init__(self, path=None):
        self.lib = ctypes.CDLL(str(path or library_path()))
        self.lib.qkv_last_error.restype = c_char_p
        self.lib.qkv_version.restype = c_char_p
        self.lib.qkv_isa.restype = c_char_p
        for struct in ("options", "trace", "output", "part", "gradients"):
            getattr(self.lib, f"qkv_{struct}_init").argtypes = [c_void_p, c_size_t]
        pointers = [c_void_p] * 5
        self.lib.qkv_attention.argtypes = pointers
        self.lib.qkv_trace_sizes.argtypes = pointers[:4]
        self.lib.qkv_attention_backward.argtypes = [*pointers, c_void_p, c_void_p, c_int64, c_void_p]
        self.lib.qkv_merge.argtypes = [c_void_p, c_int64, c_void_p]
        self.lib.qkv_weights.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p, *[c_int64] * 5, c_void_p]

    def check(self, status):
        if status != 0:
            raise QkvError(status, self.lib.qkv_last_error().decode())

    def new(self, struct):
        made = struct()
        self.check(getattr(self.lib, f"qkv_{struct.__name__.lower()}_init")(byref(made), ctypes.sizeof(made)))
        return made

    def set_array(self, struct, name, values, dtype=np.float32):
        """Sets a pointer and its size; returns the array, which must outlive the call."""
        if values is None:
            return None
        values = np.ascontiguousarray(values, dtype)
        setattr(struct, name, values.ctypes.data)
        setattr(struct, f"{name}_size", values.size)
        return values

    def options(self, scale=None, causal=None, window=(-1, -1), softcap=0.0, threads=0, mask=None, bias=None, k_scale=None,
                v_scale=None, sinks=None, alibi_slopes=None, key_lengths=None, cu_seqlens_q=None, cu_seqlens_k=None,
                block_table=None):
        """The struct and what it points to."""
        o = self.new(Options)
        if scale is not None:
            o.scale, o.has_scale = scale, 1
        o.causal = CAUSAL[causal]
        o.window_left, o.window_right = window
        o.softcap = softcap
        o.threads = threads
        o.mask, o.bias, o.k_scale, o.v_scale = map(tensor, (mask, bias, k_scale, v_scale))
        kept = [mask, bias, k_scale, v_scale, self.set_array(o, "sinks", sinks), self.set_array(o, "alibi_slopes", alibi_slopes)]
        for name, values in (("key_lengths", key_lengths), ("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_k", cu_seqlens_k),
                             ("block_table", block_table)):
            kept.append(self.set_array(o, name, values, np.int32))
        return o, kept

    def attention(self, query, key, value, out_dtype=None, trace=None, **options):
        """(out, lse), and with trace={"top": …, "block": …} a dict of its arrays as a third."""
        o, kept = self.options(**options)
        views = [tensor(query), tensor(key), tensor(value)]
        out = np.empty((*query.shape[:3], value.shape[3]), out_dtype or query.dtype)
        lse = np.empty(query.shape[:3], np.float32)
        output = self.new(Output)
        output.out = tensor(out)
        output.lse, output.lse_size = lse.ctypes.data, lse.size
        arrays = {}
        if trace is not None:
            t = self.new(Trace)
            t.top, t.block = trace.get("top", 0), trace.get("block", 0)
            self.check(self.lib.qkv_trace_sizes(byref(views[0]), byref(views[1]), byref(o), byref(t)))
            for name, (kind, dtype) in Trace.ARRAYS.items():
                arrays[name] = np.empty(getattr(t, kind), dtype)
                setattr(t, name, arrays[name].ctypes.data)
            output.trace = ctypes.pointer(t)
        self.check(self.lib.qkv_attention(*map(byref, views), byref(o), byref(output)))
        del kept
        return (out, lse) if trace is None else (out, lse, arrays)

    def weights(self, query, key, lse, **options):
        """The whole matrix e^(score − lse)."""
        o, kept = self.options(**options)
        lse = np.ascontiguousarray(lse, np.float32)
        keys = key.shape[2]
        if options.get("block_table") is not None:
            keys = max(options["key_lengths"])
        out = np.empty((*query.shape[:3], keys), np.float32)
        self.check(self.lib.qkv_weights(byref(tensor(query)), byref(tensor(key)), byref(o), lse.ctypes.data, lse.size, 0,
                                        query.shape[2], 0, keys, byref(tensor(out))))
        del kept
        return out

    def merge(self, parts):
        """(out, lse) of [(out, lse), …]."""
        structs = (Part * len(parts))()
        for struct, (out, lse) in zip(structs, parts):
            self.check(self.lib.qkv_part_init(byref(struct), ctypes.sizeof(struct)))
            struct.out, struct.lse, struct.lse_size = tensor(out), lse.ctypes.data, lse.size
        out, lse = np.empty_like(parts[0][0]), np.empty_like(parts[0][1])
        output = self.new(Output)
        output.out, output.lse, output.lse_size = tensor(out), lse.ctypes.data, lse.size
        self.check(self.lib.qkv_merge(structs, len(parts), byref(output)))
        return out, lse

    def backward(self, query, key, value, out, lse, d_out, d_lse=None, **options):
        """Gradients by name: d_query, d_key, d_value, and d_bias and d_sinks where there is a bias and a sink."""
        o, kept = self.options(**options)
        forward, gradients = self.new(Part), self.new(Gradients)
        forward.out, forward.lse, forward.lse_size = tensor(out), lse.ctypes.data, lse.size
        got = {"d_query": np.empty_like(query), "d_key": np.empty_like(key), "d_value": np.empty_like(value)}
        if options.get("bias") is not None:
            got["d_bias"] = np.empty_like(options["bias"])
        for name, array in got.items():
            setattr(gradients, name, tensor(array))
        if options.get("sinks") is not None:
            got["d_sinks"] = np.empty(query.shape[1], np.float32)
            gradients.d_sinks, gradients.d_sinks_size = got["d_sinks"].ctypes.data, got["d_sinks"].size
        d_lse = None if d_lse is None else np.ascontiguousarray(d_lse, np.float32)
        self.check(self.lib.qkv_attention_backward(
            byref(tensor(query)), byref(tensor(key)), byref(tensor(value)), byref(o), byref(forward), byref(tensor(d_out)),
            None if d_lse is None else d_lse.ctypes.data, 0 if d_lse is None else d_lse.size, byref(gradients)))
        del kept
        return got
