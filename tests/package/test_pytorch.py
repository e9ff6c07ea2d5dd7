"""qkv under PyTorch: kinds of tensors, autograd, torch.compile, torch.func, checkpointing, opcheck, and the drop-in."""
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import qkv
import qkv.pytorch

torch.set_num_threads(1)


def tensors(dtype=torch.float32, requires_grad=False, batch=2, heads=4, heads_kv=2, queries=9, keys=13, dim=8, dim_v=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, heads, queries, dim), (batch, heads_kv, keys, dim), (batch, heads_kv, keys, dim_v))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_(requires_grad) for shape in shapes]


def written_out(q, k, v, causal=False, bias=None, mask=None, sinks=None, softcap=0.0, scale=None):
    """The operation in PyTorch's own operators: (out, lse)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(2, 3) * (scale or q.shape[-1] ** -0.5)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    if causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        column = sinks.reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    p = scores.softmax(-1)
    return (p[..., :-1] if sinks is not None else p) @ v, scores.logsumexp(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kinds_and_bits(dtype):
    q, k, v = tensors(dtype)
    out, lse, trace = qkv.attention(q, k, v, causal=True, return_lse=True, trace=qkv.Trace(top=2, received=True, block=4))
    assert out.dtype == dtype and isinstance(out, torch.Tensor) and lse.dtype == torch.float32
    assert all(isinstance(getattr(trace, name), torch.Tensor) for name in ("lse", "top_keys", "received", "block_max"))
    if dtype == torch.float32:
        arrays = qkv.attention(q.numpy(), k.numpy(), v.numpy(), causal=True)
        assert isinstance(arrays, np.ndarray) and torch.equal(out, torch.from_numpy(arrays))
    given = torch.empty(2, 9, 4, 6, dtype=dtype).transpose(1, 2)
    assert qkv.attention(q, k, v, causal=True, out=given) is given and torch.equal(given, out)
    tile = qkv.weights(q, k, lse=lse, causal=True, queries=slice(3, 5))
    assert isinstance(tile, torch.Tensor) and tile.shape == (2, 4, 2, 13)
    merged, merged_lse = qkv.merge([(out, lse)])
    assert torch.equal(merged, out) and torch.equal(merged_lse, lse)
    with torch.no_grad():
        parameter = torch.nn.Parameter(q)
        assert torch.equal(qkv.attention(parameter, k, v, causal=True), out)
    with torch.inference_mode():
        assert torch.equal(qkv.attention(q.clone(), k, v, causal=True), out)


CASES = {
    "plain": {},
    "causal": {"causal": True},
    "softcap and scale": {"softcap": 2.0, "scale": 0.5},
    "bias": {"bias": (2, 4, 9, 13)},
    "bias of all heads": {"bias": (9, 13)},
    "sinks": {"sinks": (4,)},
    "mask": {"mask": True},
    "everything": {"causal": True, "softcap": 2.0, "bias": (1, 4, 1, 13), "sinks": (4,), "mask": True},
}


def options_of(case, requires_grad):
    options = dict(CASES[case])
    generator = torch.Generator().manual_seed(5)
    for name in ("bias", "sinks"):
        if name in options:
            options[name] = torch.randn(options[name], generator=generator).requires_grad_(requires_grad)
    if options.get("mask"):
        options["mask"] = torch.rand(2, 1, 9, 13, generator=generator) < 0.8
    return options


def gradients(function, q, k, v, options, with_lse=True):
    inputs = [q, k, v, *(x for x in options.values() if isinstance(x, torch.Tensor) and x.requires_grad)]
    out, lse = function(q, k, v, **options)
    loss = (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum()
    if with_lse:
        loss = loss + (lse * torch.linspace(1, 2, lse.numel()).reshape(lse.shape)).sum()
    return out, torch.autograd.grad(loss, inputs)


def attention_and_lse(*tensors, **options):
    return qkv.attention(*tensors, **options, return_lse=True)


@pytest.mark.parametrize("with_lse", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case, with_lse):
    options = options_of(case, True)
    inputs = tensors(requires_grad=True)
    out, got = gradients(attention_and_lse, *inputs, options, with_lse)
    expected_out, expected = gradients(written_out, *inputs, options, with_lse)
    torch.testing.assert_close(out, expected_out, atol=1e-5, rtol=1e-5)
    assert len(got) == len(expected) == 3 + ("bias" in options) + ("sinks" in options)
    for mine, theirs in zip(got, expected):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


def test_gradients_of_half_precision_and_of_some_inputs():
    q, k, v = tensors(torch.bfloat16)
    k.requires_grad_()
    qkv.attention(q, k, v, causal=True).sum().backward()  # a gradient without strides
    assert k.grad.dtype == torch.bfloat16 and q.grad is None
    wide = k.detach().float().requires_grad_()
    written_out(q.float(), wide, v.float(), causal=True)[0].sum().backward()
    torch.testing.assert_close(k.grad.float(), wide.grad, atol=0.05, rtol=0.05)


def test_trace_with_gradients():
    q, k, v = tensors(requires_grad=True)
    out, trace = qkv.attention(q, k, v, trace=qkv.Trace(top=2))
    out.sum().backward()
    assert q.grad is not None and not trace.top_weights.requires_grad
    assert torch.equal(trace.top_keys, qkv.attention(q.detach(), k, v, trace=qkv.Trace(top=2))[1].top_keys)


def test_errors():
    q, k, v = tensors(requires_grad=True)
    with pytest.raises(ValueError, match="out is given"):
        qkv.attention(q, k, v, out=torch.empty(2, 4, 9, 6))
    with pytest.raises(ValueError, match="alibi_slopes requires a gradient"):
        qkv.attention(q, k, v, alibi_slopes=torch.ones(4, requires_grad=True)).sum().backward()
    with pytest.raises(ValueError, match="query has 4 heads and key 3"):
        qkv.attention(q, torch.cat([k, k[:, :1]], 1), torch.cat([v, v[:, :1]], 1))
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        first, = torch.autograd.grad(qkv.attention(q, k, v).sum(), q, create_graph=True)
        first.sum().backward()


@pytest.mark.parametrize("case", CASES)
def test_opcheck(case):
    for requires_grad in (True, False):
        options = {"scale": None, "causal": False, "window": (-1, -1), "mask": None, "bias": None, "softcap": 0.0, "sinks": None,
                   "alibi_slopes": None, "key_lengths": None, "cu_seqlens_q": None, "cu_seqlens_k": None, "block_table": None,
                   "k_scale": None, "v_scale": None, "threads": 0, **options_of(case, requires_grad)}
        options["causal"] = "bottom-right" if options["causal"] else ""
        torch.library.opcheck(torch.ops.qkv.attention.default, (*tensors(requires_grad=requires_grad), *options.values()))


@pytest.mark.parametrize("case", ["plain", "causal", "everything"])
def test_compile(case):
    options = options_of(case, True)
    compiled = torch.compile(attention_and_lse, fullgraph=True, backend="aot_eager")
    inputs = tensors(requires_grad=True)
    out, got = gradients(compiled, *inputs, options)
    eager_out, expected = gradients(attention_and_lse, *inputs, options)
    assert torch.equal(out, eager_out)
    for mine, theirs in zip(got, expected):
        torch.testing.assert_close(mine, theirs)


def test_compile_with_inductor_and_without_gradients():
    def layer(x, w):
        q, k, v = (x @ w).reshape(2, 9, 3, 4, 8).permute(2, 0, 3, 1, 4)
        return torch.relu(qkv.attention(q, k, v, causal=True, key_lengths=torch.tensor([9, 9], dtype=torch.int32)) + 1)

    x, w = torch.randn(2, 9, 16), torch.randn(16, 96)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x, w), layer(x, w))


def test_compile_of_the_drop_in_with_changing_lengths():
    compiled = torch.compile(qkv.scaled_dot_product_attention, fullgraph=True, backend="aot_eager", dynamic=True)
    for tokens in (4, 7, 12):
        q = torch.randn(1, 2, tokens, 8)
        torch.testing.assert_close(compiled(q, q, q, is_causal=True), F.scaled_dot_product_attention(q, q, q, is_causal=True))


def test_func():
    q, k, v = tensors(heads=2)

    def loss(q, k, v):
        return (qkv.attention(q, k, v, causal=True) ** 2).sum()

    def loss_written_out(q, k, v):
        return (written_out(q, k, v, causal=True)[0] ** 2).sum()

    for mine, theirs in zip(torch.func.grad(loss, (0, 1, 2))(q, k, v), torch.func.grad(loss_written_out, (0, 1, 2))(q, k, v)):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    stacked = torch.stack([q, q + 1])
    batched = torch.func.vmap(lambda q: qkv.attention(q, k, v, causal=True))(stacked)
    assert torch.equal(batched, torch.stack([qkv.attention(x, k, v, causal=True) for x in stacked]))
    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(1, None, None))(stacked.transpose(0, 1), k, v)
    torch.testing.assert_close(per_sample[1], torch.func.grad(loss)(q + 1, k, v))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint(use_reentrant):
    q, k, v = tensors(requires_grad=True)

    def layer(q, k, v):
        return torch.sin(qkv.attention(q * 2, k, v))

    expected = torch.autograd.grad(layer(q, k, v).sum(), (q, k, v))
    checkpoint(layer, q, k, v, use_reentrant=use_reentrant).sum().backward()
    for mine, theirs in zip((q.grad, k.grad, v.grad), expected):
        assert torch.equal(mine, theirs)


def test_modes_and_hooks_see_the_operator():
    from torch.utils._python_dispatch import TorchDispatchMode
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            seen.append(str(function))
            return function(*arguments, **(keywords or {}))

    with Watch():
        qkv.attention(*tensors())
    assert "qkv.attention.default" in seen


def test_export():
    class Layer(torch.nn.Module):
        def forward(self, q, k, v):
            return qkv.attention(q, k, v, causal=True)

    q, k, v = tensors()
    program = torch.export.export(Layer(), (q, k, v))
    assert torch.equal(program.module()(q, k, v), qkv.attention(q, k, v, causal=True))


# ---- the drop-in

def close(mine, theirs):
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shapes", [
    ((2, 4, 9, 8), (2, 4, 13, 8), (2, 4, 13, 6)), ((4, 9, 8), (4, 13, 8), (4, 13, 8)), ((9, 8), (13, 8), (13, 5)),
    ((2, 3, 4, 9, 8), (2, 3, 4, 13, 8), (2, 3, 4, 13, 8)),
])
@pytest.mark.parametrize("is_causal, scale", list(itertools.product([False, True], [None, 0.25])))
def test_drop_in_shapes(shapes, is_causal, scale):
    q, k, v = (torch.randn(shape) for shape in shapes)
    close(qkv.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale),
          F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale))


@pytest.mark.parametrize("shape", [(9, 13), (1, 13), (4, 1, 13), (2, 1, 9, 13), (2, 4, 9, 13), (2, 1, 1, 13)])
def test_drop_in_masks(shape):
    q, k, v = tensors(heads_kv=4)
    seen = torch.rand(shape) < 0.7
    seen[..., 0] = True
    close(qkv.scaled_dot_product_attention(q, k, v, seen), F.scaled_dot_product_attention(q, k, v, seen))
    added = torch.randn(shape, requires_grad=True)
    mine, theirs = qkv.scaled_dot_product_attention(q, k, v, added), F.scaled_dot_product_attention(q, k, v, added)
    close(mine, theirs)
    close(*(torch.autograd.grad((x ** 2).sum(), added)[0] for x in (mine, theirs)))


def test_drop_in_grouped_heads_and_strides():
    q, k, v = tensors()
    close(qkv.scaled_dot_product_attention(q, k, v, enable_gqa=True), F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    turned = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (q, k, v)]  # the last dimension is not contiguous
    close(qkv.scaled_dot_product_attention(*turned, enable_gqa=True), F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    half = [x.bfloat16() for x in tensors(heads_kv=4)]
    mask = torch.zeros(9, 13, dtype=torch.bfloat16)
    mask[:, 3:] = -torch.inf
    torch.testing.assert_close(qkv.scaled_dot_product_attention(*half, mask), F.scaled_dot_product_attention(*half, mask),
                               atol=0.02, rtol=0.02)


@pytest.mark.parametrize("changes, message", [
    ({"dropout_p": 0.1}, "dropout_p is 0.1; qkv computes exact attention"),
    ({"is_causal": True, "attn_mask": torch.ones(9, 13, dtype=torch.bool)}, "attn_mask and is_causal are both given"),
    ({}, "query has 4 heads and key 2; expected the same number, or enable_gqa=True"),
    ({"key": torch.zeros(13, 8)}, "expected the same number of dimensions"),
])
def test_drop_in_errors(changes, message):
    arguments = dict(zip(("query", "key", "value"), tensors())) | changes
    with pytest.raises(ValueError, match=message):
        qkv.scaled_dot_product_attention(**arguments)
