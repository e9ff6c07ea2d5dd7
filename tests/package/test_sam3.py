"""SAM 3 watched: its attentions to words and to a picture, and examples/python/sam3.py with weights from a folder."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tiny_models import SAM3, made, padded_ids

import qkv

pytestmark = pytest.mark.skipif(not hasattr(transformers, "Sam3Model"), reason=f"transformers {transformers.__version__} has no Sam3Model")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/python/sam3.py"
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


@pytest.fixture(scope="module")
def model():
    return made("sam3")


@pytest.fixture(scope="module")
def inputs(model):
    return SAM3["tiny_inputs"]("a red car", model.config.image_size)[0]


def watched(model, inputs, **options):
    with torch.no_grad(), qkv.watch(model, **options) as seen:
        model(**inputs)
    return seen


def test_every_head_is_what_eager_attention_shows(model, inputs):
    """Windows, rotary places, padded words, and a bias of boxes for each query, head and patch."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        eager = model(**inputs, output_attentions=True)
    expected = [*eager.vision_attentions, *eager.detr_encoder_attentions, *eager.detr_decoder_attentions, *eager.mask_decoder_attentions]
    seen = watched(model, inputs)
    layers = [layer for layer in seen.layers if not layer.name.startswith("text_encoder")]
    assert len(layers) == len(expected) == 2 + 4 + 6 + 1
    assert sum(layer.calls[0].options.get("bias") is not None for layer in layers) == 2
    for layer, p in zip(layers, expected):
        for head in layer.heads:
            for batch in range(p.shape[0]):  # of a layer that sees windows, each window
                torch.testing.assert_close(head.weights(batch=batch), p[batch, head.index], atol=2e-5, rtol=1e-4)
            read, _ = head.top(1, n=2)
            torch.testing.assert_close(torch.tensor([w for _, w in read]), p[0, head.index, 1].topk(2).values, atol=2e-5, rtol=1e-4)


def test_every_part_runs_afterwards_as_before(model, inputs):
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        watched(model, inputs)
        parts = [model, *(getattr(model, part) for part in ("vision_encoder", "text_encoder", "geometry_encoder", "detr_encoder", "detr_decoder",
                                                            "mask_decoder"))]
        assert {part.config._attn_implementation for part in parts} == {name}


def test_patches_are_not_named_after_words(model, inputs):
    seen = watched(model, inputs)
    streams = {layer.name: seen.streams_of(layer) for layer in seen.layers}
    assert streams["text_encoder.text_model.encoder.layers.0.self_attn"] == ("input", "input")
    assert streams["vision_encoder.backbone.layers.1.attention"] == ("64 places", "64 places")
    assert streams["detr_encoder.layers.0.cross_attn"] == ("64 places", "input")
    assert streams["detr_decoder.layers.1.text_cross_attn"] == ("6 places", "input")
    assert streams["detr_decoder.layers.1.vision_cross_attn"] == ("6 places", "64 places")
    assert seen.to_json()["tokens"] == {"input": [str(i) for i in inputs["input_ids"][0].tolist()]}
    SAM3["name_places"](seen, ["<start>", "a", "red", "car", "<end>"], 5, 8)
    told = seen.to_json()
    layer = next(layer for layer in told["layers"] if layer["name"] == "detr_decoder.layers.1.vision_cross_attn")
    assert (layer["queries"], layer["keys"]) == ("object", "patch")
    assert set(told["tokens"]) == {"word", "patch", "object"} and told["tokens"]["patch"][9] == "row 1 column 1"


def test_a_bias_of_queries_by_patches_is_kept_with_its_q_and_k_or_not_at_all(model, inputs):
    kept = watched(model, inputs)
    layer = [layer for layer in kept.layers if layer.name.endswith("vision_cross_attn")][-1]
    call = layer.calls[0]
    assert call.options["bias"].shape == (1, 2, 6, 64) and not call.options["bias"].requires_grad
    everything = {id(x): x.untyped_storage().nbytes() for each in kept.layers for call in each.calls for x in (call.query, call.key)}
    biases = 2 * 2 * 6 * 64 * 4  # layers, heads, queries, patches, bytes
    assert (1 << 30) - kept.keep_left == sum(everything.values()) + biases
    without = watched(model, inputs, keep=None)
    assert all(each.calls[0].options.get("bias") is None for each in without.layers)
    without.run_again(lambda: model(**inputs), layers=[layer.index])
    for head in layer.heads:
        assert torch.equal(without.layers[layer.index].heads[head.index].weights(), head.weights())
        assert without.layers[layer.index].heads[head.index].top(3) == head.top(3)


def test_a_bias_that_layers_share_is_counted_once():
    t5 = made("t5")
    ids, _ = padded_ids((9,))
    with torch.no_grad(), qkv.watch(t5) as seen:
        t5(input_ids=ids, decoder_input_ids=ids)
    calls = [call for layer in seen.layers for call in layer.calls]
    tensors = [x for call in calls for x in (call.query, call.key)]
    biases = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for call in calls if (x := call.options.get("bias")) is not None}
    assert len(biases) < sum(call.options.get("bias") is not None for call in calls)
    assert (1 << 30) - seen.keep_left == sum(x.numel() * 4 for x in tensors) + sum(biases.values())


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A checkpoint as facebook/sam3 is: a detector inside of a sam3_video config, and a tokenizer of CLIP's kind."""
    made_here = tmp_path_factory.mktemp("sam3")
    detector = model.config.to_dict()
    (made_here / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": detector}))
    save_file({f"detector_model.{name}": x.clone() for name, x in model.state_dict().items()}, made_here / "model.safetensors",
              metadata={"format": "pt"})
    tokens = ["<|startoftext|>", "<|endoftext|>", "a</w>", "r", "e", "d</w>", "c", "a", "r</w>", "re", "red</w>", "ca", "car</w>"]
    tokenizer = transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)},
                                           merges=[("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "r</w>")])
    tokenizer.save_pretrained(made_here)
    return made_here


def test_an_implementation_for_one_part_is_heard_after_loading_only(folder):
    """What docs/python.md says of transformers' class."""
    one = {"detr_decoder_config": "qkv"}
    model = transformers.Sam3Model.from_pretrained(folder, attn_implementation=one)
    assert model.detr_decoder.config._attn_implementation == "sdpa"
    model.set_attn_implementation(one)
    assert (model.detr_decoder.config._attn_implementation, model.detr_encoder.config._attn_implementation) == ("qkv", "sdpa")


def run(*arguments):
    done = subprocess.run([sys.executable, EXAMPLE, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"})
    return done.returncode, done.stdout, done.stderr


def test_weights_a_picture_and_a_prompt(folder, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="reading a picture needs Pillow")
    picture = images.new("RGB", (90, 60), (60, 120, 200))
    picture.paste((220, 20, 20), (10, 20, 50, 50))
    picture.save(tmp_path / "street.png")
    status, printed, error = run("--model", folder, "--picture", tmp_path / "street.png", "--prompt", "a red car", "--check",
                                 "--html", tmp_path / "page.html")
    assert status == 0, printed + error
    assert printed.startswith("14 of 14 attentions ran on qkv\n")
    words = [line for line in printed.splitlines() if "of the words it read" in line]
    assert len(words) == 3 and all(any(word in line for word in ("red ", "car ", "a ", "<|")) for line in words)
    assert '"object":["is it there?"' in (tmp_path / "page.html").read_text()


def test_a_picture_is_levels_from_minus_one_to_one_whatever_its_size(folder, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="reading a picture needs Pillow")
    images.new("RGB", (31, 17), (255, 0, 51)).save(tmp_path / "plain.png")
    inputs, words = SAM3["real_inputs"](folder, tmp_path / "plain.png", "red car", 28)
    assert words == ["<|startoftext|>", "red", "car", "<|endoftext|>"] and inputs["input_ids"].shape == (1, 32)
    expected = torch.tensor([1.0, -1.0, 51 / 127.5 - 1])[None, :, None, None].expand(1, 3, 28, 28)
    torch.testing.assert_close(inputs["pixel_values"], expected)


def test_half_of_the_arguments_is_refused():
    status, _, error = run("--picture", "street.jpg")
    assert status == 2 and "expected --model and --picture together, or neither" in error
