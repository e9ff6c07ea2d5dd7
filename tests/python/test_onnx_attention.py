"""The published test cases of ONNX `Attention` (opsets 23 to 25) and `FlexAttention`, run through the C interface.

Each case is one test; what does not apply is skipped with its reason, and the last test prints how many there were of each.
Inputs with three dimensions are reshaped, a past is put before the keys, and a mask of floats is a bias: this is what a
program that meets the operator in a model does.
"""
import collections
import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from qkv_c import BFLOAT16, Qkv, library_path

pytestmark = pytest.mark.skipif(not library_path().exists(), reason=f"{library_path()} is not built")
OUTCOMES = collections.Counter()


def published_cases():
    with warnings.catch_warnings():  # other operators' cases overflow on purpose
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        every = collect_testcases("")
    return [case for case in every if case.name.startswith(("test_attention_", "test_flexattention"))]


CASES = published_cases()
WHOLE = [case for case in CASES if "_expanded" not in case.name]


@pytest.fixture(scope="module")
def qkv():
    return Qkv()


def not_applicable(reason):
    OUTCOMES[f"not applicable: {reason}"] += 1
    pytest.skip(reason)


def split_heads(array, heads):
    """[batch, tokens, heads·dim] as [batch, heads, tokens, dim], without a copy."""
    batch, tokens, width = array.shape
    return array.reshape(batch, tokens, heads, width // heads).transpose(0, 2, 1, 3)


def four_dimensions(mask, keys):
    """A mask that broadcasts from the right, as a view of four dimensions, padded to all keys with what hides them."""
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    missing = keys - mask.shape[3]
    if missing > 0 and mask.shape[3] > 0:
        hidden = False if mask.dtype == np.bool_ else -np.inf
        mask = np.concatenate([mask, np.full((*mask.shape[:3], missing), hidden, mask.dtype)], axis=3)
    return mask


def expect_close(got, expected, case):
    assert got.shape == expected.shape and got.dtype == expected.dtype
    if got.dtype == np.float32:
        np.testing.assert_allclose(got, expected, rtol=case.rtol, atol=max(case.atol, 1e-6))
        return
    # the published numbers were rounded to 16 bits after every step, ours once at the end
    unit = 2.0**-8 if got.dtype == BFLOAT16 else 2.0**-11
    np.testing.assert_allclose(got.astype(np.float32), expected.astype(np.float32), rtol=8 * unit, atol=4 * unit)


def placed(node, queries, keys, past, lengths):
    """Order and window as options: position = i + keys − queries with lengths, past + i without."""
    options = {}
    causal = node.get("is_causal", 0) == 1
    window = (node.get("left_window_size", -1), node.get("right_window_size", -1))
    if not causal and window == (-1, -1):
        return options
    offset = None if lengths is not None else past
    if offset is None or offset == keys - queries:
        options["window"] = window
        if causal:
            options["causal"] = "bottom_right"
    elif offset == 0 and causal:
        options.update(causal="top_left", window=window)
    else:  # another place than the options know: written out as a mask
        position = offset + np.arange(queries)[:, None]
        key = np.arange(keys)[None, :]
        seen = np.ones((queries, keys), np.bool_)
        if causal:
            seen &= key <= position
        if window[0] >= 0:
            seen &= key >= position - window[0]
        if window[1] >= 0:
            seen &= key <= position + window[1]
        options["mask"] = seen[None, None]
    return options


def raw_scores(qkv, query, key, **options):
    """Scores are the logarithm of the weights against a log-sum-exp of 0."""
    with np.errstate(divide="ignore"):
        return np.log(qkv.weights(query, key, np.zeros(query.shape[:3], np.float32), **options))


def run_attention(qkv, case):
    node = next(node for node in case.model.graph.node if node.op_type == "Attention")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs, outputs = case.data_sets[0]
    given = dict(zip((name for name in node.input if name), inputs))
    names = ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"]
    given = {names[i]: given[name] for i, name in enumerate(node.input) if name}
    expected = dict(zip((["Y", "present_key", "present_value", "qk_matmul_output"][i] for i, name in enumerate(node.output) if name),
                        outputs))
    query, key, value = given["Q"], given["K"], given["V"]
    if query.dtype == np.float64 or key.dtype == np.float64:
        not_applicable("float64 tensors")
    three = query.ndim == 3
    if three:
        query = split_heads(query, attributes["q_num_heads"])
        key, value = (split_heads(array, attributes["kv_num_heads"]) for array in (key, value))
    past = 0
    if "past_key" in given:
        past = given["past_key"].shape[2]
        key = np.concatenate([given["past_key"], key], axis=2)
        value = np.concatenate([given["past_value"], value], axis=2)
        for name, present in (("present_key", key), ("present_value", value)):
            if name in expected:
                np.testing.assert_array_equal(present, expected[name])
    lengths = given.get("nonpad_kv_seqlen")
    keys = key.shape[2]
    options = placed(attributes, query.shape[2], keys, past, lengths)
    if lengths is not None:
        options["key_lengths"] = lengths
    if "attn_mask" in given:
        mask = four_dimensions(given["attn_mask"], keys)
        if mask.dtype == np.bool_:
            options["mask"] = mask & options["mask"] if "mask" in options else mask
        else:
            options["bias"] = mask.astype(np.float32)
    if "scale" in attributes:
        options["scale"] = attributes["scale"]
    options["softcap"] = attributes.get("softcap", 0.0)

    out, lse = qkv.attention(query, key, value, **options)
    if three:
        out = out.transpose(0, 2, 1, 3).reshape(out.shape[0], out.shape[2], -1)
    expect_close(out, expected["Y"], case)

    if "qk_matmul_output" in expected:
        mode = attributes.get("qk_matmul_output_mode", 0)
        if mode == 3:
            scores = qkv.weights(query, key, lse, **options)
        else:
            kept = {0: ["scale"], 1: ["scale", "softcap"], 2: list(options)}[mode]
            scores = raw_scores(qkv, query, key, **{name: options[name] for name in kept if name in options})
        expect_close(scores.astype(query.dtype), expected["qk_matmul_output"], case)


def constants_of(graph):
    """What a modifier's graph has as constants, by name."""
    return {made.name: numpy_helper.to_array(made) for made in graph.initializer}


def score_options(graph, queries, keys):
    """A score_mod of the published cases as options."""
    steps = [node.op_type for node in graph.node]
    constants = constants_of(graph)
    if steps == ["Add"]:
        return {"bias": constants["bias"].astype(np.float32).reshape(1, 1, 1, 1)}
    if steps == ["Div", "Tanh", "Mul"]:
        return {"softcap": float(constants["cap"])}
    if steps[-2:] == ["GreaterOrEqual", "Where"]:  # q_idx ≥ k_idx, both from 0
        return {"causal": "top_left"}
    if steps[-3:] == ["Sub", "Cast", "Add"]:  # + (q_idx − k_idx)
        distance = np.arange(queries)[:, None] - np.arange(keys)[None, :]
        return {"bias": distance.astype(np.float32)[None, None]}
    return None


def run_flexattention(qkv, case):
    node = next(node for node in case.model.graph.node if node.op_type == "FlexAttention")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    (query, key, value), (expected,) = case.data_sets[0]
    if query.dtype == np.float64:
        not_applicable("float64 tensors")
    if "prob_mod" in attributes:
        not_applicable("weights changed after the softmax")
    options = {}
    if "score_mod" in attributes:
        options = score_options(attributes["score_mod"], query.shape[2], key.shape[2])
        if options is None:
            not_applicable("scores changed by a formula that no option has")
    if "scale" in attributes:
        options["scale"] = attributes["scale"]
    out, _ = qkv.attention(query, key, value, **options)
    expect_close(out, expected, case)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name.removeprefix("test_"))
def test_published(qkv, case):
    if case.name.startswith("test_flexattention"):
        run_flexattention(qkv, case)
    else:
        run_attention(qkv, case)
    OUTCOMES["passed"] += 1


def test_summary(capsys):
    """What became of the cases. `_expanded` twins have the same numbers and spell the operator out in others."""
    assert len(WHOLE) > 80, "where have the published cases gone?"
    if sum(OUTCOMES.values()) == 0:
        pytest.skip("no case was run")
    lines = [f"  {count:3} {outcome}" for outcome, count in OUTCOMES.most_common()]
    failed = len(WHOLE) - sum(OUTCOMES.values())
    with capsys.disabled():
        print(f"\nONNX {onnx.__version__}: {len(WHOLE)} cases of Attention and FlexAttention", *lines, f"  {failed:3} failed or not run",
              f"  {len(CASES) - len(WHOLE):3} not applicable: the operator written out in others (_expanded)", sep="\n")
