"""The recipe of the bilingual encoder, on data small enough to train on in seconds."""

import itertools
import json
import random
import signal

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from training.search import data, dictionary, evaluate, heldout, losses, start, teacher, titles, train, vocabulary  # noqa: E402

NOUNS = {"red": "红", "cat": "猫", "dog": "狗", "water": "水", "fire": "火", "stone": "石", "tree": "树", "moon": "月", "sun": "日", "sea": "海"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A corpus, a dictionary and a teacher in the real formats, tiny."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("sources")
    words = list(itertools.product(NOUNS, repeat=3))
    (folder / "pairs.tsv").write_text("".join(
        f"The {a} {b} {c} is number {n}.\t{NOUNS[a]}{NOUNS[b]}{NOUNS[c]}是第{n}个。\tnobody\n" for n, (a, b, c) in enumerate(words * 2)))
    (folder / "dictionary.txt").write_text("# a comment\n" + "".join(
        "{0} {0} [x] /{1}/CL:個|个[ge4]/\n".format(NOUNS[a] + NOUNS[b] + NOUNS[c] + "学", f"{a} {b} {c}") for a, b, c in words[::3]) +
        "量子力學 量子力学 [x] /quantum mechanics/\n三體 三体 [x] /trisome/\n")
    model = folder / "teacher"
    english = [line.split("\t")[0] for line in (folder / "pairs.tsv").read_text().splitlines()]
    vocabulary.write(vocabulary.train(english, [], 200, 0), model)
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=200, hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).save_pretrained(model)
    return folder


@pytest.fixture(autouse=True)
def signals():
    """A run takes SIGTERM and SIGINT to save itself; the test process gets its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(data, "DEV", 20)
    monkeypatch.setattr(data, "TEST", len(heldout.books()) + 20)


def settings(sources, work, *more):
    work.mkdir(exist_ok=True)
    return train.arguments(["--corpus", str(sources / "pairs.tsv"), "--dictionary", str(sources / "dictionary.txt"), "--teacher",
                            str(sources / "teacher"), "--work", str(work), "--vocabulary", "160", "--characters", "20", "--hidden", "32",
                            "--layers", "1", "--ffn", "32", "--titles", "60", "--questions", "40", "--batch", "32", "--warm", "5",
                            "--rate", "3e-3", *more])


def test_glosses_are_clean():
    assert dictionary.glosses("quantum mechanics") == ["quantum mechanics"]
    assert dictionary.glosses("variant of 烹/CL:本[ben3]/(computing) to compile; to build (a program)/fig. a lie") == ["to compile", "to build"]
    assert dictionary.glosses("surname Wang/see 王八[wang2 ba1]") == []


def test_dictionary_reads_the_packaged_format(tmp_path):
    file = tmp_path / "d.txt"
    file.write_text("# CC-CEDICT\n量子力學 量子力学 [liang4 zi3 li4 xue2] /quantum mechanics/\n% % [pa1] /percent (Tw)/\n")
    assert dictionary.read(file) == [("quantum mechanics", "量子力学")]
    with pytest.raises(SystemExit, match="no dictionary at"):
        dictionary.path(str(tmp_path / "none"))


def test_topics_are_noun_phrases():
    assert dictionary.is_topic("quantum mechanics", "量子力学") and dictionary.is_topic("cooking", "烹饪术")
    assert not dictionary.is_topic("to cook", "烹饪") and not dictionary.is_topic("beautifully", "美丽地")


def test_composed_titles_leave_the_examples_out():
    drawn = titles.compose(titles.TITLES, [("chess", "象棋"), ("poetry", "诗歌")], [1.0, 1.0], 200, 1)
    assert ("A Brief History of Chess", "象棋简史") in drawn and len(set(drawn)) == len(drawn)
    forms = [form.split("|") for form in titles.QUESTIONS]
    assert not any("looking for a book about" in en or zh.startswith("我想找关于") for en, zh in forms)


def test_questions_and_the_titles_that_answer_them_share_a_topic():
    topics = [("thermodynamics", "热力学"), ("fluid mechanics", "流体力学"), ("heat pump", "热力泵"), ("chess", "象棋"), ("the secret", "秘密")]
    asker = titles.Asker(topics, [0.0, 0.0, 0.0, 1.0, 0.0], {heldout.bare("Introduction to Chess"), heldout.bare("象棋导论")})
    assert asker.draw(5, 2, random.Random(1)) == [3]  # nothing begins or ends like it
    asker = titles.Asker(topics, [1.0, 0.0, 0.0, 0.0, 0.0], set())
    drawn = [asker.draw(1, 3, random.Random(seed)) for seed in range(50)]
    assert {n for part in drawn for n in part} == {0, 1, 2} and all(part[0] == 0 and len(set(part)) == len(part) for part in drawn)
    assert drawn == [asker.draw(1, 3, random.Random(seed)) for seed in range(50)]
    rng = random.Random(1)
    asker = titles.Asker(topics, [1.0] * 5, {heldout.bare("Introduction to Chess"), heldout.bare("象棋导论")})
    lines = [asker.ask(3, rng) for _ in range(500)]
    assert all("chess" in text.lower() or "象棋" in text for line in lines for text in line)
    assert {("象棋" in q, "象棋" in t) for q, t in lines} == {(a, b) for a in (True, False) for b in (True, False)}
    assert not {"Introduction to Chess", "象棋导论"} & {t for _, t in lines} and "Advanced Chess" in {t for _, t in lines}


def test_answers_are_lost_where_titles_are_exchanged():
    c = torch.nn.functional.normalize(torch.randn(6, 40, generator=torch.Generator().manual_seed(1)), dim=1)
    assert losses.answers(c, c, c) < losses.answers(c, c.roll(1, 0), c)


def test_nothing_held_out_is_trained_on(sources, small, tmp_path):
    found = data.read(str(sources / "pairs.tsv"), str(sources / "dictionary.txt"), (6000, 4000), 1)
    held = {heldout.bare(t) for part in [found.dev, *found.test.values()] for p in part for t in p} | heldout.never()
    for kind, part in found.train.items():
        assert part, kind
        assert not {heldout.bare(t) for p in part for t in p} & held, kind
    assert ("quantum mechanics", "量子力学") in found.train["terms"]  # a word may be known; the example's topic is never composed
    assert not any("量子力学" in zh or "三体" in zh for kind in ("titles", "questions") for _, zh in found.train[kind])
    assert found.asker.topics and not {heldout.bare(t) for topic in found.asker.topics for t in topic} & held
    assert not any("量子力学" in zh for _, zh in found.asker.topics)
    assert len(found.dev) == 20 and sum(map(len, found.test.values())) == data.TEST


def test_the_closed_form_is_the_least_squares_solution():
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, 12, rng.integers(2, 6)).tolist() for _ in range(200)]
    targets = rng.normal(size=(200, 5)).astype(np.float32)
    x = np.zeros((200, 12))
    for n, text in enumerate(texts):
        for token in text:
            x[n, token] += 1 / len(text)
    want = np.linalg.solve(x.T @ x + 0.5 * np.eye(12), x.T @ targets)
    assert np.abs(start.bag(texts, targets, 12, 0.5) - want).max() < 1e-4


def test_an_untrained_stack_passes_the_table_through():
    table = np.random.default_rng(2).normal(size=(50, 63)).astype(np.float32)
    model = start.model(start.config(50, 64, 2, 64), table, 1).eval()
    ids = [[7, 9, 11], [3, 4, 5, 6, 8], [21, 22]]
    with torch.no_grad():
        got = train.pooled(model, ids, torch.float32).numpy()[:, 1:]
    want = evaluate.unit(np.stack([table[t].mean(0) for t in ids]))
    assert (got * want).sum(1).min() > 0.95


def test_losses_are_least_at_the_teacher():
    torch.manual_seed(3)
    t, other = (torch.nn.functional.normalize(torch.randn(16, 8), dim=1) for _ in range(2))
    assert losses.distance(t, t, t).abs() < 1e-5 < losses.distance(other, t, t)
    assert losses.distribution(t, t, t) < losses.distribution(t, other, t)


def test_scores_by_hand():
    a = np.eye(3, dtype=np.float32)
    assert evaluate.retrieval(a, a) == {"zh-en": {"top1": 100.0, "top5": 100.0}, "en-zh": {"top1": 100.0, "top5": 100.0}}
    assert evaluate.hits(np.zeros((9, 3), np.float32), np.zeros((9, 3), np.float32)) == {"top1": 0.0, "top5": 0.0}  # all tied
    assert evaluate.ranks(np.array([5.0, 1.0, 5.0])).tolist() == [1.5, 0.0, 1.5]
    assert evaluate.spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 8, 27, 64])) == pytest.approx(1)
    assert sum(evaluate.shares(a[0], a, 0.1)) == pytest.approx(100)


def test_teachers_vectors_are_kept(sources, tmp_path):
    kept = teacher.Vectors(tmp_path / "v")
    kept.compute(["the red cat", "water"], sources / "teacher", False)
    again = teacher.Vectors(tmp_path / "v")
    again.compute(["water", "the red cat"], tmp_path / "no teacher needed", False)
    assert np.allclose(again(["water"]), kept(["water"])) and np.linalg.norm(kept(["water"])) == pytest.approx(1, abs=1e-3)


def test_a_run_learns_stops_and_goes_on(sources, small, tmp_path):
    whole = train.Run(settings(sources, tmp_path / "a", "--stop-after", "30"))
    whole.train()
    first, last = whole.history[0], whole.history[-1]
    assert last["step"] == 30 and last["zh-en"]["top1"] > first["zh-en"]["top1"] - 5 and np.isfinite(last["spearman"])
    part = train.Run(settings(sources, tmp_path / "b", "--stop-after", "12"))
    part.train()
    gone_on = train.Run(settings(sources, tmp_path / "b", "--stop-after", "30"))
    assert gone_on.step == 12
    gone_on.train()
    assert gone_on.step == 30 and (gone_on.epoch, gone_on.done) == (whole.epoch, whole.done)
    json.dumps(gone_on.history)
