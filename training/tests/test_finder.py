import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skia")
import torch

from training.finder import lexicon, prompts, scenes, strange
from training.finder.answers import OUTSIDE, answers, distinct, inside
from training.finder.batches import Batch, Pictures, Pieces, collate
from training.finder.canvas import Canvas, oval, rect
from training.finder.card import gaps, goals, reads
from training.finder.losses import Teacher, giou, judged, losses, masks_of, missed, weighted
from training.finder.model import Finder, Shape, mask_logits, merge, spread
from training.finder.train import SMALL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pictures():
    return [scenes.draw(split, seed) for split in ("train", "unseen") for seed in range(25)]


def test_masks_are_the_shapes_drawn_and_the_nearer_hides():
    c = Canvas(64, np.random.default_rng(0))
    with c.object(1):
        c.fill(rect(10, 10, 40, 40), (1, 0, 0), 0.0, False)
    with c.object(2, 32, 32, 2.0):
        c.fill(oval(0, 0, 8, 8), (0, 1, 0), 0.0, False)
    c.detail(rect(0, 0, 64, 64), (1, 1, 1), 0.5)  # light on top belongs to nothing
    y, x = np.mgrid[:64, :64] + 0.5
    disc = (x - 32) ** 2 + (y - 32) ** 2 < 16**2
    edge = abs((x - 32) ** 2 + (y - 32) ** 2 - 16**2) < 32  # within a pixel of the circle
    square = (x > 10) & (x < 40) & (y > 10) & (y < 40)
    assert ((c.ids == 2) == disc)[~edge].all()
    assert ((c.ids == 1) == (square & (c.ids != 2))).all()
    assert set(np.unique(c.ids)) == {0, 1, 2}


def test_every_pixel_is_of_one_thing_or_none(pictures):
    for p in pictures:
        numbers = [t.number for t in p.things]
        assert set(np.unique(p.ids)) <= {0, *numbers} and len(set(numbers)) == len(numbers)
        total = sum(p.mask(t).astype(int) for t in p.things)
        assert (total == (p.ids > 0)).all()
        assert all(p.mask(t).any() for t in p.things)
        assert p.rgb.shape == (scenes.SIZE, scenes.SIZE, 3) and p.rgb.std() > 10


def test_the_same_number_is_the_same_picture():
    a, b = (scenes.draw("train", 5) for _ in range(2))
    assert (a.rgb == b.rgb).all() and (a.ids == b.ids).all() and a.things == b.things
    assert (a.rgb != scenes.draw("seen", 5).rgb).any()


def test_things_have_their_colours_where_they_are_seen():
    """The middle of the pixels' hues of plainly coloured things is a hue of that colour, whatever the light of the day."""
    import colorsys

    right = total = 0
    for seed in range(60):
        p = scenes.draw("train", seed)
        for t in p.things:
            if t.name in ("umbrella", "balloon", "apple", "ball") and t.colour in ("red", "green", "blue", "purple") and p.mask(t).sum() > 200:
                hsv = np.array([colorsys.rgb_to_hsv(*(v / 255)) for v in p.rgb[p.mask(t)].astype(float)])
                vivid = hsv[hsv[:, 1] > 0.3, 0] * 360
                low, high = lexicon.COLOURS[t.colour][0]
                total += 1
                right += len(vivid) > 0 and ((np.median((vivid - low + 40) % 360) - 40) <= high - low + 15)
    assert total > 15 and right >= 0.95 * total


def test_held_out_pairs_are_drawn_in_their_split_only(pictures):
    train = {(t.name, t.colour) for p in pictures[:25] for t in p.things}
    unseen = {(t.name, t.colour) for p in pictures[25:] for t in p.things}
    assert not train & lexicon.UNSEEN_PAIRS and len(unseen & lexicon.UNSEEN_PAIRS) > 5
    for name, colour in lexicon.UNSEEN_PAIRS:
        assert colour in lexicon.CLASSES[name].colours and len(lexicon.CLASSES[name].colours) > 1


def test_prompts_are_true_of_the_picture(pictures):
    seen = set()
    for n, p in enumerate(pictures):
        asker = prompts.Asker(p, np.random.default_rng(n), unseen_pairs=n >= 25)
        by_number = {t.number: t for t in p.things}
        for prompt in asker.make(20):
            seen.add(prompt.kind)
            fits = [t.number for t in p.things if t.name == prompt.name and prompt.colour in (None, t.colour)]
            if prompt.kind.startswith("absent"):
                assert not prompt.targets and not fits
            elif prompt.kind in ("size", "place"):
                assert len(prompt.targets) == 1 and prompt.targets[0] in fits
            else:
                assert sorted(prompt.targets) == fits
            assert all(p.mask(by_number[t]).sum() >= scenes.LEAST for t in prompt.targets)
            if n < 25:
                assert (prompt.name, prompt.colour) not in lexicon.UNSEEN_PAIRS
            assert prompt.text and "{" not in prompt.text and prompt.text == prompt.text.strip()
    assert seen == set(prompts.KINDS)


def test_places_and_sizes_pick_the_right_one():
    ids = np.zeros((scenes.SIZE, scenes.SIZE), np.uint8)
    for number, (x, y, r) in enumerate(((40, 60, 10), (120, 150, 30), (220, 200, 20)), 1):
        ids[y - r:y + r, x - r:x + r] = number
    picture = scenes.Picture(np.zeros((*ids.shape, 3), np.uint8), ids, [scenes.Thing("car", "red", n) for n in (1, 2, 3)])
    asker, found = prompts.Asker(picture, np.random.default_rng(0)), {}
    for _ in range(200):
        for kind in ("size", "place"):
            prompt = asker.ask(kind, "en")
            if prompt:
                for word in ("left", "right", "middle", "top", "bottom", "highest", "lowest", "big", "small", "large", "little"):
                    if word in prompt.text.lower():
                        found.setdefault(word, set()).update(prompt.targets)
    want = {"left": {1}, "right": {3}, "middle": {2}, "top": {1}, "highest": {1}, "bottom": {3}, "lowest": {3}, "big": {2}, "large": {2}, "small": {1},
            "little": {1}}
    assert found == want


def test_wordings_held_out_are_not_in_training():
    for seen, unseen in ((prompts.SINGULAR, prompts.UNSEEN_SINGULAR), (prompts.PLURAL, prompts.UNSEEN_PLURAL),
                         (prompts.CHINESE + prompts.CHINESE_PLURAL, prompts.UNSEEN_CHINESE + prompts.UNSEEN_CHINESE_PLURAL)):
        assert not set(seen) & set(unseen)
    for language, (known, kept) in prompts.FOREIGN.items():
        assert not set(known) & set(kept), language
        names = {n for c in lexicon.CLASSES.values() for n in getattr(c, language)}
        assert not names & {*known, *kept}


def test_a_batch_tells_where_its_objects_are():
    data = Pictures("train", 3, 6, Shape())
    batch = collate([data[i] for i in range(3)])
    assert len(batch.targets) == 18 and batch.rgb.shape == (3, 256, 256, 3)
    assert torch.allclose(batch.masks.sum((1, 2)), torch.cat([torch.tensor([(e.ids == n).sum() / 4 for n in np.unique(e.ids[e.ids > 0])])
                                                               for e in (data[i] for i in range(3))]).float())
    for p, objects in enumerate(batch.targets):
        for o in objects:
            assert batch.picture_of[o] == p // 6
            assert batch.forced[p, batch.centres[o]] == 1 and batch.heat[p, batch.centres[o]] > 0.99
            x, y = batch.centres[o] % 16, batch.centres[o] // 16
            assert batch.masks[o, y * 8:y * 8 + 8, x * 8:x * 8 + 8].sum() > 0


def test_strange_pieces_leave_a_prompt_whole():
    pieces, rng = Pieces(), np.random.default_rng(0)
    ids = pieces("red car", 24)
    for text in ("please find the red car", "红色的车在什么地方", "tigers 3"):
        known = set(pieces(text, 24)) & set(pieces.strangers.tolist())
        assert bool(known) == (text == "tigers 3"), text
    for _ in range(50):
        more = pieces.among_strangers(ids, 24, rng)
        assert len(ids) < len(more) <= len(ids) + 3 and more[-1] == pieces.end
        assert ids[:-1] in (more[: len(ids) - 1], more[-len(ids):-1])
    assert pieces.among_strangers(ids, len(ids), rng) == ids


def test_a_thing_no_picture_has_is_often_named_by_strange_words(pictures):
    strange, rng = {"en": ["qqq"], "zh": ["嗨"]}, np.random.default_rng(0)
    texts = [prompts.Asker(p, rng, strange=strange).ask("absent word", language).text for p in pictures for language in ("en", "zh")]
    assert 0.5 < sum("qqq" in text or "嗨" in text for text in texts) / len(texts) < 0.9
    words = Pieces().strange_words
    assert not {"red", "car"} & set(words["en"]) and not {"红", "车"} & set(words["zh"]) and min(map(len, words.values())) > 1000


def test_made_up_words_are_spelled_like_others():
    pieces = Pieces()
    for language, known in (("en", "car"), ("zh", "树")):
        words = strange.made_up(language, 2000)
        assert words == strange.made_up(language, 2000) and len(set(words)) == 2000 and known not in words
        assert language == "en" or not any("树" in word or "红" in word for word in words)
        met = {i for word in words for i in pieces(word, 24)[:-1]}
        assert met & pieces.named and met - set(pieces.strangers.tolist()), "pieces of words that the model knows come in them too"


def test_blocks_merge_and_spread_back():
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    assert merge(x, 2).shape == (2, 2, 3, 12) and (spread(merge(x, 2), 2) == x).all()
    assert merge(x, 2)[0, 0, 1].view(2, 2, 3).equal(x[0, :2, 2:4])


def test_boxes_overlap_as_they_should():
    a, b, far = (torch.tensor(v) for v in ([0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.5, 0.2, 0.2]))
    assert giou(a, a) == pytest.approx(1) and giou(a, b) == pytest.approx(1 / 3, abs=1e-6)
    assert giou(a, far) == pytest.approx(-(0.6 - 0.4) / 0.6, abs=1e-6)


def test_a_second_query_on_an_object_is_no_error_of_the_score():
    here, nearly, far = [0.5, 0.5, 0.2, 0.2], [0.52, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]  # overlaps of 0.82 and 0.33 with the first
    batch = Batch(**{name: None for name in Batch.__dataclass_fields__} | {"targets": [torch.tensor([1]), torch.tensor([])],
                                                                           "boxes": torch.tensor([far, here])})
    layer = {"score": torch.zeros(2, 3), "box": torch.tensor([[here, nearly, far]] * 2)}
    assert judged(layer, batch, torch.tensor([0]), torch.tensor([1])).tolist() == [[0, 1, 1], [1, 1, 1]]


def test_what_was_read_and_not_wanted_costs():
    weights = torch.tensor([[[0.1, 0.9], [0.3, 0.7]], [[1.0, 0.0], [1.0, 0.0]]])  # [2, heads, keys]
    assert missed(weights, torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == pytest.approx(-np.log(0.8), abs=1e-6)  # the second wants nothing
    assert missed(weights, torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(-np.log(0.8) / 2, abs=1e-6)
    assert missed(weights, torch.zeros(2, 2)) == 0


def test_the_words_that_say_what_is_asked_for_are_known():
    pieces = Pieces()
    told = lambda text: [p for p in pieces.sp.encode(text, out_type=str) if pieces.ids[p] in pieces.named]
    assert told("find the red car") == ["▁red", "▁car"] and told("where is the elephant?") == ["▁elephant"]
    assert "".join(told("图里的蓝色的车")).replace("的", "") == "蓝色车"


def test_masks_of_many_pictures_keep_their_order():
    torch.manual_seed(0)
    mask, pixels, owner = torch.randn(5, 9), torch.randn(3, 4, 4, 8), torch.tensor([2, 0, 2, 1, 0])
    together = masks_of(mask, owner, pixels.unbind(0))
    for i in range(5):
        assert torch.allclose(together[i], mask_logits(mask[i:i + 1], pixels[owner[i]][None])[0], atol=1e-5)


def test_an_object_is_answered_once():
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :4], masks[1, :4], masks[1, 0, 0], masks[2, 4:] = True, True, False, True
    assert distinct(masks) == [0, 2]


def test_a_mask_ends_a_little_outside_its_box():
    logits = inside(torch.full((1, 32, 32), 3.0), torch.tensor([[0.5, 0.5, 0.5, 0.25]]))[0]
    want = torch.full((32, 32), OUTSIDE)
    want[10:22, 6:26] = 3
    assert (logits == want).all()


def test_padding_of_other_prompts_changes_nothing():
    torch.manual_seed(0)
    model = Finder(SMALL).eval()
    rgb, ids = torch.rand(1, 256, 256, 3), torch.tensor([[5, 6, 0, 0, 0], [7, 8, 9, 10, 0]])
    with torch.no_grad():
        both, alone = model(rgb, ids, torch.tensor([3, 5])), model(rgb, ids[:1, :3], torch.tensor([3]))
    assert torch.allclose(both["layers"][-1]["box"][0], alone["layers"][-1]["box"][0], atol=1e-5)
    assert torch.allclose(both["select"][0], alone["select"][0], atol=1e-5)


def test_a_small_model_learns_a_picture():
    torch.manual_seed(0)
    model, teacher = Finder(SMALL), Teacher(SMALL)
    data = Pictures("train", 1, 4, SMALL)
    batch = collate([data[3]])
    optimizer = torch.optim.AdamW([*model.parameters(), *teacher.parameters()], 4e-3)
    first = None
    for _ in range(40):
        loss = weighted(losses(model(batch.rgb, batch.pieces, batch.lengths, batch.forced), batch, teacher))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or loss.item()
    assert loss.item() < 0.6 * first
    with torch.no_grad():
        out = model.eval()(batch.rgb, batch.pieces, batch.lengths)
    for answer, truth in zip(answers(out, 4, 256), batch.targets):
        assert (answer.presence > 0.5) == (len(truth) > 0)


@pytest.mark.parametrize("processes", (1, 2))
def test_training_goes_on_where_it_was_stopped(tmp_path, processes):
    run = lambda work, steps: subprocess.run(
        [sys.executable, "-m", "training.finder.train", "--work", str(work), "--small", "--batch", "2", "--per", "2", "--processes", str(processes),
         "--device", "cpu", "--stop-after", str(steps), "--look", "1000"], cwd=ROOT, check=True, capture_output=True, text=True)
    run(tmp_path / "once", 4)
    run(tmp_path / "twice", 2)
    run(tmp_path / "twice", 4)
    once, twice = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=False) for name in ("once", "twice"))
    assert once["at"][:2] == twice["at"][:2] == (4, 8)
    for name, value in once["model"].items():
        assert torch.equal(value, twice["model"][name]), name


def test_scores_and_card_of_a_small_run(tmp_path):
    model = tmp_path / "model"
    for module, *more in (("train", "--small", "--batch", "2", "--per", "2", "--stop-after", "2", "--device", "cpu"), ("evaluate", "--pictures", "2"),
                          ("thresholds", "--pictures", "1"), ("card", "--pictures", "4", "--out", str(model), "--remark", "A run of two steps.")):
        subprocess.run([sys.executable, "-m", f"training.finder.{module}", "--work", str(tmp_path), *more], cwd=ROOT, check=True, capture_output=True)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"seen pairs, new pictures", "unseen pairs", "unseen wordings", "unknown words"}
    assert all(s["words"] > 40 and 0 <= s["believed"] <= 1 for s in scores["unknown words"].values())
    assert scores["unseen wordings"]["all"]["prompts"] == 16
    told = (model / "README.md").read_text()
    assert "A run of two steps." in told and "Trained on 4 drawn pictures" in told and "**missed**" in told
    assert (model / "failures.png").read_bytes().startswith(b"\x89PNG") and json.loads((model / "scores.json").read_text())


def test_the_card_says_what_was_missed():
    group = lambda value: dict.fromkeys(("mask_iou", "presence_accuracy", "f1", "count_right"), value)
    result = {"seen pairs, new pictures": {"all": group(0.96), "colour": group(0.94)}, "unseen pairs": {"all": group(0.86), "colour": group(0.88)},
              "unseen wordings": {"all": group(0.95), "colour": group(0.9)}}
    assert goals(result)[2:4] == ["| mask IoU over present objects | ≥ 0.80 | 0.960 | 0.860 | 0.950 |",
                                  "| presence accuracy | ≥ 0.95 | 0.960 | 0.860 **missed** | 0.950 |"]
    shares = {"patches": 0.514, "patches by chance": 0.03, "words": 0.7, "words by chance": 0.3}
    assert reads([shares])[2] == "| decoder layer 0 | 51% (3%) | 70% (30%) |"
    assert gaps(result)[2] == "| mask IoU over present objects | 0.940 | 0.880 | 6.0 **missed** |"
