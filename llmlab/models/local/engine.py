"""Weights that load on first use, and the one queue of calls into them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import ProviderError
from llmlab.models.local.coalesce import Coalescer, Job
from llmlab.models.local.interventions import applied, by_equality
from llmlab.models.local.loading import Loaded, as_lab_error, fingerprint, is_out_of_memory, load, locate
from llmlab.models.local.tokens import Pair, Tokens

if TYPE_CHECKING:
    from llmlab.models.local.forward import Prefixes
    from llmlab.models.local.generation import Row
    from llmlab.models.local.linear import Prepacked

# rows that are written together: they share each pass through the weights, which takes as long for one
_ROWS = 32
# memory for keys and values: of the rows being written, and of prefixes that may come back
_ROWS_BYTES = 1 << 30
_PREFIX_BYTES = 1 << 29


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


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to be written, under interventions."""

    row: Row
    interventions: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Path:
    """How this model computes here, as tried and found right and fast for one state of the weights."""

    state: int
    differs: str
    prefixes: Prefixes | None
    prepacked: Prepacked | None


class Engine:
    """One set of weights, shared by all copies of a model.

    Args:
        source: where the weights are.
        threads: CPU threads for torch, None for its own choice.
        batch_tokens: tokens that go through the model at once; bounds the memory.
    """

    def __init__(self, source: Source, threads: int | None, batch_tokens: int) -> None:
        self.source = source
        self.threads = threads
        self.batch_tokens = batch_tokens
        self._coalescer = Coalescer(self._work)
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()
        self._path: _Path | None = None

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
            self._loaded = self._path = None
            for name in ("tokens", "ends"):
                self.__dict__.pop(name, None)

    def settings_used(self) -> dict[str, Any]:
        """What the numbers were computed with."""
        import torch

        loaded = self.loaded
        with self._coalescer.alone():
            path = self._checked()
        return {
            "device": str(loaded.device),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "attention": "packed" if path.prefixes is not None else loaded.model.config._attn_implementation,
            "attention_note": path.differs,
            "packed_up_to": (loaded.window or loaded.context) if path.prefixes is not None else 0,
            "linear": "onednn prepacked" if path.prepacked else "torch",
            "batch_tokens": self.batch_tokens,
            "rows": _ROWS,
            "context": loaded.context,
            "threads": self.threads or torch.get_num_threads(),
        }

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
        steps = None
        while True:
            with self._coalescer.alone(), self._prepared(prompted.interventions) as path:
                if steps is None:
                    (steps,) = self._steps([prompted.row], path, 1)
                try:
                    next(steps)
                except StopIteration:
                    return
                except Exception as error:
                    prompted.row.error = as_lab_error(error, self.source.name)
                    return
            yield

    # -- the work of one batch, done by whichever thread is in turn ---------------------------------------

    def _work(self, jobs: Sequence[Job]) -> None:
        writing = [job for job in jobs if isinstance(job.ask, Prompted)]
        scoring = [job for job in jobs if not isinstance(job.ask, Prompted)]
        if scoring:
            with self._prepared() as path:
                self._score(scoring, path)
        for group in by_equality(writing, lambda job: job.ask.interventions):
            try:
                with self._prepared(group[0].ask.interventions) as path:
                    self._write(group, path)
            except Exception as error:  # one group's intervention must not fail the others
                for job in group:
                    if not job.done:
                        job.finish(error)

    def _score(self, jobs: Sequence[Job], path: _Path) -> None:
        from llmlab.models.local.scoring import score

        pairs = [pair for job in jobs for pair in job.ask]
        results = score(self.loaded, pairs, self.batch_tokens, path.prefixes)
        scored = iter(range(len(pairs)))
        for job in jobs:
            job.finish([results[next(scored)] for _ in job.ask])

    def _write(self, jobs: Sequence[Job], path: _Path) -> None:
        waiting = list(jobs)
        size = _ROWS
        while waiting:
            try:
                for steps in self._steps([job.ask.row for job in waiting], path, size):
                    for _ in steps:
                        pass
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    stuck = next(job.ask.row for job in waiting if job.ask.row.begun and not job.ask.row.done)
                    stuck.error = ProviderError(f"out of memory on a single prompt of {len(stuck.prompt)} tokens")
                size = max(1, min(size, len(waiting)) // 2)
            for job in waiting:
                if job.ask.row.done:
                    job.finish(job.ask.row)
                else:
                    job.ask.row.restart()
            waiting = [job for job in waiting if not job.done]

    def _steps(self, rows: Sequence[Row], path: _Path, size: int) -> Iterator[Iterator[None]]:
        """The writing of rows, one iterator of steps for each set of rows that go together."""
        from llmlab.models.local.decoding import PackedDecoder, PlainDecoder
        from llmlab.models.local.generation import write
        from llmlab.models.local.packing import LEAST, groups

        loaded, prefixes = self.loaded, path.prefixes
        limit = loaded.window or loaded.context
        fits = [row for row in rows if prefixes is not None and len(row.prompt) + row.limit <= limit]
        alone = []
        for group in groups([row.prompt for row in fits]):
            assert prefixes is not None
            members = [fits[i] for i in group.members]
            start = group.prefix or prefixes.longest(members[0].prompt)
            if start < LEAST:
                alone += members
                continue
            n = self._rows(members, start, size)
            decoder = PackedDecoder(loaded, n, self.batch_tokens, start, prefixes.get(members[0].prompt[:start]))
            yield write(decoder, _longest_first(members), n)
        if alone:
            n = self._rows(alone, 0, size)
            yield write(PackedDecoder(loaded, n, self.batch_tokens), _longest_first(alone), n)
        packed = set(map(id, fits))
        plain = [row for row in rows if id(row) not in packed]
        if plain:
            yield write(PlainDecoder(loaded), _longest_first(plain), self._rows(plain, 0, size))

    def _rows(self, rows: Sequence[Row], start: int, size: int) -> int:
        """How many rows to write at a time, at most `size`, so that their keys and values fit into memory."""
        longest = max(len(row.prompt) - start + row.limit for row in rows)
        return max(1, min(size, len(rows), _ROWS_BYTES // (longest * self.loaded.token_bytes)))

    @contextmanager
    def _prepared(self, interventions: Sequence[Any] = ()) -> Iterator[_Path]:
        with threads(self.threads), ExitStack() as stack:
            path = self._checked()
            if path.prepacked is not None:
                stack.enter_context(path.prepacked.used())
            if interventions:
                # they are written for transformers' own layout of a batch
                path = replace(path, prefixes=None)
                stack.enter_context(applied(self.loaded.model, interventions))
            yield path

    def _checked(self) -> _Path:
        """How to compute, tried again whenever the weights have changed."""
        from llmlab.models.local.check import packed_differs
        from llmlab.models.local.forward import Prefixes
        from llmlab.models.local.linear import Prepacked, affordable, worth_it

        loaded = self.loaded
        state = _state(loaded.model)
        if self._path is None or self._path.state != state:
            differs = packed_differs(loaded)
            fast = (
                loaded.device.type == "cpu" and loaded.dtype.itemsize == 4 and affordable(loaded.model) and worth_it()
            )
            self._path = _Path(
                state,
                differs,
                None if differs else Prefixes(loaded, _PREFIX_BYTES),
                Prepacked(loaded.model) if fast else None,
            )
        return self._path


def _state(model: Any) -> int:
    """A number that changes when weights are changed in place, exchanged or added."""
    return hash(tuple((id(p), 0 if p.is_inference() else p._version) for p in model.parameters()))


def _longest_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -len(row.prompt))


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
