"""Rows on their way: what is written side by side, a token at a time, and who may still join."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.errors import ProviderError
from llmlab.models.local.attention import packed
from llmlab.models.local.coalesce import Job
from llmlab.models.local.decoding import Decoder, PackedDecoder, PlainDecoder
from llmlab.models.local.generation import Row
from llmlab.models.local.guided import by
from llmlab.models.local.loading import Loaded, is_out_of_memory
from llmlab.models.local.packing import LEAST, PASS, groups

if TYPE_CHECKING:
    from llmlab.models.local.check import Tried
    from llmlab.models.local.engine import Prompted

# rows that are written together: they share each pass through the weights, which takes as long for one
ROWS = 32
# what reading the weights once more for a step costs, in tokens
_STEP = 16
# memory for the keys and values of the rows being written
ROWS_BYTES = 1 << 30


@dataclass(frozen=True)
class _Set:
    """Rows under way in one decoder, all behind the same first tokens; more may be put into `waiting`."""

    decoder: Decoder
    waiting: deque[Row]
    size: int
    packed: bool
    prefix: tuple[int, ...] = ()


class Lane:
    """Jobs that are written together: sets of rows, one set after the other.

    Args:
        jobs: of Prompted, all with equal interventions.
        most_bytes: for the keys and values of the rows being written.
        open_: whether others may join.
    """

    def __init__(self, jobs: Sequence[Job], most_bytes: int = ROWS_BYTES, *, open_: bool = True) -> None:
        self.jobs = list(jobs)
        self.interventions: tuple[Any, ...] = self.jobs[0].ask.interventions
        self.most_bytes = most_bytes
        self.open = open_
        self._set: _Set | None = None
        self._steps: Iterator[None] | None = None
        self._loaded: Loaded | None = None

    @property
    def begun(self) -> bool:
        """Whether a token was written."""
        return self._steps is not None

    def attention(self) -> AbstractContextManager[None]:
        """The attention that the next step needs; setting it once for many steps saves time."""
        if self._set is None or self._loaded is None or not self._set.packed:
            return nullcontext()
        return packed(self._loaded.model)

    def takes(self, asked: Prompted) -> int:
        """How many tokens of a prompt need not be read when its row joins; -1 when it cannot join."""
        if (
            not self.open
            or self._set is None
            or not self._set.decoder.joins
            or self.interventions != asked.interventions
        ):
            return -1
        row, prefix = asked.row, self._set.prefix
        assert self._loaded is not None
        length = len(row.prompt) + row.limit
        fits = length <= (self._loaded.window or self._loaded.context)
        fits = fits and self._set.size * (length - len(prefix)) * self._loaded.token_bytes <= self.most_bytes
        same = len(row.prompt) > len(prefix) and row.prompt[: len(prefix)] == prefix
        return len(prefix) if fits and same else -1

    def join(self, job: Job) -> None:
        """Write this job as well."""
        self.jobs.append(job)
        if self._set is not None:
            self._set.waiting.append(job.ask.row)

    def advance(self, loaded: Loaded, path: Tried, budget: int) -> bool:
        """One token more; whether the next one may follow without looking up.

        No: when another set comes up, when a job of another thread is done or watched, or all of this thread's are.
        """
        if self._steps is None:
            self._loaded = loaded
            self._steps = self._write(path, budget)
        before = self._set
        next(self._steps, None)
        me, mine, others = threading.get_ident(), False, False
        left = []
        for job in self.jobs:
            if job.ask.row.done:
                job.finish(job.ask.row)
                others = others or job.owner != me
            else:
                left.append(job)
                others = others or job.ask.watched
                mine = mine or job.owner == me
        self.jobs = left
        return mine and not others and self._set is before

    # -- inside -------------------------------------------------------------------------------------------

    def _write(self, path: Tried, budget: int) -> Iterator[None]:
        from llmlab.models.local.generation import write

        size = ROWS
        while rows := [job.ask.row for job in self.jobs if not job.ask.row.done]:
            for row in rows:
                # an oversized or interrupted batch may have written some of it
                row.restart()
            try:
                for several in self._sets(rows, path, budget, size):
                    self._set = several
                    yield
                    yield from write(several.decoder, several.waiting, several.size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    stuck = next((row for row in rows if row.begun and not row.done), rows[0])
                    stuck.error = ProviderError(f"out of memory on a single prompt of {len(stuck.prompt)} tokens")
                size = max(1, min(size, len(rows)) // 2)
            finally:
                self._set = None

    def _sets(self, rows: Sequence[Row], path: Tried, budget: int, size: int) -> Iterator[_Set]:
        loaded, prefixes = self._loaded, path.prefixes
        assert loaded is not None
        limit = loaded.window or loaded.context
        fits = [row for row in rows if prefixes is not None and len(row.prompt) + row.limit <= limit]
        alone = []
        # a batch of its own takes as many steps again
        overhead = PASS + _STEP * max((row.limit for row in fits), default=0)
        for group in groups([row.prompt for row in fits], overhead):
            assert prefixes is not None
            members = [fits[i] for i in group.members]
            start = group.prefix or (prefixes.longest(members[0].prompt) if len(fits) == 1 else 0)
            if start < LEAST:
                alone += members
                continue
            n, prefix = self._size(members, start, size), members[0].prompt[:start]
            decoder = PackedDecoder(loaded, n, budget, start, prefixes.get(prefix))
            yield _Set(by(decoder, path, loaded), _longest_first(members), n, True, prefix)
        if alone:
            n = self._size(alone, 0, size)
            yield _Set(by(PackedDecoder(loaded, n, budget), path, loaded), _longest_first(alone), n, True)
        done = set(map(id, fits))
        plain = [row for row in rows if id(row) not in done]
        for several in _alike_rotated(plain, loaded.turn):
            n = self._size(several, 0, size)
            yield _Set(by(PlainDecoder(loaded), path, loaded), _longest_first(several), n, False)

    def _size(self, rows: Sequence[Row], start: int, size: int) -> int:
        """How many rows to write at a time, at most `size`, so that their keys and values fit into memory."""
        assert self._loaded is not None
        longest = max(len(row.prompt) - start + row.limit for row in rows)
        return max(1, min(size, self.most_bytes // (longest * self._loaded.token_bytes)))


def _alike_rotated(rows: Sequence[Row], turn: int | None) -> list[list[Row]]:
    """Rows that may share a batch: where positions turn at a length, those on one side of it, or who crosses it."""
    if turn is None:
        return [list(rows)] if rows else []
    short = [row for row in rows if len(row.prompt) + row.limit <= turn]
    long = [row for row in rows if len(row.prompt) > turn]
    crossing = [[row] for row in rows if len(row.prompt) <= turn < len(row.prompt) + row.limit]
    return [several for several in (short, long, *crossing) if several]


def _longest_first(rows: Sequence[Row]) -> deque[Row]:
    return deque(sorted(rows, key=lambda row: -len(row.prompt)))


def place(jobs: Sequence[Job], lanes: list[Lane], most: int) -> None:
    """Put new jobs into lanes, their own or those of others; only the first `most` lanes are under way at a time.

    A row joins the lane that saves it the most reading. More than fit together are better planned by themselves,
    and nobody joins what is under way while others wait for their turn.
    """
    crowd = len(jobs) > ROWS
    for job in jobs:
        under_way = lanes[:most] if not crowd and len(lanes) <= most else []
        saved, best = max(((lane.takes(job.ask), -i) for i, lane in enumerate(under_way)), default=(-1, 0))
        if saved >= 0:
            under_way[-best].join(job)
            continue
        new = next((lane for lane in lanes if _alike(lane, job.ask)), None)
        if new is not None:
            new.join(job)
        else:
            lanes.append(Lane([job], ROWS_BYTES if not lanes else ROWS_BYTES // most))


def _alike(lane: Lane, asked: Prompted) -> bool:
    return lane.open and not lane.begun and lane.interventions == asked.interventions
