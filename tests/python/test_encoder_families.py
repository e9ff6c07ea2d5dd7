"""Encoders that compute what BERT does under other names – DistilBERT, RoBERTa, XLM-RoBERTa – and the Unigram tokenizer of multilingual ones,
against transformers and sentence-transformers in fp32."""

import json
import random

import pytest
import torch
from encoders import ROOT, WORDS, Probe, load_error, random_model, shaken, unigram_tokenizer
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import (AutoTokenizer, BertConfig, BertModel, BertTokenizer, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel, XLMRobertaConfig,
                          XLMRobertaModel)

TEXTS = ["The cat sits on the mat", "我想找关于量子物理的书", "x", "", "  French \t cooking\nfor beginners  ", "naïve café 😀", "ﬁne １２３ Ⅷ ㍿ ｶﾞ",
         "a\u00a0b\u3000c\u200bd", "e\u0301 Å ñ 각", "attention(q, k, v)", "ⅷ" * 40, "word " * 60, "👩‍👩‍👧 🇨🇳"]
DISTILBERT = {"vocab_size": len(WORDS), "dim": 24, "n_layers": 3, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 48}
ROBERTA = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 50, "type_vocab_size": 1,
           "layer_norm_eps": 1e-5}


def prefixed(folder, prefix):
    """The names that a model with a head gives its encoder."""
    file = folder / "model.safetensors"
    save_file({prefix + name: tensor for name, tensor in load_file(file).items()}, file)


def check_states(folder, model, texts, most):
    probe, tokenizer = Probe(folder), AutoTokenizer.from_pretrained(folder)
    for text in texts:
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=most)).last_hidden_state[0]
        got = torch.tensor(probe(tokens=text)["states"])
        assert got.shape == expected.shape
        assert torch.nn.functional.cosine_similarity(got.double(), expected.double()).min() >= 0.99999, text
        assert (got - expected).abs().max() <= 1e-4 * max(1, expected.abs().max()), text
    probe.close()


def check_vectors(folder, texts, most):
    theirs = SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = most
    expected = torch.tensor(theirs.encode(texts))
    probe = Probe(folder)
    got = probe.vectors(texts)
    assert torch.nn.functional.cosine_similarity(got.double(), expected.double()).min() >= 0.99999
    assert (got - expected).abs().max() <= 1e-4
    probe.close()


@pytest.mark.parametrize("change", [{}, {"sinusoidal_pos_embds": True}, {"activation": "relu"}, {"wrap": True}], ids=str)
def test_distilbert(tmp_path, change):
    settings = {**DISTILBERT, **change}
    wrap = settings.pop("wrap", False)
    model = shaken(DistilBertModel(DistilBertConfig(**settings)), seed=1)
    model.save_pretrained(tmp_path)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(tmp_path)
    if wrap:
        prefixed(tmp_path, "distilbert.")
    check_states(tmp_path, model, TEXTS, 48)
    check_vectors(tmp_path, TEXTS, 48)


@pytest.mark.parametrize("kind, wrap", [("bert", False), ("roberta", False), ("xlm-roberta", False), ("xlm-roberta", True)])
def test_multilingual(tmp_path, kind, wrap):
    """BERT with a Unigram tokenizer is paraphrase-multilingual-MiniLM and multilingual-e5-small; XLM-RoBERTa the larger ones."""
    settings = {**ROBERTA, "vocab_size": unigram_tokenizer(tmp_path), "pad_token_id": 1}
    make = {"bert": lambda: BertModel(BertConfig(**{**settings, "max_position_embeddings": 48})), "roberta": lambda: RobertaModel(RobertaConfig(**settings)),
            "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**settings))}
    model = shaken(make[kind](), seed=2)
    model.save_pretrained(tmp_path)
    if wrap:
        prefixed(tmp_path, "roberta.")
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    check_states(tmp_path, model, TEXTS, 48)
    check_vectors(tmp_path, TEXTS, 48)


@pytest.mark.parametrize("normalised", [True, False])
def test_unigram_ids(tmp_path, normalised):
    unigram_tokenizer(tmp_path, normalised=normalised)
    theirs, probe = AutoTokenizer.from_pretrained(tmp_path), Probe(tmp_path)
    scores = [score for _, score in json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]]
    ties = 0
    words = [word for name in ("README.md", "README.zh.md", "docs/sql.md", "docs/numerics.md") for word in (ROOT / name).read_text(encoding="utf-8").split() if "▁" not in word]
    generator = random.Random(3)
    made = [generator.choice([" ", "  ", "\t", "\n", ""]).join(generator.sample(words, generator.choice([1, 2, 5, 20]))) for _ in range(1500)]
    letters = "abcxyzABZéüßﬁ１ｱ①ⅷ量子物理的书，。、！「」—…·🙂αβЖשع한ं"
    made += ["".join(generator.choice(letters) + generator.choice(["", "", " "]) for _ in range(generator.randrange(1, 30))) for _ in range(1500)]
    for text in TEXTS + made:
        answer = probe(ids=text)
        expected = theirs(text)["input_ids"]
        if answer["ids"] != expected:  # only where two ways to cut a word are equally probable: "))" ")" or ")" "))"
            assert sorted(answer["ids"]) == sorted(expected), repr(text)
            assert sum(scores[i] for i in answer["ids"]) == pytest.approx(sum(scores[i] for i in expected), rel=1e-6), repr(text)
            ties += 1
        size = len(text.encode())
        assert all(0 <= begin <= end <= size for begin, end in answer["places"])
    assert ties < 60
    assert probe(ids="one two three four five six", most=5)["ids"] == theirs("one two three four five six", truncation=True, max_length=5)["input_ids"]
    probe.close()


def changed(tokenizer, part, value):
    *path, last = part.split(".")
    for key in path:
        tokenizer = tokenizer[key]
    tokenizer[last] = value


@pytest.mark.parametrize("part, value, said", [
    ("model.type", "BPE", 'model.type: expected WordPiece, got "BPE"'),
    ("model.unk_id", 99999, "model.unk_id: expected the id of a piece"),
    ("model.unk_id", None, "model.unk_id: expected the id of a piece"),
    ("model.byte_fallback", True, "model.byte_fallback: true is not supported"),
    ("model.vocab", [], "model.vocab: expected a list of pieces and scores"),
    ("model.vocab", [["<s>", 0], ["<pad>", 0], ["</s>", 0], ["<unk>", "0"]], "model.vocab: expected a piece and its score"),
    ("normalizer", {"type": "NFKC"}, "normalizer: expected Precompiled, got NFKC"),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "!"}, "normalizer: precompiled_charsmap is not base64"),
    ("pre_tokenizer", {"type": "ByteLevel"}, "pre_tokenizer: expected WhitespaceSplit and Metaspace, got ByteLevel"),
    ("pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}, "pre_tokenizer: expected a Metaspace that begins every word"),
    ("post_processor", None, "post_processor.single: expected a mark"),
    ("added_tokens", [], "'<s>' is none of the added tokens"),
])
def test_a_tokenizer_that_is_not_supported(tmp_path, part, value, said):
    unigram_tokenizer(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    changed(tokenizer, part, value)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert said in load_error(tmp_path)


def test_mpnet_is_refused_by_name(tmp_path):
    random_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "mpnet"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert 'model_type: expected "bert", "distilbert", "roberta" or "xlm-roberta", got "mpnet"' in load_error(tmp_path)
