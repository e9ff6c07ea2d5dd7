"""Train the finder on pictures drawn as it goes.

    python -m training.finder.train --work DIR [--pictures 120000] [--seed 1] [--device auto]

Run it again with the same --work to go on after a kill. WORK/pictures, if there, overrides --pictures: the learning rate stays until
the last quarter of them and falls to zero at their end.
"""

import argparse
import json
import signal
import time
from pathlib import Path

import torch

from training import together
from training.running import fastest_dtype, keep_memory, save_whole, when_stopped

from .batches import Pictures, collate
from .evaluate import measure
from .losses import Teacher, losses, weighted
from .model import Finder, Shape, shape_dict


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path, help="checkpoint and log go here")
    p.add_argument("--pictures", type=int, default=120_000)
    p.add_argument("--batch", type=int, default=8, help="pictures a step")
    p.add_argument("--per", type=int, default=8, help="prompts a picture")
    p.add_argument("--rate", type=float, default=7e-4)
    p.add_argument("--warm", type=int, default=300, help="steps of warming up")
    p.add_argument("--force", type=float, default=0.7, help="share of prompts whose objects' own tokens are selected for them")
    p.add_argument("--look", type=int, default=8000, help="pictures between two looks at the scores")
    p.add_argument("--processes", type=int, default=0, help="that take each step together; 0: one a core, or one with a GPU")
    p.add_argument("--workers", type=int, default=-1, help="processes that draw for each of them; -1: none, or with a GPU one a core")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")
    p.add_argument("--stop-after", type=int, default=0, help="end after so many steps (for tests)")
    p.add_argument("--small", action="store_true", help="a model of a few thousand weights (for tests)")
    a = p.parse_args()
    if a.device == "auto":
        a.device = "cuda" if torch.cuda.is_available() else "cpu"
    if not a.processes:
        a.processes = max(n for n in range(1, together.cores() + 1) if a.batch % n == 0) if a.device == "cpu" else 1
    if a.batch % a.processes:
        p.error(f"--batch {a.batch} cannot be shared by {a.processes} processes: expected a multiple of them")
    if a.workers < 0:
        a.workers = 0 if a.device == "cpu" else together.cores()
    return a


SMALL = Shape(fine=8, middle=16, width=24, heads=2, picture_layers=1, picture_ffn=32, piece=8, text_layers=1, text_ffn=32, decoder_layers=2,
              decoder_ffn=32, pixel=8)


MUON = 4.0  # how much longer its steps are than AdamW's where both are said to have the same root mean square


def optimizers(model: Finder, teacher: Teacher, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024; steps as long as AdamW's, Liu et al. 2025) for the matrices between features, AdamW for the rest."""
    inner, decayed, rest = [], [], []
    for name, p in (*model.named_parameters(), *teacher.named_parameters()):
        matrix = p.dim() == 2 and min(p.shape) > 4 and not any(part in name for part in ("position", "pieces", "read"))
        (inner if matrix else decayed if p.dim() > 1 else rest).append(p)
    return [torch.optim.Muon([{"params": inner, "lift": MUON}], lr=rate * MUON, weight_decay=0.02 / MUON, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98),
                              fused=True)]


class Run:
    def __init__(self, team: together.Together, a):
        self.team, self.a, self.device = team, a, torch.device(a.device)
        told = a.work / "pictures"
        self.pictures = int(told.read_text()) if told.exists() else a.pictures
        torch.manual_seed(a.seed)
        self.dtype = fastest_dtype(self.device)
        self.model = Finder(SMALL if a.small else Shape()).to(self.device)
        self.teacher = Teacher(self.model.shape).to(self.device)
        self.parameters = [*self.model.parameters(), *self.teacher.parameters()]
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.optimizers = optimizers(self.model, self.teacher, a.rate)
        self.step = self.seen = 0
        self.seconds, self.history, self.noted = 0.0, [], {}
        self.checkpoint = a.work / "checkpoint.pt"
        self.ended = False
        when_stopped(lambda: setattr(self, "ended", True))
        if self.checkpoint.exists():
            self.load()

    def load(self):
        kept = torch.load(self.checkpoint, map_location=self.device, weights_only=False)
        self.model.load_state_dict(kept["model"])
        self.teacher.load_state_dict(kept["teacher"])
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average = kept["average"]
        self.step, self.seen, self.seconds, self.history = kept["at"]
        self.say(f"resumed at step {self.step}, {self.seen} pictures, {self.seconds / 60:.1f} minutes")

    def save(self):
        """The whole state, written by the first process; every one brings what Muon remembers of its matrices."""
        remembered = self.team.gathered(self.optimizers[0].state_dict()["state"])
        if self.team.rank:
            return
        muon = self.optimizers[0].state_dict() | {"state": {n: v for part in remembered for n, v in part.items()}}
        save_whole({"model": self.model.state_dict(), "teacher": self.teacher.state_dict(), "optimizers": [muon, self.optimizers[1].state_dict()],
                    "average": self.average, "shape": shape_dict(self.model.shape), "at": (self.step, self.seen, self.seconds, self.history),
                    "arguments": {k: str(v) for k, v in vars(self.a).items()}}, self.checkpoint)

    def say(self, text: str):
        if self.team.rank:
            return
        line = time.strftime("%H:%M:%S ") + text
        print(line, flush=True)
        with open(self.a.work / "log.txt", "a", encoding="utf-8") as log:
            log.write(line + "\n")

    def rate(self) -> float:
        """Warm-up, level, and over the last quarter down to nothing."""
        left = max(0.0, 1 - self.seen / self.pictures)
        return self.a.rate * min(1.0, (self.step + 1) / self.a.warm) * min(1.0, max(left, 0.002) / 0.25)

    def update(self, batch, wish: bool = False) -> bool:
        """A step on this process's share of the pictures. -> whether any process wishes to end."""
        a, team = self.a, self.team
        batch.to(self.device)
        coins = torch.rand(a.batch * a.per, 1, generator=torch.Generator().manual_seed(a.seed * 1_000_003 + self.step))
        share = len(batch.targets)
        forced = batch.forced * (coins[team.rank * share : (team.rank + 1) * share] < a.force).to(self.device)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            parts = losses(self.model(batch.rgb, batch.pieces, batch.lengths, forced), batch, self.teacher)
            loss = weighted(parts)
        loss.backward()
        wished = team.average(self.parameters, wish)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        matrices = [p for group in self.optimizers[0].param_groups for p in group["params"]]
        mine = {id(p) for p in team.mine(matrices)}
        for p in matrices:
            if id(p) not in mine:
                p.grad = None  # Muon leaves it alone: another process moves it
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate() * group.get("lift", 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        team.share(matrices)
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - keep)
        self.step += 1
        self.seen += a.batch
        for name, value in (("loss", loss), *parts.items()):
            total = self.noted.setdefault(name, [0.0, 0])
            total[0] += value.item()
            total[1] += 1
        return wished

    def batches(self) -> list[list[int]]:
        """The numbers of this process's pictures, for every step that is left."""
        share = self.a.batch // self.team.count
        first = range(self.seen + self.team.rank * share, self.pictures - self.a.batch + 1 + self.team.rank * share, self.a.batch)
        return [list(range(n, n + share)) for n in first]

    def train(self):
        """Until the pictures are done: whether they are."""
        a = self.a
        data = Pictures("train", self.pictures, a.per, self.model.shape, a.seed)
        loader = torch.utils.data.DataLoader(data, batch_sampler=self.batches(), collate_fn=collate, num_workers=a.workers,
                                             prefetch_factor=4 if a.workers else None, worker_init_fn=quiet)
        before = time.time()
        for batch in loader:
            self.model.train()
            over = self.update(batch, self.ended)
            now = time.time()
            self.seconds += min(now - before, 30.0)  # time in which the process was stopped does not count
            before = now
            if self.step % 20 == 0:
                self.report()
            if self.seen // a.look > (self.seen - a.batch) // a.look:
                self.look()
                before = time.time()
            if self.step % 200 == 0 or over:
                self.save()
            if over:
                raise SystemExit(f"saved at step {self.step}; run again to go on" if self.team.rank == 0 else 0)
            if self.step == a.stop_after or self.seen >= self.pictures:
                break
        self.save()
        return self.seen >= self.pictures

    def report(self):
        parts = "  ".join(f"{k} {v / c:.3f}" for k, (v, c) in self.noted.items())
        self.say(f"step {self.step}  {self.seen}/{self.pictures} pictures  {parts}  rate {self.rate():.1e}  "
                 f"{self.seen / max(1.0, self.seconds):.2f} pictures/s")
        self.noted = {}

    def look(self):
        """Scores of the averaged weights on a few held-out pictures."""
        if self.team.rank:
            return
        model = Finder(self.model.shape).to(self.device)
        model.load_state_dict(self.average)
        start = time.time()
        scores = measure(model, "seen pairs, new pictures", 24, self.a.per, self.dtype)
        result = {"pictures": self.seen, "minutes": round(self.seconds / 60, 1), **scores["all"],
                  "by_kind": {k: [v["presence_accuracy"], v["f1"]] for k, v in scores.items() if k != "all"}}
        self.history.append(result)
        self.say(f"== {json.dumps(result)} ({time.time() - start:.0f} s)")


def quiet(_worker):
    """A worker is told to stop by the loop, never by the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def work(team: together.Together, a):
    keep_memory()
    run = Run(team, a)
    run.say(f"{sum(p.numel() for p in run.model.parameters()) / 1e6:.2f} M parameters, {run.dtype} on {run.device}, {run.pictures} pictures, "
            f"processes: {team.count}")
    if run.train():
        run.say(f"done: {run.step} steps, {run.seen} pictures, {run.seconds / 60:.1f} minutes; now python -m training.finder.evaluate --work {a.work}")


def main():
    a = arguments()
    a.work.mkdir(parents=True, exist_ok=True)
    together.run(a.processes, work, a)


if __name__ == "__main__":
    main()
