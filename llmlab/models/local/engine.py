"""Weights that load on first use, and the one queue of calls into them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmlab.errors import ProviderError
from llmlab.models.local.coalesce import Coalescer, Job
from llmlab.models.local.interventions import applied, by_equality
from llmlab.models.local.loading import Loaded, as_lab_error, is_out_of_memory, load
from llmlab.models.local.source import Source
from llmlab.models.local.tokens import Pair, Tokens

if TYPE_CHECKING:
    from llmlab.models.local.check import Tried
    from llmlab.models.local.generation import Row

# rows that are written together: they share each pass through the weights, which takes as long for one
_ROWS = 32
# what reading the weights once more for a step costs, in tokens
_STEP = 16
# memory for the keys and values of the rows being written
_ROWS_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to be written, under interventions."""

    row: Row
    interventions: tuple[Any, ...] = ()


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
        self._path: Tried | None = None

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
            path = self._tried()
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
        self._each(self._score, [job for job in jobs if not isinstance(job.ask, Prompted)])
        writing = [job for job in jobs if isinstance(job.ask, Prompted)]
        for group in by_equality(writing, lambda job: job.ask.interventions):
            self._each(self._write, group)

    def _each(self, work: Callable[[Sequence[Job]], None], jobs: Sequence[Job]) -> None:
        """Do the work together, or one by one if that fails, so that an error stays with its own job."""
        try:
            if jobs:
                work(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].finish(error)
                return
            for job in jobs:
                if not job.done:
                    self._each(work, [job])

    def _score(self, jobs: Sequence[Job]) -> None:
        from llmlab.models.local.scoring import score

        pairs = [pair for job in jobs for pair in job.ask]
        with self._prepared() as path:
            results = score(self.loaded, pairs, self.batch_tokens, path.prefixes)
        scored = iter(range(len(pairs)))
        for job in jobs:
            job.finish([results[next(scored)] for _ in job.ask])

    def _write(self, jobs: Sequence[Job]) -> None:
        size = _ROWS
        with self._prepared(jobs[0].ask.interventions) as path:
            while waiting := _begin(jobs):
                try:
                    with closing(self._steps(waiting, path, size)) as several:
                        for steps in several:
                            for _ in steps:
                                pass
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    if size == 1:
                        stuck = next((row for row in waiting if row.begun and not row.done), waiting[0])
                        stuck.error = ProviderError(f"out of memory on a single prompt of {len(stuck.prompt)} tokens")
                    size = max(1, min(size, len(waiting)) // 2)

    def _steps(self, rows: Sequence[Row], path: Tried, size: int) -> Generator[Iterator[None]]:
        """The writing of rows, one iterator of steps for each set of rows that go together.

        While an iterator is out, attention is as it needs it, which saves setting it for every token.
        """
        from llmlab.models.local.attention import packed
        from llmlab.models.local.decoding import PackedDecoder, PlainDecoder
        from llmlab.models.local.generation import write
        from llmlab.models.local.packing import LEAST, PASS, groups

        loaded, prefixes = self.loaded, path.prefixes
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
            n = self._rows(members, start, size)
            decoder = PackedDecoder(loaded, n, self.batch_tokens, start, prefixes.get(members[0].prompt[:start]))
            with packed(loaded.model):
                yield write(decoder, _longest_first(members), n)
        if alone:
            n = self._rows(alone, 0, size)
            with packed(loaded.model):
                yield write(PackedDecoder(loaded, n, self.batch_tokens), _longest_first(alone), n)
        done = set(map(id, fits))
        plain = [row for row in rows if id(row) not in done]
        if plain:
            yield write(PlainDecoder(loaded), _longest_first(plain), self._rows(plain, 0, size))

    def _rows(self, rows: Sequence[Row], start: int, size: int) -> int:
        """How many rows to write at a time, at most `size`, so that their keys and values fit into memory."""
        longest = max(len(row.prompt) - start + row.limit for row in rows)
        return max(1, min(size, len(rows), _ROWS_BYTES // (longest * self.loaded.token_bytes)))

    @contextmanager
    def _prepared(self, interventions: Sequence[Any] = ()) -> Iterator[Tried]:
        with threads(self.threads), ExitStack() as stack:
            path = self._tried()
            if path.prepacked is not None:
                stack.enter_context(path.prepacked.used())
            if interventions:
                # they are written for transformers' own layout of a batch
                path = replace(path, prefixes=None)
                stack.enter_context(applied(self.loaded.model, interventions))
            yield path

    def _tried(self) -> Tried:
        """How to compute, tried again whenever the weights have changed."""
        from llmlab.models.local.check import state, try_out

        if self._path is None or self._path.state != state(self.loaded.model):
            self._path = try_out(self.loaded)
        return self._path


def _begin(jobs: Sequence[Job]) -> list[Row]:
    """Finish the jobs whose rows are written, and set the others to their beginning."""
    for job in jobs:
        if job.ask.row.done:
            job.finish(job.ask.row)
        else:
            # an interrupted or oversized batch may have written some of it
            job.ask.row.restart()
    return [job.ask.row for job in jobs if not job.done]


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
