"""Weights that load on first use, and the one queue of calls into them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.errors import ProviderError
from llmlab.models.local import generation, scoring
from llmlab.models.local.coalesce import Coalescer, Job
from llmlab.models.local.generation import PlainDecoder, Row
from llmlab.models.local.interventions import applied, by_equality
from llmlab.models.local.loading import Loaded, as_lab_error, fingerprint, is_out_of_memory, load, locate
from llmlab.models.local.tokens import Pair, Tokens

# rows that generate together; more of them share each pass through the weights, and take memory for their caches
_ROWS = 16


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to be written, under interventions."""

    row: Row
    interventions: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a model comes from and how it is loaded."""

    name: str
    source: str
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @functools.cached_property
    def folder(self) -> Path:
        """The folder with the files; downloads them if they are not here."""
        return locate(self.source, self.revision, self.trust_remote_code)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What the files hold, in 16 hex digits (a commit of the hub in 40)."""
        return fingerprint(self.folder)


class Engine:
    """One set of weights, shared by all copies of a model.

    Args:
        source: where the weights are.
        threads: CPU threads for torch, None for its own choice.
        batch_tokens: tokens that go through the model at once when scoring; bounds the memory.
    """

    def __init__(self, source: Source, threads: int | None, batch_tokens: int) -> None:
        self.source = source
        self.threads = threads
        self.batch_tokens = batch_tokens
        self._coalescer = Coalescer(self._work)
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()

    @property
    def loaded(self) -> Loaded:
        """The weights; read from disk on first use."""
        with self._loading:
            if self._loaded is None:
                s = self.source
                self._loaded = load(
                    s.folder, s.name, device=s.device, dtype=s.dtype, trust_remote_code=s.trust_remote_code
                )
            return self._loaded

    @functools.cached_property
    def tokens(self) -> Tokens:
        """The tokenizer."""
        return Tokens(self.loaded.tokenizer)

    @functools.cached_property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self.tokens.stops(self.loaded.model.generation_config)

    def close(self) -> None:
        """Forget the weights; the next use reads them again."""
        with self._coalescer.alone(), self._loading:
            self._loaded = None
            for name in ("tokens", "ends"):
                self.__dict__.pop(name, None)

    def score(self, queries: Sequence[Sequence[Pair]]) -> list[Any]:
        """For every query the log-probabilities of its pairs (errors in place), together with other threads'."""
        return self._coalescer.run(list(map(tuple, queries)))

    def write(self, rows: Sequence[Prompted]) -> None:
        """Write rows to their end, together with those of other threads; errors land in the rows."""
        for prompted, result in zip(rows, self._coalescer.run(rows), strict=True):
            if isinstance(result, Exception):
                prompted.row.error = as_lab_error(result, self.source.name)

    def stream(self, prompted: Prompted) -> Iterator[None]:
        """Write one row, yielding after every token; the model is free between tokens."""
        steps = generation.write(PlainDecoder(self.loaded), [prompted.row])
        while True:
            with self._coalescer.alone(), self._prepared(prompted.interventions):
                try:
                    next(steps)
                except StopIteration:
                    return
            yield

    # -- the work of one batch, done by whichever thread is in turn ---------------------------------------

    def _work(self, jobs: Sequence[Job]) -> None:
        writing = [job for job in jobs if isinstance(job.ask, Prompted)]
        scoring_ = [job for job in jobs if not isinstance(job.ask, Prompted)]
        if scoring_:
            with self._prepared():
                self._score(scoring_)
        for group in by_equality(writing, lambda job: job.ask.interventions):
            try:
                with self._prepared(group[0].ask.interventions):
                    self._write(group)
            except Exception as error:  # one group's intervention must not fail the others
                for job in group:
                    if not job.done:
                        job.finish(error)

    def _score(self, jobs: Sequence[Job]) -> None:
        pairs = [pair for job in jobs for pair in job.ask]
        scored = iter(scoring.score(self.loaded, pairs, self.batch_tokens))
        for job in jobs:
            job.finish([next(scored) for _ in job.ask])

    def _write(self, jobs: Sequence[Job]) -> None:
        # rows of similar length waste the least padding
        queue = sorted(jobs, key=lambda job: -len(job.ask.row.prompt))
        size = _ROWS
        while queue:
            batch, rest = queue[:size], queue[size:]
            try:
                for _ in generation.write(PlainDecoder(self.loaded), [job.ask.row for job in batch]):
                    pass
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    batch[0].finish(ProviderError(f"out of memory on one prompt: {error}"))
                size = max(1, len(batch) // 2)
                rest = [job for job in batch if not job.done] + rest
                for job in rest:
                    job.ask.row.restart()
            else:
                for job in batch:
                    job.finish(job.ask.row)
            queue = rest

    @contextmanager
    def _prepared(self, interventions: Sequence[Any] = ()) -> Iterator[None]:
        with threads(self.threads), applied(self.loaded.model, interventions):
            yield


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Let torch use n CPU threads in here."""
    import torch

    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
