"""Train the bundled translation model.

    python -m training.translate.train --corpus tatoeba-eng-cmn.tsv --work DIR [--minutes 170] [--seed 1] [--device auto]

Run it again with the same --work to go on after a kill. WORK/minutes, if there, overrides --minutes while it runs.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from training.running import fastest_dtype, save_whole, when_stopped

from . import corpus, prepare
from .batches import Encoder, bucket, label_rows, padded
from .decode import greedy
from .guidance import Watch
from .model import DropoutPool, Marian, Shape, SmoothedLoss, shape_dict
from .reading import coreference_scores

LONGEST_STEP = 10.0  # seconds of one step that count: time in which the process was stopped does not


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--corpus", required=True, help=f"English, Chinese, attribution, tab-separated; from {corpus.WHERE}")
    p.add_argument("--work", required=True, type=Path, help="checkpoints, tokenizer and log go here")
    p.add_argument("--minutes", type=float, default=150, help="training time; the learning rate falls to zero at its end")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")
    p.add_argument("--encoder-layers", type=int, default=4)
    p.add_argument("--decoder-layers", type=int, default=3)
    p.add_argument("--dropout", type=float, default=0.2)
    p.add_argument("--smoothing", type=float, default=0.1)
    p.add_argument("--sample", type=float, default=0.3, help="alpha of the sub-word sampling; 0 turns it off")
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--warm", type=int, default=400, help="steps of warming up")
    p.add_argument("--tokens", type=int, default=1800, help="padded tokens a side in a batch")
    p.add_argument("--generated", type=int, default=3000, help="generated pairs an epoch that are also translated")
    p.add_argument("--read-every", type=int, default=1, help="a coreference batch (encoder only) every so many steps")
    p.add_argument("--stop-after", type=int, default=0, help="end after so many steps (for tests)")
    return p.parse_args()


class Run:
    def __init__(self, a):
        self.a = a
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if a.device == "auto" else a.device)
        torch.manual_seed(a.seed)
        self.dtype = fastest_dtype(self.device)
        self.tokenizer, self.data = prepare.prepare(a.corpus, a.work, a.seed)
        shape = Shape(len(self.tokenizer), encoder_layers=a.encoder_layers, decoder_layers=a.decoder_layers)
        self.model = Marian(shape, self.dtype).to(self.device)
        self.pool = DropoutPool(a.dropout, a.seed, self.dtype, self.device)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        decay = [p for p in self.model.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if p.dim() < 2]
        self.optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
                                           lr=a.rate, betas=(0.9, 0.98), eps=1e-8, fused=True)
        self.step = self.epoch = self.done = 0
        self.seconds, self.history = 0.0, []
        self.checkpoint = a.work / "checkpoint.pt"
        self.ended = False
        when_stopped(lambda: setattr(self, "ended", True))
        if self.checkpoint.exists():
            self.load()

    def load(self):
        kept = torch.load(self.checkpoint, map_location=self.device, weights_only=False)
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.average = {name: value.detach() for name, value in kept["average"].items()}
        self.step, self.epoch, self.done, self.seconds, self.history = kept["at"]
        self.say(f"resumed at epoch {self.epoch}, step {self.step}, {self.seconds / 60:.1f} minutes")

    def save(self):
        save_whole({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
                    "shape": shape_dict(self.model.shape), "at": (self.step, self.epoch, self.done, self.seconds, self.history),
                    "arguments": {k: str(v) for k, v in vars(self.a).items()}}, self.checkpoint)

    def say(self, text: str):
        print(time.strftime("%H:%M:%S"), text, flush=True)

    def minutes(self) -> float:
        told = self.a.work / "minutes"
        return float(told.read_text()) if told.exists() else self.a.minutes

    def rate(self) -> float:
        """Warm-up, then linear to nothing at the end of the time given."""
        left = max(0.0, 1 - self.seconds / 60 / self.minutes())
        return self.a.rate * min(1.0, (self.step + 1) / self.a.warm) * max(left, 0.01)

    def translate_loss(self, examples):
        """Label-smoothed cross-entropy a token, with the guided heads' losses."""
        t, model = self.tokenizer, self.model
        source = padded([e.source for e in examples], t.pad).to(self.device)
        target = padded([e.target for e in examples], t.pad).to(self.device)
        shifted = torch.cat([torch.full_like(target[:, :1], t.pad), target[:, :-1]], 1)
        watch = Watch(model.shape, ("coreference", "syntax", "alignment"))
        memory, hidden = model.encode(source, watch)
        x = model.decode(shifted, memory, hidden, watch)
        real = target != t.pad
        count = int(real.sum())
        loss, plain = SmoothedLoss.apply(x[real], model.model.shared.weight, target[real], self.a.smoothing)
        loss = loss / count
        for name, weight in (("align", 0.6), ("coreference", self.reading_weight()), ("syntax", 0.1)):
            rows = label_rows(examples, name)
            if rows is not None:
                extra = watch.loss("alignment" if name == "align" else name, rows)
                loss = loss + weight * extra
                self.note(name, extra.item(), 1)
        self.note("translate", plain.item(), count)
        return loss

    def reading_weight(self) -> float:
        """Low at first: the words must mean something before a head can choose among them."""
        return 0.1 + 0.4 * min(1.0, self.step / 1500)

    def read_loss(self, examples):
        source = padded([e.source for e in examples], self.tokenizer.pad).to(self.device)
        watch = Watch(self.model.shape, ("coreference", "syntax"))
        self.model.encode(source, watch)
        loss = 0.0
        for name, weight in (("coreference", self.reading_weight()), ("syntax", 0.1)):
            rows = label_rows(examples, name)
            if rows is not None:
                extra = watch.loss(name, rows)
                loss = loss + weight * extra
                self.note("read" if name == "coreference" else name, extra.item(), 1)
        return loss

    def note(self, name, value, count):
        total = self.seen.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += count

    def update(self, loss):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - keep)
        self.step += 1

    def train(self):
        self.seen: dict = {}
        torch.manual_seed(self.a.seed + self.step)
        last_save = time.time()
        while self.seconds < 60 * self.minutes():
            rng = np.random.default_rng([self.a.seed, self.epoch])
            encoder = Encoder(self.tokenizer, self.a.sample, rng)
            examples, readings = prepare.epoch(self.data, encoder, self.a, self.epoch)
            batches, read = bucket(examples, self.a.tokens, rng), bucket(readings, self.a.tokens, rng) if readings else []
            self.model.drop = self.pool
            for n, batch in enumerate(batches):
                if n < self.done:
                    continue
                start = time.time()
                loss = self.translate_loss([examples[i] for i in batch])
                if read and self.step % self.a.read_every == 0:
                    loss = loss + self.read_loss([readings[i] for i in read[(n // self.a.read_every) % len(read)]])
                self.update(loss)
                self.done = n + 1
                self.seconds += min(time.time() - start, LONGEST_STEP)
                if self.step % 50 == 0:
                    self.report(n, len(batches))
                if time.time() - last_save > 180 or self.ended:
                    self.save()
                    last_save = time.time()
                if self.ended:
                    raise SystemExit(f"saved at step {self.step}; run again to go on")
                if self.seconds > 60 * self.minutes() or self.step == self.a.stop_after:
                    break
            self.done, self.epoch = 0, self.epoch + 1
            self.look()
            self.save()
            last_save = time.time()
            if self.step == self.a.stop_after:
                break

    def report(self, n, total):
        seen = "  ".join(f"{k} {v / c:.3f}" for k, (v, c) in self.seen.items())
        left = max(0.0, self.minutes() - self.seconds / 60)
        self.say(f"epoch {self.epoch} {n + 1}/{total}  step {self.step}  {seen}  rate {self.rate():.1e}  "
                 f"{self.seconds / max(1, self.step):.2f} s/step  {left:.0f} minutes left")
        self.seen = {}

    def look(self):
        """Scores of the averaged weights on dev and on generated sentences with unseen frames and nouns."""
        start = time.time()
        model = averaged(self)
        result = {"epoch": self.epoch, "step": self.step, "minutes": round(self.seconds / 60, 1)}
        if self.epoch % 3 == 0 or self.seconds > 60 * self.minutes():
            import sacrebleu

            pairs = self.data.dev[:200]
            for source, to in (("en", "zh"), ("zh", "en")):
                texts = [corpus.tidy_en(p[0]) if source == "en" else corpus.tidy_zh(p[1]) for p in pairs]
                out = greedy(model, self.tokenizer, texts, to)
                result[f"{source}-{to}"] = round(sacrebleu.corpus_bleu(
                    out, [[p[1] if to == "zh" else p[0] for p in pairs]], tokenize="zh" if to == "zh" else "13a").score, 1)
        if self.data.probes:
            result |= coreference_scores(model, self.tokenizer, self.data.probes)
        self.history.append(result)
        self.say(f"== {json.dumps(result, ensure_ascii=False)} ({time.time() - start:.0f} s)")


def averaged(run) -> Marian:
    model = Marian(run.model.shape, run.dtype).to(run.device)
    model.load_state_dict(run.average, strict=False)
    return model.eval()


def main():
    a = arguments()
    a.work.mkdir(parents=True, exist_ok=True)
    (a.work / "settings.json").write_text(json.dumps({k: v if isinstance(v, (int, float)) else str(v) for k, v in vars(a).items()}))
    run = Run(a)
    count = sum(p.numel() for p in run.model.parameters())
    run.say(f"{count / 1e6:.2f} M parameters, {run.dtype} on {run.device}, {len(run.data.train)} training pairs")
    run.train()
    run.save()
    run.say(f"done: {run.step} steps, {run.epoch} epochs, {run.seconds / 60:.1f} minutes; "
            f"now python -m training.translate.export --work {a.work} --out models/translate-en-zh")


if __name__ == "__main__":
    main()
