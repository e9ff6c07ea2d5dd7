"""What every head does, measured on labelled examples, beside what chance would score.

previous / next / same   the piece read most is the one before, after, or the query's own (decoder_self: its own input)
delimiter                the piece read most is punctuation, the language token or </s>
syntax                   the word read most is the labelled partner (object -> verb, adjective -> noun)
meaning                  the word read most is the other noun of its class, in lists of nouns
coreference              the word read most by a pronoun is its antecedent
alignment                the source word read most by the step that produces a target word is its translation

Word scores follow the viewer's rule: weights of a word's pieces are summed, averaged over the query's pieces; special tokens
and the query itself are left out. Chance: the mean of right answers / possible answers.
"""

import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from .batches import padded, under
from .generate import pairs, probes
from .guidance import HEADS, placed
from .labelled_sets import examples
from .lexicon import nouns
from .reading import words_of

DELIMITERS = set(",.!?;:'\"()，。！？；：、“”‘’（）…—-")
LEAST = 0.25  # of the way from chance to always, below which a head has no role of its own


class Tally:
    """right and chance sums by role, for every head of a block at once."""

    def __init__(self):
        self.right, self.chance, self.count = defaultdict(float), defaultdict(float), defaultdict(int)

    def add(self, role, right, chance):  # right [layers, heads] of 0/1
        self.right[role] = self.right[role] + right
        self.chance[role] += chance
        self.count[role] += 1

    def score(self, role, layer, head):
        n = max(1, self.count[role])
        return float(self.right[role][layer, head]) / n, self.chance[role] / n


@torch.no_grad()
def attention(model, tokenizer, source: list[int], target: list[int] | None = None):
    """block -> [layers, heads, queries, keys] for one sentence (and its given translation)."""
    kept = defaultdict(list)

    def see(block, layer, scores, weights):
        kept[block].append(weights[0].float().cpu().numpy())

    memory, hidden = model.encode(padded([source], tokenizer.pad), see)
    if target is not None:
        model.decode(padded([[tokenizer.pad, *target[:-1]]], tokenizer.pad), memory, hidden, see)
    return {block: np.stack(found) for block, found in kept.items()}


def positions(tally: Tally, weights, delimiter, causal: bool):
    """Roles that need no words. weights [layers, heads, q, k]; delimiter: which keys are one."""
    count = weights.shape[2]
    best = weights.argmax(-1)
    for q in range(1, count - 1):
        keys = q + 1 if causal else count
        tally.add("previous", best[:, :, q] == q - 1, 1 / keys)
        tally.add("same", best[:, :, q] == q, 1 / keys)
        tally.add("next", best[:, :, q] == q + 1, 1 / keys if keys > q + 1 else 0.0)
        tally.add("delimiter", np.isin(best[:, :, q], np.flatnonzero(delimiter)), float(delimiter[:keys].sum()) / keys)


def delimiters(tokenizer, ids):
    pieces = [tokenizer.sp.id_to_piece(n) if n < tokenizer.sp.get_piece_size() else ">>" for n in ids]
    return np.array([n == tokenizer.eos or p == ">>" or p.strip("\u2581") in DELIMITERS for n, p in zip(ids, pieces)])


def read_most(weights, query_rows, words, spans, shift, own):
    """-> [layers, heads] index of the word read most, and how many words were possible."""
    row = weights[:, :, query_rows].mean(2)
    sums = np.stack([row[..., [n + shift for n in under(spans, w)]].sum(-1) for w in words], -1)
    for n, (a, b) in enumerate(words):
        if own and a < own[1] and b > own[0]:
            sums[..., n] = -1
    return sums.argmax(-1), int((sums[0, 0] >= 0).sum())


def word_role(tally, role, model, tokenizer, text, language, rows):
    ids = tokenizer.encode(text)
    spans, words = tokenizer.spans(ids, text), words_of(text, language)
    weights = attention(model, tokenizer, [tokenizer.to["zh" if language == "en" else "en"], *ids, tokenizer.eos])["encoder"]
    for query, keys in rows:
        queries = [n + 1 for n in under(spans, query)]
        good = [n for n, (a, b) in enumerate(words) if any(a < d and b > c for c, d in keys)]
        best, possible = read_most(weights, queries, words, spans, 1, query)
        tally.add(role, np.isin(best, good), len(good) / possible)


def meaning_lists(count: int, seed: int = 5):
    """Five nouns, two of one class: each of the two should read the other. -> (text, language, rows)"""
    rng = random.Random(seed)
    by_kind = defaultdict(list)
    for noun in nouns():
        if not noun.person and noun.plural and " " not in noun.en:
            by_kind[noun.kind].append(noun)
    kinds = sorted(k for k, v in by_kind.items() if len(v) > 6)
    for _ in range(count):
        same, *others = rng.sample(kinds, 4)
        chosen = [*rng.sample(by_kind[same], 2), *(rng.choice(by_kind[k]) for k in others)]
        order = rng.sample(chosen, 5)
        for language in ("en", "zh"):
            text, spans = "", {}
            for n, noun in enumerate(order):
                word = (noun.plural if language == "en" else noun.zh)
                text += ("" if not n else (" and " if language == "en" else "和") if n == 4 else (", " if language == "en" else "、"))
                spans[noun] = (len(text), len(text) + len(word))
                text += word
            a, b = (spans[noun] for noun in chosen[:2])
            yield text, language, [(a, [b]), (b, [a])]


def measure(model, tokenizer, aligned_pairs, hand: Path | None = None, count: int = 150) -> dict:
    """aligned_pairs: Pairs with links. -> the contents of roles.json"""
    tallies = {"encoder": Tally(), "decoder_self": Tally(), "decoder_cross": Tally()}
    enc = tallies["encoder"]
    for pair in aligned_pairs[:count]:
        for source, to in (("en", "zh"), ("zh", "en")):
            a, b = pair.text(source), pair.text(to)
            one, two = tokenizer.encode(a), tokenizer.encode(b)
            ids, out = [tokenizer.to[to], *one, tokenizer.eos], [*two, tokenizer.eos]
            seen = attention(model, tokenizer, ids, out)
            positions(enc, seen["encoder"], delimiters(tokenizer, ids), False)
            positions(tallies["decoder_self"], seen["decoder_self"], delimiters(tokenizer, [tokenizer.eos, *two]), True)
            cross, spans, goal = seen["decoder_cross"], tokenizer.spans(one, a), tokenizer.spans(two, b)
            best = cross.argmax(-1)
            marks = delimiters(tokenizer, ids)
            for q in range(len(two)):
                tallies["decoder_cross"].add("delimiter", np.isin(best[:, :, q], np.flatnonzero(marks)), float(marks.mean()))
                tallies["decoder_cross"].add("same position", best[:, :, q] == q + 1, 1 / len(ids))
            words, by_target = words_of(a, source), defaultdict(list)
            for en, zh in pair.links:
                key, query = (en, zh) if source == "en" else (zh, en)
                by_target[query].append(key)
            for query, keys in by_target.items():
                rows = under(goal, query)
                good = [n for n, (x, y) in enumerate(words) if any(x < d and y > c for c, d in keys)]
                if rows and good:
                    top, possible = read_most(cross, rows, words, spans, 1, None)
                    tallies["decoder_cross"].add("alignment", np.isin(top, good), len(good) / possible)
    for text, language, rows in meaning_lists(count):
        word_role(enc, "meaning", model, tokenizer, text, language, rows)
    unseen = probes(count)["both"]
    for pair in [*unseen, *(p for p in pairs(31, 6 * count, True, None) if not p.coreference["en"])]:
        for language in ("en", "zh"):
            for role, rows in (("coreference", pair.coreference), ("syntax", pair.syntax)):
                asked = [(q, [max(keys, key=lambda k: k[1])[0]] if role == "syntax" else [k for k, _ in keys])
                         for q, keys in rows.get(language, ())]
                if asked:
                    word_role(enc, role, model, tokenizer, pair.text(language), language, asked)
    for role, text, language, rows in examples(hand) if hand else ():
        word_role(enc, role, model, tokenizer, text, language, rows)
    return {"schema": 1, "least": LEAST, "heads": [entry for block, tally in tallies.items() for entry in entries(model, block, tally)]}


def entries(model, block, tally):
    shape = model.shape
    guided = {placed(name, shape): name for name in HEADS}
    roles = [r for r in tally.count if not (block == "decoder_self" and r == "next")]
    for layer in range(shape.encoder_layers if block == "encoder" else shape.decoder_layers):
        for head in range(shape.heads):
            scores = {r: dict(zip(("score", "chance"), (round(x, 4) for x in tally.score(r, layer, head)))) for r in roles}
            lift = {r: (s["score"] - s["chance"]) / max(1e-6, 1 - s["chance"]) for r, s in scores.items()}
            trained = guided.get((block, layer, head))
            role = trained or max(lift, key=lift.get)
            if not trained and lift[role] < LEAST:
                yield {"block": block, "layer": layer, "head": head, "role": "mixed", "score": scores[role]["score"],
                       "chance": scores[role]["chance"], "nearest": role, "guided": False, "scores": scores}
            else:
                yield {"block": block, "layer": layer, "head": head, "role": role, "score": scores[role]["score"],
                       "chance": scores[role]["chance"], "guided": bool(trained), "scores": scores}


def write(path: Path, found: dict) -> None:
    heads = ",\n".join("  " + json.dumps(h, ensure_ascii=False) for h in found["heads"])
    rest = ", ".join(f'"{k}": {json.dumps(v)}' for k, v in found.items() if k != "heads")
    path.write_text("{" + rest + ', "heads": [\n' + heads + "\n]}\n", encoding="utf-8")


