"""Calls that reach a local model at the same time become one batch.

There is no worker thread: whoever finds the model free works for everybody who is waiting. So a lone caller waits for
nobody, Ctrl-C interrupts the work where it happens, and nothing has to be shut down.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# seconds: long enough for a pool of threads to arrive, short beside the fastest answer
_PAUSE = 0.0005
_PATIENCE = 0.005


@dataclass(eq=False)
class Job:
    """One call: what is asked, and the result or error that the work puts here."""

    ask: Any
    result: Any = None
    done: bool = field(default=False)

    def finish(self, result: Any) -> None:
        """Set the result (a LabError is one, too)."""
        self.result = result
        self.done = True


class Coalescer:
    """Collects jobs of several threads and hands them to `work` together, one batch at a time.

    Args:
        work: finishes every job it is given. If it raises, the jobs it left undone all get the exception, so it
            should do so only for what concerns them all. KeyboardInterrupt and the like end the caller
            that was working; jobs of others are taken up by the next one in line.
    """

    def __init__(self, work: Callable[[Sequence[Job]], None]) -> None:
        self._work = work
        self._queue: deque[Job] = deque()
        # reentrant: what changes a model during a call may call the model
        self._turn = threading.RLock()

    def run(self, asks: Sequence[Any]) -> list[Any]:
        """Results of the calls, in order; an exception in place where one failed."""
        jobs = [Job(ask) for ask in asks]
        self._queue.extend(jobs)
        try:
            while not all(job.done for job in jobs):
                with self._turn:
                    if not all(job.done for job in jobs):
                        self._lead(jobs)
        except BaseException:
            self._forget(jobs)
            raise
        return [job.result for job in jobs]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the model, for work that is not a batch."""
        with self._turn:
            yield

    def _lead(self, own: Sequence[Job]) -> None:
        self._gather()
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            self._work(batch)
        except Exception as error:
            for job in batch:
                if not job.done:
                    job.finish(error)
        except BaseException:
            mine = set(map(id, own))
            self._queue.extendleft(j for j in reversed(batch) if not j.done and id(j) not in mine)
            raise

    def _gather(self) -> None:
        if threading.active_count() == 1:
            return
        deadline = time.monotonic() + _PATIENCE
        seen = -1
        while seen != len(self._queue) and time.monotonic() < deadline:
            seen = len(self._queue)
            time.sleep(_PAUSE)

    def _forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                self._queue.remove(job)
            except ValueError:
                continue
