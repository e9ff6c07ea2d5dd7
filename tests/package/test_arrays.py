"""qkv.attention, weights and merge over NumPy arrays: every option, type and layout against float64."""
import attention_reference as reference
import ml_dtypes
import numpy as np
import pytest
from attention_reference import random

import qkv

GENERATOR = np.random.default_rng(7)
CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"causal": True},
    "bottom-right": {"causal": "bottom-right"},
    "top-left": {"causal": "top-left"},
    "window": {"window": (3, 2)},
    "causal window": {"causal": True, "window": (4, -1)},
    "mask": {"mask": GENERATOR.random((2, 1, 9, 13)) < 0.6},
    "mask of two dimensions": {"mask": GENERATOR.random((9, 13)) < 0.6},
    "bias": {"bias": random(1, 4, 9, 13)},
    "bias of one row": {"bias": random(13)},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": random(4)},
    "sinks in a list": {"sinks": [0.5, -1, 2, 0]},
    "sinks in float64": {"sinks": random(4, dtype=np.float64)},
    "ALiBi": {"alibi_slopes": np.float32([0.5, 0.25, 0.125, 0.0625])},
    "key lengths": {"key_lengths": np.int32([13, 5])},
    "key lengths in a list": {"key_lengths": [0, 7]},
    "key lengths in int64": {"key_lengths": np.array([2, 11])},
    "everything": {"causal": True, "softcap": 2.0, "bias": random(2, 1, 9, 13), "sinks": random(4), "key_lengths": [13, 10],
                   "mask": GENERATOR.random((1, 4, 9, 13)) < 0.8, "alibi_slopes": [1.0, 0.5, 0.2, 0.1], "window": (8, 8)},
}


def inputs(dtype=np.float32, batch=2, heads=4, heads_kv=2, queries=9, keys=13, dim=8, dim_v=6):
    return (random(batch, heads, queries, dim).astype(dtype), random(batch, heads_kv, keys, dim, seed=1).astype(dtype),
            random(batch, heads_kv, keys, dim_v, seed=2).astype(dtype))


@pytest.mark.parametrize("case", CASES)
def test_options(case):
    options = CASES[case]
    q, k, v = inputs()
    out, lse = qkv.attention(q, k, v, **options, return_lse=True)
    expected, expected_lse, _ = reference.attention(q, k, v, **options)
    assert type(out) is np.ndarray and out.dtype == np.float32 and out.shape == (2, 4, 9, 6)
    assert lse.dtype == np.float32 and lse.shape == (2, 4, 9)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_allclose(lse, expected_lse, atol=2e-6)
    assert np.array_equal(qkv.attention(q, k, v, **options, threads=1), out)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float16, 3e-3), (ml_dtypes.bfloat16, 2e-2)])
def test_types(dtype, tolerance):
    q, k, v = inputs(dtype)
    out, lse = qkv.attention(q, k, v, return_lse=True)
    assert out.dtype == dtype and lse.dtype == np.float32
    np.testing.assert_allclose(out.astype(np.float64), reference.attention(q, k, v)[0], atol=tolerance)
    wide = np.empty(out.shape, np.float32)
    assert qkv.attention(q, k, v, out=wide) is wide
    np.testing.assert_allclose(wide, reference.attention(q, k, v)[0], atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_strides_are_read_in_place(dtype):
    """[batch, tokens, heads, dim] in memory, every second batch entry, read-only, reversed, repeated: the bits do not change."""
    q, k, v = inputs(dtype)
    dense = qkv.attention(q, k, v)
    q2 = np.ascontiguousarray(q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    k2 = np.repeat(k, 2, axis=0)[::2]
    v2 = np.ascontiguousarray(v[:, :, ::-1])[:, :, ::-1]
    k2.flags.writeable = False
    assert np.array_equal(qkv.attention(q2, k2, v2), dense)
    one = np.broadcast_to(k[:, :1], (2, 4, 13, 8))
    assert np.array_equal(qkv.attention(q, one, np.broadcast_to(v[:, :1], (2, 4, 13, 6))), qkv.attention(q, k[:, :1], v[:, :1]))


def test_out_is_written_in_place():
    q, k, v = inputs()
    buffer = np.full((2, 9, 4, 6), np.nan, np.float32)
    out = buffer.transpose(0, 2, 1, 3)
    assert qkv.attention(q, k, v, out=out) is out
    assert np.array_equal(out, qkv.attention(q, k, v))
    assert np.array_equal(buffer, out.transpose(0, 2, 1, 3))


def test_packed():
    starts = np.int32([0, 3, 3, 8])
    q, k, v = random(4, 8, 8), random(2, 8, 8, seed=1), random(2, 8, 6, seed=2)
    out, lse, trace = qkv.attention(q, k, v, causal=True, cu_seqlens_q=starts, cu_seqlens_k=starts, return_lse=True,
                                    trace=qkv.Trace(top=2, received=True, block=2))
    assert out.shape == (4, 8, 6) and lse.shape == (4, 8) and trace.entropy.shape == (4, 8) and trace.top_keys.shape == (4, 8, 2)
    assert trace.received.shape == (4, 8) and trace.block_mass.shape == (3, 4, 3, 3)
    for begin, end in ((0, 3), (3, 8)):
        part = [x[None, :, begin:end] for x in (q, k, v)]
        alone, alone_lse = qkv.attention(*part, causal=True, return_lse=True)
        assert np.array_equal(out[:, begin:end], alone[0]) and np.array_equal(lse[:, begin:end], alone_lse[0])
    with_batch = qkv.attention(q[None], k[None], v[None], causal=True, cu_seqlens_q=starts, cu_seqlens_k=list(starts))
    assert with_batch.shape == (1, 4, 8, 6) and np.array_equal(with_batch[0], out)
    # packed queries, padded keys
    padded = qkv.attention(q, np.stack([k, k, k]), np.stack([v, v, v]), cu_seqlens_q=starts)
    assert padded.shape == (4, 8, 6)


def test_paged():
    pool_k, pool_v = random(5, 2, 4, 8, seed=1), random(5, 2, 4, 6, seed=2)
    q = random(2, 4, 3, 8)
    table, lengths = np.int32([[3, 0, -1], [3, 4, 1]]), [6, 12]
    out = qkv.attention(q, pool_k, pool_v, block_table=table, key_lengths=lengths, causal=True)
    k = np.stack([np.concatenate([pool_k[p] for p in row], axis=1) for row in ([3, 0, 0], [3, 4, 1])])
    v = np.stack([np.concatenate([pool_v[p] for p in row], axis=1) for row in ([3, 0, 0], [3, 4, 1])])
    assert np.array_equal(out, qkv.attention(q, k, v, key_lengths=lengths, causal=True))
    assert np.array_equal(out, qkv.attention(q, pool_k, pool_v, block_table=table.tolist(), key_lengths=lengths, causal=True))
    tile = qkv.weights(q, pool_k, block_table=table, key_lengths=lengths, causal=True)
    assert tile.shape == (2, 4, 3, 12)
    np.testing.assert_allclose(tile.sum(-1), 1, atol=1e-6)
    wide = np.int32([[3, 9, 0, 9, -1, 9], [3, 9, 4, 9, 1, 9]])[:, ::2]  # not dense: a copy is read
    assert np.array_equal(out, qkv.attention(q, pool_k, pool_v, block_table=wide, key_lengths=lengths, causal=True))


@pytest.mark.parametrize("scale", [0.02, np.full((1, 1, 1, 1), 0.02, np.float32), np.full((2, 2, 13, 1), 0.02, np.float32)])
def test_int8(scale):
    q = random(2, 4, 9, 8)
    k, v = (GENERATOR.integers(-128, 128, (2, 2, 13, dim), dtype=np.int8) for dim in (8, 6))
    out = qkv.attention(q, k, v, k_scale=scale, v_scale=0.5)
    expected = reference.attention(q, k, v, k_scale=scale, v_scale=0.5)[0]
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("case", ["plain", "causal", "sinks", "key lengths in a list", "everything"])
def test_trace(case):
    options = CASES[case]
    q, k, v = inputs()
    out, trace = qkv.attention(q, k, v, **options, trace=qkv.Trace(top=3, received=True, block=4))
    assert np.array_equal(out, qkv.attention(q, k, v, **options))
    expected, lse, p = reference.attention(q, k, v, **options)
    np.testing.assert_allclose(trace.lse, lse, atol=2e-6)
    order = np.argsort(-p, axis=-1, kind="stable")[..., :3]
    weights = np.take_along_axis(p, order, axis=-1)
    assert trace.top_keys.dtype == np.int32
    assert np.array_equal(trace.top_keys, np.where(weights > 0, order, -1))
    np.testing.assert_allclose(trace.top_weights, weights, atol=2e-6)
    np.testing.assert_allclose(trace.received, p.sum(axis=2), atol=1e-5)
    np.testing.assert_allclose(trace.block_mass.sum(axis=(2, 3)), p.sum(axis=(2, 3)), atol=1e-5)
    assert trace.block_mass.shape == trace.block_max.shape == (2, 4, 3, 4) and trace.visible.dtype == np.int32
    assert "top_keys [2, 4, 9, 3]" in repr(trace)


def test_a_small_trace():
    q, k, v = inputs()
    out, lse, trace = qkv.attention(q, k, v, trace=qkv.Trace(), return_lse=True)
    assert np.array_equal(trace.lse, lse)
    assert trace.received is None and trace.block_mass is None and trace.top_keys.shape == (2, 4, 9, 0)


@pytest.mark.parametrize("case", [case for case in CASES if case != "plain"])
def test_weights(case):
    options = CASES[case]
    q, k, v = inputs()
    _, lse = qkv.attention(q, k, v, **options, return_lse=True)
    p = reference.attention(q, k, v, **options)[2]
    tile = qkv.weights(q, k, lse=lse, queries=slice(2, 7), keys=slice(-6, None), **options)
    assert tile.shape == (2, 4, 5, 6) and tile.dtype == np.float32
    np.testing.assert_allclose(tile, p[:, :, 2:7, 7:], atol=2e-6)
    assert np.array_equal(tile == 0, p[:, :, 2:7, 7:] == 0)
    assert np.array_equal(qkv.weights(q, k, **options)[:, :, 2:7, 7:], tile)  # lse computed again


def test_merge():
    q, k, v = inputs()
    whole, whole_lse = qkv.attention(q, k, v, return_lse=True)
    parts = [qkv.attention(q, k[:, :, a:b], v[:, :, a:b], return_lse=True) for a, b in ((0, 5), (5, 5), (5, 13))]
    out, lse = qkv.merge(parts)
    np.testing.assert_allclose(out, whole, atol=1e-6)
    np.testing.assert_allclose(lse, whole_lse, atol=1e-6)
    kept, kept_lse = qkv.merge([parts[0], parts[1]])  # an empty part keeps the other's bits
    assert np.array_equal(kept, parts[0][0]) and np.array_equal(kept_lse, parts[0][1])


def test_no_keys_and_no_queries():
    q, k, v = inputs()
    out, lse = qkv.attention(q, k[:, :, :0], v[:, :, :0], return_lse=True)
    assert (out == 0).all() and (lse == -np.inf).all()
    assert qkv.attention(q[:, :, :0], k, v).shape == (2, 4, 0, 6)


class Exported:
    """An array of an unknown library that exports DLPack, and no more."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_anything_with_dlpack():
    q, k, v = inputs()
    out = qkv.attention(*map(Exported, (q, k, v)), bias=Exported(CASES["bias"]["bias"]))
    assert np.array_equal(out, qkv.attention(q, k, v, **CASES["bias"]))
    assert np.array_equal(qkv.attention(q, Exported(k), v), qkv.attention(q, k, v))  # the result is of the query's kind


def test_names():
    assert qkv.isa() in ("avx512_bf16", "avx512", "avx2", "neon", "scalar")
    assert qkv.__version__.count(".") == 2
    assert "heads_q" in qkv.attention.__doc__ and qkv.attention.__kwdefaults__["threads"] == 0
    assert all(hasattr(qkv, name) for name in qkv.__all__)
