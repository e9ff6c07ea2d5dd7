"""Gradients of attention against PyTorch's, through the C interface."""
import numpy as np
import pytest
import torch
from qkv_c import Qkv, QkvError, library_path

pytestmark = pytest.mark.skipif(not library_path().exists(), reason=f"{library_path()} is not built")

CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "one key": {"keys": 1},
    "long": {"queries": 40, "keys": 700, "dim": 64},
    "value of another width": {"dim_v": 5},
    "grouped heads": {"heads": 6, "heads_kv": 2},
    "causal": {"causal": "bottom_right"},
    "causal, more queries than keys": {"causal": "bottom_right", "queries": 20, "keys": 9},
    "top left": {"causal": "top_left"},
    "window": {"window": (3, 2)},
    "softcap": {"softcap": 1.5},
    "mask": {"mask": True},
    "bias": {"bias": (2, 4)},
    "bias for all heads and batch entries": {"bias": (1, 1)},
    "sinks": {"sinks": True},
    "ALiBi": {"alibi_slopes": True},
    "key lengths": {"key_lengths": [7, 0]},
    "everything": {"causal": "bottom_right", "softcap": 2.0, "bias": (1, 4), "sinks": True, "heads_kv": 2, "alibi_slopes": True,
                   "key_lengths": [19, 11], "mask": True},
}


@pytest.fixture(scope="module")
def qkv():
    return Qkv()


def visible(queries, keys, length, causal, window):
    """[queries, keys]: what order, window and length let each query see."""
    position = torch.arange(queries)[:, None] + (0 if causal == "top_left" else length - queries)
    key = torch.arange(keys)[None, :]
    seen = (key < length).expand(queries, keys).clone()
    if causal:
        seen &= key <= position
    if window[0] >= 0:
        seen &= key >= position - window[0]
    if window[1] >= 0:
        seen &= key <= position + window[1]
    return seen, position


def expected_gradients(given, options, d_out, d_lse):
    """Output and gradients of the operation written out in float64 (docs/numerics.md)."""
    leaves = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in given.items()}
    query, key, value = leaves["query"], leaves["key"], leaves["value"]
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * options.get("scale", query.shape[3] ** -0.5)
    if options.get("softcap"):
        scores = options["softcap"] * torch.tanh(scores / options["softcap"])
    if "bias" in leaves:
        scores = scores + leaves["bias"]
    queries, keys = scores.shape[2:]
    lengths = options.get("key_lengths", [keys] * query.shape[0])
    seen = torch.ones(scores.shape, dtype=torch.bool)
    distance = torch.zeros(scores.shape, dtype=torch.float64)
    for b, length in enumerate(lengths):
        here, position = visible(queries, keys, length, options.get("causal"), options.get("window", (-1, -1)))
        seen[b] &= here
        distance[b] = (position - torch.arange(keys)).abs()
    if options.get("mask") is not None:
        seen &= torch.tensor(options["mask"])
    if options.get("alibi_slopes") is not None:
        scores = scores - torch.tensor(options["alibi_slopes"], dtype=torch.float64)[None, :, None, None] * distance
    scores = scores.masked_fill(~seen, -torch.inf)
    some = seen.any(dim=3)
    if "sinks" in leaves:
        scores = torch.cat([scores, leaves["sinks"][None, :, None, None].expand(*scores.shape[:3], 1)], dim=3)
        some = torch.ones_like(some)
    # a row that sees nothing has output 0, and an autograd of it NaN: it is given something to see, and left out
    safe = torch.where(some[..., None], scores, torch.zeros(()))
    lse = torch.where(some, safe.logsumexp(dim=3), torch.zeros((), dtype=torch.float64))
    weights = torch.where(some[..., None], safe.softmax(dim=3), torch.zeros((), dtype=torch.float64))[..., :keys]
    out = weights @ value
    total = (out * torch.tensor(d_out, dtype=torch.float64)).sum()
    if d_lse is not None:
        total = total + (lse * torch.tensor(d_lse, dtype=torch.float64)).sum()
    total.backward()
    return out.detach().numpy(), {f"d_{name}": leaf.grad.numpy() for name, leaf in leaves.items()}


def gradients(qkv, *arguments, **options):
    try:
        return qkv.backward(*arguments, **options)
    except QkvError as error:
        if "not built yet" in str(error):
            pytest.skip("gradients are not built yet")
        raise


@pytest.mark.parametrize("with_lse", [False, True], ids=["out", "out and lse"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_autograd(qkv, name, with_lse):
    options = dict(CASES[name])
    random = np.random.default_rng(sum(map(ord, name)))
    heads = options.pop("heads", 4)
    heads_kv = options.pop("heads_kv", heads)
    queries, keys = options.pop("queries", 13), options.pop("keys", 19)
    dim = options.pop("dim", 8)
    dim_v = options.pop("dim_v", dim)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    given = {"query": normal(2, heads, queries, dim), "key": normal(2, heads_kv, keys, dim), "value": normal(2, heads_kv, keys, dim_v)}
    if "bias" in options:
        options["bias"] = given["bias"] = normal(*options["bias"], queries, keys)
    if options.pop("sinks", False):
        options["sinks"] = given["sinks"] = normal(heads)
    if options.pop("alibi_slopes", False):
        options["alibi_slopes"] = np.abs(normal(heads))
    if options.pop("mask", False):
        options["mask"] = random.random((2, 1, queries, keys)) < 0.7
        options["mask"][0, 0, 2] = False  # a row that sees nothing
    out, lse = qkv.attention(given["query"], given["key"], given["value"], **options)
    d_out, d_lse = normal(*out.shape), None
    if with_lse:
        d_lse = normal(*lse.shape)
    expected_out, expected = expected_gradients(given, options, d_out, d_lse)
    np.testing.assert_allclose(out, expected_out, rtol=1e-4, atol=1e-5)
    got = gradients(qkv, given["query"], given["key"], given["value"], out, lse, d_out, d_lse, **options)
    assert got.keys() == expected.keys()
    for gradient, array in expected.items():
        np.testing.assert_allclose(got[gradient], array, rtol=1e-4, atol=2e-5 * max(1.0, np.abs(array).max()), err_msg=gradient)
