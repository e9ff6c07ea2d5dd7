"""What a long run of any training here needs: the fastest type, a clean end when it is told to stop, files that are whole or not there."""
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() or getattr(
        torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if fast else torch.float32


def when_stopped(end: Callable[[], None]):
    """Calls end() on SIGTERM and SIGINT instead of stopping in the middle of a step."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: end())


def save_whole(state: dict[str, Any], path: Path):
    """torch.save, whole or not at all."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    os.replace(new, path)


def keep_memory():
    """Freed memory stays with the process. A step frees and asks again for hundreds of blocks that glibc would give back to the kernel
    each time, which then clears every page anew: a tenth of a step's time and more."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 64 << 20)
