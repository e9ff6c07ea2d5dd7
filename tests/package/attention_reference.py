"""attention() written out in NumPy's float64, option by option, for the tests of the package."""
import numpy as np


def rows(query, key, options, value=None):
    """scores [batch, heads, Sq, Sk] as the softmax sees them, -inf where hidden."""
    query, key = (np.asarray(x, dtype=np.float64) for x in (query, key))
    batch, heads, queries, dim = query.shape
    keys = key.shape[2]
    if options.get("k_scale") is not None:
        key = key * np.asarray(options["k_scale"], dtype=np.float64)
    key = np.repeat(key, heads // key.shape[1], axis=1)
    scores = query @ key.swapaxes(2, 3) * (options.get("scale") or dim**-0.5)
    if options.get("softcap"):
        scores = options["softcap"] * np.tanh(scores / options["softcap"])
    if options.get("bias") is not None:
        scores = scores + np.asarray(options["bias"], dtype=np.float64)
    lengths = np.asarray(options.get("key_lengths", [keys] * batch)).reshape(batch, 1, 1)
    causal = options.get("causal", False)
    position = np.arange(queries)[None, :, None] + (0 if causal == "top-left" else lengths - queries)
    k = np.arange(keys)[None, None, :]
    if options.get("alibi_slopes") is not None:
        slopes = np.asarray(options["alibi_slopes"], dtype=np.float64).reshape(1, heads, 1, 1)
        scores = scores - slopes * abs(position - k)[:, None]
    seen = np.broadcast_to(k < lengths, (batch, queries, keys)).copy()
    if causal:
        seen &= k <= position
    left, right = options.get("window", (-1, -1))
    if left >= 0:
        seen &= k >= position - left
    if right >= 0:
        seen &= k <= position + right
    seen = np.broadcast_to(seen[:, None], scores.shape)
    if options.get("mask") is not None:
        seen = seen & np.asarray(options["mask"])
    return np.where(seen, scores, -np.inf)


def attention(query, key, value, **options):
    """(out, lse, p) in float64."""
    scores = rows(query, key, options)
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    sinks = options.get("sinks")
    if sinks is not None:
        sinks = np.asarray(sinks, dtype=np.float64).reshape(1, -1, 1, 1)
        top = np.maximum(top, sinks)
    top = np.where(np.isfinite(top), top, 0)
    e = np.exp(scores - top)
    total = e.sum(axis=-1, keepdims=True) + (0 if sinks is None else np.exp(sinks - top))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(total > 0, e / total, 0)
        lse = (np.log(total) + top)[..., 0]
    value = np.asarray(value, dtype=np.float64)
    if options.get("v_scale") is not None:
        value = value * np.asarray(options["v_scale"], dtype=np.float64)
    value = np.repeat(value, p.shape[1] // value.shape[1], axis=1)
    return p @ value, lse, p


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
