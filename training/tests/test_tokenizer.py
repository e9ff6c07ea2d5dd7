import pytest

from training.translate import generate, tokenizer
from training.translate.batches import Encoder, Pair, under


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    made = generate.pairs(11, 1500)
    prefix = tmp_path_factory.mktemp("sp") / "sp"
    tokenizer.train([p.en for p in made], [p.zh for p in made], prefix, size=2500)
    return tokenizer.Tokenizer(prefix.with_suffix(".model")), made


def test_ids_are_marians(small):
    t, _ = small
    assert t.vocab["</s>"] == 0 and t.vocab["<unk>"] == 1 and t.vocab["<pad>"] == len(t) - 1 == 2499


def test_spans_cover_the_text(small):
    t, made = small
    for pair in made[:200]:
        for text in (pair.en, pair.zh):
            ids = t.encode(text)
            covered = {c for a, b in t.spans(ids, text) for c in range(a, b)}
            assert covered == set(range(len(text)))


def test_unknown_characters_become_bytes_and_keep_their_place(small):
    t, _ = small
    text = "猫看见饕餮。"
    ids = t.encode(text)
    assert t.unk not in ids and t.decode(ids) == text
    spans = t.spans(ids, text)
    assert {text[a:b] for a, b in (spans[n] for n in under(spans, (3, 4)))} == {"饕"}


def test_chinese_punctuation_stays_and_wide_letters_do_not(small):
    t, _ = small
    assert t.decode(t.encode("猫，狗！")) == "猫，狗！"
    assert t.decode(t.encode("ＡＢ１")) == "AB1"


def test_words_always_followed_by_a_boundary_become_pieces(small):
    t, _ = small
    assert "\u2581because" in t.vocab


def test_labels_follow_the_pieces(small):
    import numpy as np

    t, _ = small
    text = "The cat ate because it was hungry."
    pair = Pair(text, "猫吃了，因为它饿了。", [((4, 7), (0, 1))], {"en": [((20, 22), (((4, 7), 1.0),))]})
    for sample in (0.0, 0.2):
        e = Encoder(t, sample, np.random.default_rng(1)).example(pair, "en", "zh")
        spans = t.spans(e.source[1:-1], text)
        assert e.coreference and abs(sum(w for _, _, w in e.coreference) / len({q for q, _, _ in e.coreference}) - 1) < 1e-6
        for q, k, _ in e.coreference:
            assert "it" in text[slice(*spans[q - 1])] or text[slice(*spans[q - 1])].strip() in "it"
            assert text[slice(*spans[k - 1])].strip() in "cat"
        assert {k for _, k, _ in e.align} == {n + 1 for n in under(spans, (4, 7))}
