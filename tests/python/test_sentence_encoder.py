"""The C++ sentence encoder against transformers and sentence-transformers in fp32."""

import json
import random
import shutil

import pytest
import torch
from encoders import MINILM, ROOT, SPECIALS, WORDS, Probe, load_error, random_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

SENTENCES = ["The cat sits on the mat", "Quantum mechanics explained", "我想找关于量子物理的书", "A very short history of nearly everything", "x", "",
             "French cooking for beginners", "naïve café 😀", "Introduction to modern physics, volume two: fields and particles"]

VARIANTS = {
    "plain": {},
    "tanh gelu": {"hidden_act": "gelu_new"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "relu": {"hidden_act": "relu"},
    "one head": {"num_attention_heads": 1},
    "heads of one": {"num_attention_heads": 24},
    "odd sizes": {"hidden_size": 35, "num_attention_heads": 7, "intermediate_size": 51},
    "wide heads": {"hidden_size": 320, "num_attention_heads": 2, "initializer_range": 0.1},
    "deep": {"num_hidden_layers": 7, "initializer_range": 0.15},
    "no layers": {"num_hidden_layers": 0},
    "epsilon": {"layer_norm_eps": 0.1},
    "one type": {"type_vocab_size": 1},
    "half": {"half": torch.float16},
    "bfloat16": {"half": torch.bfloat16},
    "wrapped": {"wrap": True},
}


def texts(count, seed, words=WORDS):
    generator = random.Random(seed)
    return [" ".join(generator.choice(words[5:]).removeprefix("##") for _ in range(generator.randrange(0, 60))) for _ in range(count)]


def states_of(folder, model, text, most):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=most)).last_hidden_state[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_of_every_variant(tmp_path, variant):
    model = random_model(tmp_path, seed=len(variant), **VARIANTS[variant])
    probe = Probe(tmp_path)
    for text in texts(12, seed=1) + SENTENCES:
        expected = states_of(tmp_path, model, text, 48)
        got = torch.tensor(probe(tokens=text)["states"])
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-4 * max(1, expected.abs().max()), text
    probe.close()


def minilm_texts():
    words = (ROOT / "README.md").read_text().split() + (ROOT / "README.zh.md").read_text().split()
    generator = random.Random(1)
    made = [" ".join(generator.choice(words) for _ in range(generator.choice([1, 2, 3, 5, 9, 17, 40, 90, 300]))) for _ in range(200)]
    return SENTENCES + made


def test_minilm_is_sentence_transformers():
    texts = minilm_texts()
    expected = torch.tensor(SentenceTransformer(str(MINILM), device="cpu").encode(texts, batch_size=32))
    probe = Probe(MINILM)
    got = probe.vectors(texts)
    assert torch.allclose(got.norm(dim=1), torch.ones(len(texts)), atol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(got.double(), expected.double())
    assert cosine.min() >= 0.99999, cosine.min()
    assert (got - expected).abs().max() < 1e-5
    probe.close()


def test_company_and_threads_change_no_bit():
    probe = Probe(MINILM)
    texts = minilm_texts()[:150]
    together = probe.vectors(texts)
    assert torch.equal(together, probe.vectors(texts, threads=1))
    assert torch.equal(together.flip(0), probe.vectors(texts[::-1]))
    for i in range(0, 150, 7):
        assert torch.equal(together[i], probe.vectors([texts[i]])[0])
    probe.close()


def pooled(folder, modules, pooling, **more):
    (folder / "modules.json").write_text(json.dumps([{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{type}"}
                                                     for i, (path, type) in enumerate(modules)]))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for name, value in more.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


ALL = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
POOLINGS = {
    "mean": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    "cls": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
    "max": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True},
    "new mean": {"embedding_dimension": 24, "pooling_mode": "mean"},
    "new cls": {"embedding_dimension": 24, "pooling_mode": "cls"},
}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_sentence_transformers(tmp_path, pooling, normalise):
    random_model(tmp_path, seed=3)
    pooled(tmp_path, ALL if normalise else ALL[:2], POOLINGS[pooling], sentence_bert_config={"max_seq_length": 20, "do_lower_case": False})
    expected = torch.tensor(SentenceTransformer(str(tmp_path), device="cpu").encode(texts(60, seed=4)))
    probe = Probe(tmp_path)
    assert (probe.vectors(texts(60, seed=4)) - expected).abs().max() < 1e-4
    probe.close()


def test_without_modules_it_is_the_mean(tmp_path):
    random_model(tmp_path, seed=5)
    expected = torch.tensor(SentenceTransformer(str(tmp_path), device="cpu").encode(texts(40, seed=6)))
    probe = Probe(tmp_path)
    assert (probe.vectors(texts(40, seed=6)) - expected).abs().max() < 1e-4
    probe.close()


def test_prompts(tmp_path):
    random_model(tmp_path, seed=7)
    pooled(tmp_path, ALL, POOLINGS["mean"], config_sentence_transformers={
        "prompts": {"query": "the question: ", "document": "the book. ", "other": "a cat "}, "default_prompt_name": "other", "similarity_fn_name": "cosine"})
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    probe = Probe(tmp_path)
    some = texts(20, seed=8)
    assert (probe.vectors(some, role="query") - torch.tensor(theirs.encode_query(some))).abs().max() < 1e-4
    assert (probe.vectors(some, role="document") - torch.tensor(theirs.encode_document(some))).abs().max() < 1e-4
    assert (probe.vectors(some) - torch.tensor(theirs.encode(some))).abs().max() < 1e-4
    probe.close()


def test_old_names_of_normalisations(tmp_path):
    random_model(tmp_path / "new", seed=9)
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    file = tmp_path / "old" / "model.safetensors"
    save_file({name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
               for name, tensor in load_file(file).items()}, file)
    new, old = Probe(tmp_path / "new"), Probe(tmp_path / "old")
    assert torch.equal(new.vectors(SENTENCES), old.vectors(SENTENCES))
    new.close(), old.close()


@pytest.mark.parametrize("field, value, said", [
    ("model_type", "mpnet", 'got "mpnet"'),
    ("model_type", None, "model_type: is missing"),
    ("position_embedding_type", "relative_key", 'position_embedding_type: expected "absolute", got "relative_key"'),
    ("is_decoder", True, "is_decoder: expected false, got true"),
    ("hidden_act", "mish", 'hidden_act: unknown activation "mish"'),
    ("hidden_size", 25, "num_attention_heads: hidden_size 25 is not a multiple of 3"),
    ("hidden_size", "24", "hidden_size: expected an integer"),
    ("hidden_size", 48, "expected shape"),
    ("num_attention_heads", 0, "num_attention_heads: expected an integer from 1"),
    ("num_hidden_layers", 3, "'encoder.layer.2.attention.self.query.weight': is missing"),
    ("intermediate_size", 41, "expected shape"),
    ("vocab_size", 1000000, "word_embeddings.weight': expected shape [1000000, 24]"),
    ("max_position_embeddings", 512, "position_embeddings.weight': expected shape [512, 24], got [48, 24]"),
    ("layer_norm_eps", -1, "layer_norm_eps: expected a number from 0 on"),
])
def test_a_config_that_is_not_supported(tmp_path, field, value, said):
    random_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert said in load_error(tmp_path)


@pytest.mark.parametrize("modules, pooling, said", [
    ([("", "Transformer"), ("1_Pooling", "Pooling"), ("2", "Dense")], {}, "modules.json: type: expected Transformer, Pooling and"),
    ([("", "Transformer")], {}, "modules.json: expected Transformer and Pooling"),
    ([("", "CLIPModel"), ("1_Pooling", "Pooling")], {}, "CLIPModel"),
    ([("../..", "Transformer"), ("1_Pooling", "Pooling")], {}, "modules.json: path: expected a folder inside of this one"),
    ([("/", "Transformer"), ("1_Pooling", "Pooling")], {}, "modules.json: path: expected a folder inside of this one"),
    (ALL, {"pooling_mode": "lasttoken"}, 'pooling_mode: expected mean, cls or max, got "lasttoken"'),
    (ALL, {"pooling_mode": ["mean", "cls"]}, "pooling_mode: several modes"),
    (ALL, {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
])
def test_modules_that_are_not_supported(tmp_path, modules, pooling, said):
    random_model(tmp_path)
    pooled(tmp_path, modules, pooling)
    assert said in load_error(tmp_path)


def test_a_tokenizer_of_another_model(tmp_path):
    random_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIALS + [f"w{i}" for i in range(len(WORDS))]))
    assert "vocab_size" in load_error(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
                                  "config_sentence_transformers.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
def test_damaged_files_are_named(tmp_path, file, damage):
    random_model(tmp_path)
    pooled(tmp_path, ALL, POOLINGS["mean"], sentence_bert_config={"max_seq_length": 20}, config_sentence_transformers={"prompts": {}})
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes({"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\xff\x00garbage" * 50}[damage])
    assert file.split("/")[-1] in load_error(tmp_path)


BUNDLED = ROOT / "models/search-en-zh"


@pytest.mark.skipif(not (BUNDLED / "model.safetensors").exists(), reason="the bundled encoder is not there")
def test_the_bundled_encoder():
    expected = torch.tensor(SentenceTransformer(str(BUNDLED), device="cpu").encode(SENTENCES))
    probe = Probe(BUNDLED)
    cosine = torch.nn.functional.cosine_similarity(probe.vectors(SENTENCES).double(), expected.double())
    assert cosine.min() >= 0.99999
    probe.close()
