"""Train the bundled bilingual encoder.

    python -m training.search.train --corpus tatoeba-eng-cmn.tsv --work DIR [--minutes 60] [--seed 1]

Run it again with the same --work to go on after a kill: the teacher's vectors, the vocabulary, the closed-form start and the
steps are kept there. WORK/minutes, if there, overrides --minutes while it runs.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin made a step four times slower on cores shared with others

import numpy as np
import torch

from training.running import fastest_dtype, keep_memory, save_whole, when_stopped

from . import data, evaluate, losses, start, teacher, vocabulary

LONGEST_STEP = 20.0  # seconds of one step that count: time in which the process was stopped does not
CHUNK = 16  # batches that are sorted by length together


def arguments(given=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--corpus", required=True, help="Tatoeba pairs: English, Chinese, attribution, tab-separated")
    p.add_argument("--dictionary", help=f"CC-CEDICT; else from {data.dictionary.WHERE}")
    p.add_argument("--teacher", help=f"folder of a sentence encoder; else {teacher.WHERE}")
    p.add_argument("--work", required=True, type=Path, help="vectors, vocabulary, checkpoints go here")
    p.add_argument("--minutes", type=float, default=60, help="time of the steps; the learning rate falls to zero at its end")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--vocabulary", type=int, default=13400)
    p.add_argument("--characters", type=int, default=4800, help="Chinese characters in the vocabulary, at most")
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--ffn", type=int, default=768)
    p.add_argument("--titles", type=int, default=48000, help="composed titles")
    p.add_argument("--questions", type=int, default=24000, help="composed questions")
    p.add_argument("--ridge", type=float, default=1.0, help="lambda of the closed form")
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--warm", type=int, default=60, help="steps of warming up")
    p.add_argument("--batch", type=int, default=384, help="pairs in a batch")
    p.add_argument("--weight", type=float, default=0.15, help="of the distribution loss beside the distance")
    p.add_argument("--answers", type=float, default=0.3, help="of the answers' loss")
    p.add_argument("--topics", type=int, default=32, help="a step's questions: so many topics and up to three like each")
    p.add_argument("--stop-after", type=int, default=0, help="end after so many steps (for tests)")
    return p.parse_args(given)


def pooled(model, ids: list[list[int]], dtype) -> torch.Tensor:
    """[texts, hidden]: mean over a text's tokens, unit length. Padding is id 0."""
    longest = max(map(len, ids))
    rows = torch.tensor([t + [0] * (longest - len(t)) for t in ids])
    mask = (rows != 0).long()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        hidden = model(input_ids=rows, attention_mask=mask).last_hidden_state.float()
    return torch.nn.functional.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)


class Run:
    def __init__(self, a):
        self.a = a
        torch.manual_seed(a.seed)
        self.dtype = fastest_dtype(torch.device("cpu"))
        self.data = data.read(a.corpus, a.dictionary, (a.titles, a.questions), a.seed)
        self.vectors = teacher.Vectors(a.work / "teacher")
        self.vectors.compute(self.data.texts(), teacher.path(a.teacher), self.dtype != torch.float32)
        self.prepare()
        decay = [p for p in self.model.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if p.dim() < 2]
        self.optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
                                           lr=a.rate, betas=(0.9, 0.98), eps=1e-8, fused=True)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.step = self.epoch = self.done = 0
        self.seconds, self.history, self.seen = 0.0, [], {}
        self.checkpoint = a.work / "checkpoint.pt"
        self.ended = False
        when_stopped(lambda: setattr(self, "ended", True))
        if self.checkpoint.exists():
            self.load()
        else:
            self.look()

    def say(self, text: str):
        print(time.strftime("%H:%M:%S"), text, flush=True)

    def prepare(self):
        """Vocabulary, projected targets, and the model in its closed-form start."""
        a, begun = self.a, time.time()
        pairs = [(en, zh, kind) for kind, part in self.data.train.items() for en, zh in part]
        english, chinese = [p[0] for p in pairs], [p[1] for p in pairs]
        folder = a.work / "vocabulary"
        if not (folder / "vocab.txt").exists():
            everyday = [en for en, _, kind in pairs if kind == "sentences"]
            vocabulary.write(vocabulary.train(english + 2 * everyday, chinese, a.vocabulary, a.characters), folder)
        self.ids = vocabulary.Ids(folder)
        self.en, self.zh, self.kinds = self.ids(english), self.ids(chinese), [p[2] for p in pairs]
        unique = list(dict.fromkeys(english))
        known = self.vectors(unique)
        kept = a.work / "start.npz"
        if not kept.exists():
            turn = start.projection(known, a.hidden - 1, a.seed)
            targets = evaluate.unit(self.vectors(english) @ turn)
            table = start.bag([*self.en, *self.zh], np.concatenate([targets, targets]), len(self.ids), a.ridge)
            with open(kept.with_suffix(".new"), "wb") as out:
                np.savez(out, turn=turn, table=table.astype(np.float32))
            os.replace(kept.with_suffix(".new"), kept)
        found = np.load(kept)
        self.turn = found["turn"]
        row = {text: n for n, text in enumerate(unique)}
        self.target = torch.from_numpy(self.targets(unique)).half()
        self.row = np.array([row[en] for en in english])
        self.topic_row = [row[en] for en, _ in self.data.asker.topics]
        self.model = start.model(start.config(len(self.ids), a.hidden, a.layers, a.ffn), found["table"], a.seed)
        self.say(f"prepared in {time.time() - begun:.0f} s")

    def targets(self, texts: list[str]) -> np.ndarray:
        """[texts, hidden]: the teacher's vectors where the student's dimensions are; dimension 0 empty."""
        turned = evaluate.unit(self.vectors(texts) @ self.turn)
        return np.concatenate([np.zeros((len(turned), 1), np.float32), turned], 1)

    def load(self):
        kept = torch.load(self.checkpoint, weights_only=False)
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.average = kept["average"]
        self.step, self.epoch, self.done, self.seconds, self.history = kept["at"]
        self.say(f"resumed at epoch {self.epoch}, step {self.step}, {self.seconds / 60:.1f} minutes")

    def save(self):
        save_whole({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
                    "at": (self.step, self.epoch, self.done, self.seconds, self.history)}, self.checkpoint)

    def minutes(self) -> float:
        told = self.a.work / "minutes"
        return float(told.read_text()) if told.exists() else self.a.minutes

    def rate(self) -> float:
        """Warm-up, then linear to nothing at the end of the time given."""
        left = max(0.0, 1 - self.seconds / 60 / self.minutes())
        return self.a.rate * min(1.0, (self.step + 1) / self.a.warm) * max(left, 0.01)

    def batches(self) -> list[np.ndarray]:
        """This epoch's batches: every sentence, title and question, and a third of the terms, another in each of three epochs.
        Texts of like length go together, so that little is padding."""
        rng = np.random.default_rng([self.a.seed, self.epoch])
        rows = rng.permutation([n for n, kind in enumerate(self.kinds) if kind != "terms" or n % 3 == self.epoch % 3])
        length = np.array([len(self.en[n]) + len(self.zh[n]) for n in rows])
        size = self.a.batch
        found = []
        for begin in range(0, len(rows), size * CHUNK):
            part = rows[begin:begin + size * CHUNK][np.argsort(length[begin:begin + size * CHUNK], kind="stable")]
            found += [part[n:n + size] for n in range(0, len(part), size)]
        return [found[n] for n in rng.permutation(len(found)) if len(found[n]) > 1]

    def update(self, rows: np.ndarray):
        e = pooled(self.model, [self.en[n] for n in rows], self.dtype)
        z = pooled(self.model, [self.zh[n] for n in rows], self.dtype)
        t = self.target[self.row[rows]].float()
        near, shape, asked = losses.distance(e, z, t), losses.distribution(e, z, t), self.answers()
        (near + self.a.weight * shape + self.a.answers * asked).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        keep = min(0.995, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - keep)
        self.step += 1
        for name, value in (("distance", near), ("distribution", shape), ("answers", asked)):
            total = self.seen.setdefault(name, [0.0, 0])
            total[0] += value.item()
            total[1] += 1

    def answers(self) -> torch.Tensor:
        rng, asker = random.Random(self.a.seed * 1_000_003 + self.step), self.data.asker
        topics = asker.draw(self.a.topics, 3, rng)
        questions, books = zip(*(asker.ask(topic, rng) for topic in topics))
        q, u = (pooled(self.model, self.ids(list(part)), self.dtype) for part in (questions, books))
        return losses.answers(q, u, self.target[[self.topic_row[topic] for topic in topics]].float())

    def train(self):
        last_save = last_look = time.time()
        while self.seconds < 60 * self.minutes() and not 0 < self.a.stop_after <= self.step:
            batches = self.batches()
            for n in range(self.done, len(batches)):
                begun = time.time()
                self.update(batches[n])
                self.done = n + 1
                self.seconds += min(time.time() - begun, LONGEST_STEP)
                if self.step % 25 == 0:
                    self.report(n, len(batches))
                if time.time() - last_save > 120 or self.ended:
                    self.save()
                    last_save = time.time()
                if self.ended:
                    raise SystemExit(f"saved at step {self.step}; run again to go on")
                if time.time() - last_look > 300:
                    self.look()
                    last_look = time.time()
                if self.seconds > 60 * self.minutes() or self.step == self.a.stop_after:
                    break
            else:
                self.done, self.epoch = 0, self.epoch + 1
        self.look()
        self.save()

    def report(self, n, total):
        seen = "  ".join(f"{k} {v / c:.3f}" for k, (v, c) in self.seen.items())
        left = max(0.0, self.minutes() - self.seconds / 60)
        self.say(f"epoch {self.epoch} {n + 1}/{total}  step {self.step}  {seen}  rate {self.rate():.1e}  "
                 f"{self.seconds / max(1, self.step):.2f} s/step  {left:.0f} minutes left")
        self.seen = {}

    @torch.no_grad()
    def look(self):
        """Scores of the averaged weights on the dev pairs."""
        current = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.model.load_state_dict(self.average, strict=False)
        english, chinese = [p[0] for p in self.data.dev], [p[1] for p in self.data.dev]
        en, zh = (pooled(self.model, self.ids(part), torch.float32).numpy() for part in (english, chinese))
        known = self.vectors(english)
        pairs = evaluate.english_pairs(known)
        found = {"step": self.step, "epoch": self.epoch, "minutes": round(self.seconds / 60, 1), **evaluate.retrieval(en, zh),
                 "spearman": round(evaluate.spearman(evaluate.similarities(en, pairs), evaluate.similarities(known, pairs)), 3)}
        self.model.load_state_dict(current, strict=False)
        self.history.append(found)
        self.say("== " + json.dumps(found))


def main():
    a = arguments()
    keep_memory()
    a.work.mkdir(parents=True, exist_ok=True)
    (a.work / "settings.json").write_text(json.dumps({k: v if isinstance(v, (int, float)) else str(v) for k, v in vars(a).items() if v is not None}))
    run = Run(a)
    run.say(f"{sum(p.numel() for p in run.model.parameters()) / 1e6:.2f} M parameters, {run.dtype}, {len(run.kinds)} training pairs")
    run.train()
    run.say(f"done: {run.step} steps, {run.epoch} epochs, {run.seconds / 60:.1f} minutes; "
            f"now python -m training.search.export --work {a.work} --out models/search-en-zh")


if __name__ == "__main__":
    main()
