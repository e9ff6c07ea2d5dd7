"""The shipped encoder: it loads as the card says and reaches the card's scores on the held-out pairs that travel with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from training.search import dictionary, evaluate, export, heldout, teacher  # noqa: E402

MODEL = Path(__file__).resolve().parents[2] / "models" / "search-en-zh"


@pytest.fixture(scope="module")
def model():
    return teacher.load(MODEL)


@pytest.fixture(scope="module")
def scores():
    return json.loads((MODEL / "scores.json").read_text(encoding="utf-8"))


def test_it_is_a_plain_bert_of_at_most_10_mb(model):
    from transformers import BertModel

    assert type(model[1]) is BertModel and model[0].do_lower_case
    assert sum(f.stat().st_size for f in MODEL.rglob("*") if f.is_file()) <= 10_000_000


def test_every_weight_is_in_the_file():
    from safetensors import safe_open
    from transformers import AutoConfig, BertModel

    with safe_open(MODEL / "model.safetensors", "pt") as kept:
        names = set(kept.keys())
        assert {str(kept.get_tensor(name).dtype) for name in names} == {"torch.float16"}
    assert names == set(dict(BertModel(AutoConfig.from_pretrained(MODEL)).named_parameters()))


def test_chinese_is_read_character_by_character(model):
    tokens = model[0].tokenize("我想找关于Quantum物理的书")
    assert [t for t in tokens if not t.isascii()] == list("我想找关于物理的书") and "[UNK]" not in tokens


def test_vectors_are_those_of_sentence_transformers(model):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["量子力学详解", "A Guide to French Cooking"]
    theirs = sentence_transformers.SentenceTransformer(str(MODEL), device="cpu", model_kwargs={"dtype": torch.float32}).encode(texts)
    assert np.abs(theirs - teacher.embed(*model, texts)).max() < 1e-4


def test_the_cards_scores_on_the_pairs_kept(scores):
    assert len(heldout.read_tsv(export.HERE)) >= export.KEPT_PAIRS - 5
    found = export.kept_scores(MODEL)
    for way, score in scores["kept"].items():
        for name, value in score.items():
            assert abs(found[way][name] - value) <= 1.0, (way, name)  # two queries, for another machine's rounding


def test_the_example_reads_as_the_card_says(model, scores):
    """Quantum mechanics, then modern physics, then cooking, from both languages to both; far ahead, but for English titles asked in Chinese."""
    found = evaluate.example(lambda texts: teacher.embed(*model, texts), export.TEMPERATURE)
    for row, told in zip(found, scores["example"], strict=True):
        assert row["percent"][0] > row["percent"][1] > row["percent"][2] and row["percent"][2] < 1, row
        assert np.abs(np.array(row["cosine"]) - told["cosine"]).max() < 0.01
    assert all(row["percent"][0] > 80 for n, row in enumerate(found) if n != 1), found


def test_the_card_names_its_sources():
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in ("tatoeba.org", "manythings.org/anki", "CC-CEDICT", "CC BY-SA 4.0", "Apache-2.0"))


def test_the_example_books_are_forty_in_two_languages():
    rows = heldout.read_tsv(heldout.ROOT / "examples" / "books.tsv")
    assert len(rows) == 40 and {language for _, language, _ in rows} == {"en", "zh"}
    assert len({title for title, _, _ in rows}) == 40
    for title, language, other in rows:
        assert bool(dictionary.HAN.search(title)) == (language == "zh") and bool(dictionary.HAN.search(other)) == (language == "en")
