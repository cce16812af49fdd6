"""The most memory that something takes while it runs, to hold a prediction against.

>>> with peak() as used:
...     data = bytearray(50_000_000)
>>> del data
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmlab._module import callable_module

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Bytes at the peak beyond what was held before; NaN inside the block, and where the system does not tell."""

    bytes: float = math.nan

    @property
    def gb(self) -> float:
        """In 10^9 bytes, as `lab.memory` counts."""
        return self.bytes / 1e9

    def __repr__(self) -> str:
        return f"Peak: {self.gb:.2f} GB"


@contextmanager
def peak() -> Iterator[Peak]:
    """Measure the peak of what runs inside: on a GPU what torch has allocated, else this process by Linux's count.

    Packages that are imported inside count, too: import them before. Other threads of the process count as well.
    """
    import torch

    from llmlab.finetune import heap

    gc.collect()
    heap.trim()  # what an earlier training left free would hide a part of the peak
    found = Peak()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
    else:
        before = _reset()
    try:
        yield found
    finally:
        found.bytes = (torch.cuda.max_memory_allocated() if on_gpu else _status("VmHWM")) - before


def _reset() -> float:
    """Begin a new high-water mark; gives the bytes held now, NaN where this cannot be done."""
    try:
        _RESET.write_text("5")
    except OSError:  # no Linux, or not allowed in this container
        return math.nan
    return _status("VmRSS")


def _status(field: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), math.nan)


callable_module(__name__, "llmlab.finetune.peak:peak")
