"""Processes that take every step of a training together, a core each.

Several processes of one thread use cores better than one process of several threads: none waits for another within a step, and each
draws or reads its own share of the examples. At the end of a step's backward pass their gradients are averaged, after which all of them
hold the same weights.
"""

import datetime
import os
import signal
import tempfile
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

STOPPED = datetime.timedelta(days=30)  # the processes may be paused, all of them, for as long as anybody wants


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Together:
    """One of `count` processes, number `rank`; with count 1 nothing is shared and nothing is started."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    def average(self, parameters: list[torch.nn.Parameter], wish: bool) -> bool:
        """Every gradient becomes the mean over the processes. -> whether any process had the wish."""
        if self.count == 1:
            return wish
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([float(wish)])])
        dist.all_reduce(flat)
        wished = bool(flat[-1] > 0)
        flat /= self.count
        for p, mean in zip(parameters, flat[:-1].split([p.numel() for p in parameters])):
            p.grad.copy_(mean.view_as(p))
        return wished

    def mine(self, items: list) -> list:
        """The items this process works on for all of them."""
        return items[self.rank :: self.count]

    def share(self, parameters: list[torch.nn.Parameter]) -> None:
        """Every process receives what each made of its own (`mine`)."""
        for rank in range(self.count if self.count > 1 else 0):
            part = parameters[rank :: self.count]
            flat = torch.cat([p.detach().flatten() for p in part])
            dist.broadcast(flat, rank)
            if rank != self.rank:
                with torch.no_grad():
                    for p, value in zip(part, flat.split([p.numel() for p in part])):
                        p.copy_(value.view_as(p))

    def gathered(self, value) -> list | None:
        """For process 0, everybody's value; None for the others."""
        if self.count == 1:
            return [value]
        values = [None] * self.count if self.rank == 0 else None
        dist.gather_object(value, values)
        return values


def _join(rank: int, count: int, meeting: str) -> Together:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=STOPPED)
    return Together(rank, count)


def _helper(rank: int, count: int, meeting: str, work: Callable[..., None], arguments: Iterable) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells everybody; process 0 passes it on
    work(_join(rank, count, meeting), *arguments)


def run(count: int, work: Callable[..., None], *arguments) -> None:
    """work(together, *arguments) in `count` processes, this one among them; it must be importable by name."""
    if count == 1:
        return work(Together(), *arguments)
    with tempfile.TemporaryDirectory() as folder:
        meeting = os.path.join(folder, "meeting")
        context = mp.get_context("spawn")
        helpers = [context.Process(target=_helper, args=(r, count, meeting, work, arguments), daemon=True) for r in range(1, count)]
        for helper in helpers:
            helper.start()
        work(_join(0, count, meeting), *arguments)
        for helper in helpers:
            helper.join()
        dist.destroy_process_group()
