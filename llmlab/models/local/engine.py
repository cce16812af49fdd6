"""Weights that load on first use, and the one queue of calls into them."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab.errors import BadRequest
from llmlab.models.cancel import Cancelled, cancelled
from llmlab.models.local.coalesce import Coalescer, Job
from llmlab.models.local.interventions import applied, by_equality, guides, inside, pack
from llmlab.models.local.loading import Loaded, as_lab_error
from llmlab.models.local.source import Source
from llmlab.models.local.tokens import Pair, Tokens
from llmlab.models.local.undo import surely

if TYPE_CHECKING:
    from llmlab.models.local.check import Tried
    from llmlab.models.local.decoding import Decoder
    from llmlab.models.local.echo import Read
    from llmlab.models.local.forward import Prefixes
    from llmlab.models.local.generation import Row
    from llmlab.models.local.lanes import Lane

# lanes under way at a time: what cannot be written together takes turns, a token each
_LANES = 4
# changes of a model (adapters, steering) whose prefixes are kept
_CHANGES = 4

T = TypeVar("T", "Prompted", "Read")


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to be written, under interventions; somebody reads along token by token where it is `watched`."""

    row: Row
    interventions: tuple[Any, ...] = ()
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """Pairs to be scored, under interventions."""

    pairs: tuple[Pair, ...]
    interventions: tuple[Any, ...] = ()


class Engine:
    """One set of weights, shared by all copies of a model.

    Args:
        source: where the weights are.
        threads: CPU threads for torch, None for its own choice.
        batch_tokens: tokens that go through the model at once; bounds the memory.
    """

    def __init__(self, source: Source, threads: int | None, batch_tokens: int) -> None:
        for name, value in (("threads", threads), ("batch_tokens", batch_tokens)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise BadRequest(f"{name} should be a whole number of at least 1, it is {value!r}")
        self.source = source
        self.threads = threads
        self.batch_tokens = batch_tokens
        work = weakref.WeakMethod(self._work)  # so that weights go with their last model, not with the next collection
        self._coalescer = Coalescer(lambda jobs: work()(jobs))  # type: ignore[misc]  # who waits holds the engine
        self._lanes: list[Lane] = []
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()
        self._path: Tried | None = None
        self._own_prefixes: list[tuple[Any, int, Prefixes]] = []
        self._on: tuple[tuple[Any, ...], ExitStack] | None = None
        self.standing: tuple[Any, ...] = ()
        self.owned = False

    @property
    def loaded(self) -> Loaded:
        """The weights; read from disk on first use."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self.source.load()
            return self._loaded

    @functools.cached_property
    def tokens(self) -> Tokens:
        """The tokenizer."""
        return Tokens(self.loaded.tokenizer)

    @functools.cached_property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self.tokens.stops(self.loaded.model.generation_config)

    @functools.cached_property
    def vocabulary(self) -> Any:
        """What each token writes, for answers that follow a schema."""
        from llmlab.models.local.structured import vocabulary

        size = self.loaded.model.config.get_text_config().vocab_size
        return vocabulary(self.tokens, self.ends, size, self.source.name)

    def whole(self) -> Loaded:
        """The weights with all that belongs to them, to be written elsewhere."""
        return self.loaded

    def fresh(self) -> Engine:
        """One that reads the same weights once more."""
        return Engine(self.source, self.threads, self.batch_tokens)

    def close(self) -> None:
        """Forget the weights; the next use reads them again."""
        with self._coalescer.alone(), self._loading:
            self._loaded = self._path = None
            self._own_prefixes = []
            for name in ("tokens", "ends", "vocabulary"):
                self.__dict__.pop(name, None)

    def settings_used(self) -> dict[str, Any]:
        """What the numbers were computed with."""
        import torch

        from llmlab.models.local.lanes import ROWS

        loaded = self.loaded
        with self._coalescer.alone():
            path = self._tried()
        return {
            "device": str(loaded.device),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "quantize": loaded.quantize,
            "attention": "packed" if path.prefixes is not None else loaded.model.config._attn_implementation,
            "attention_note": path.differs,
            "packed_up_to": (loaded.window or loaded.context) if path.prefixes is not None else 0,
            "linear": "onednn prepacked" if path.prepacked else "torch",
            "batch_tokens": self.batch_tokens,
            "rows": ROWS,
            "context": loaded.context,
            "threads": self.threads or torch.get_num_threads(),
        }

    def score(self, queries: Sequence[Sequence[Pair]], interventions: tuple[Any, ...] = ()) -> list[Any]:
        """For every query the log-probabilities of its pairs (errors in place), together with other threads'."""
        interventions = self._with(interventions)
        return self._core._coalescer.run([Scored(tuple(query), interventions) for query in queries])

    @contextmanager
    def held(self, interventions: Sequence[Any] = ()) -> Iterator[Loaded]:
        """The weights under interventions, with no other call in between."""
        core = self._core
        with core._coalescer.alone(), core._prepared(self._with(interventions)):
            yield core.loaded

    @contextmanager
    def changed(self, *interventions: Any) -> Iterator[None]:
        """All calls that come in here go through these interventions, beside their own."""
        before = self.standing
        try:
            self.standing = (*before, *interventions)
            yield
        finally:
            self.standing = before

    def decoder(self, size: int) -> Decoder:
        """Something that reads up to `size` sequences without a common prefix; use it while the model is `held`."""
        return self._core._decoder(size, self._core._tried())

    def _decoder(self, size: int, path: Tried) -> Decoder:
        from llmlab.models.local.decoding import PackedDecoder, PlainDecoder

        # beyond a window the packed one is wrong, and how long the sequences will be is not known here
        if path.prefixes is None or self.loaded.window is not None:
            return PlainDecoder(self.loaded)
        return PackedDecoder(self.loaded, size, self.batch_tokens)

    def read(self, reads: Sequence[Read]) -> list[Any]:
        """The readings of token sequences (errors in place), together with other threads'."""
        return self._core._coalescer.run([self._as_ours(read) for read in reads])

    def write(self, rows: Sequence[Prompted]) -> None:
        """Write rows to their end, together with those of other threads; errors land in the rows."""
        rows = [self._as_ours(prompted) for prompted in rows]
        for prompted, result in zip(rows, self._core._coalescer.run(rows), strict=True):
            if isinstance(result, Exception):
                prompted.row.error = as_lab_error(result, self.source.name)

    def stream(self, prompted: Prompted) -> Iterator[None]:
        """Write one row, together with those of other threads; yields when there are more tokens.

        The model is free between tokens. Closing the iterator takes the row out of its batch.
        """
        row, queue = prompted.row, self._core._coalescer
        try:
            with queue.submitted([replace(self._as_ours(prompted), watched=True)]) as (job,):
                while not job.done:
                    seen = len(row.written)
                    queue.until(functools.partial(_moved, job, seen))
                    if cancelled():
                        row.error = Cancelled("the call was given up")
                        return
                    if len(row.written) > seen:
                        yield
                if isinstance(job.result, Exception):
                    row.error = as_lab_error(job.result, self.source.name)
        finally:
            if not row.done:
                row.error = Cancelled("the reader has left")

    # -- whose calls these are ----------------------------------------------------------------------------

    @property
    def _core(self) -> Engine:
        """The engine that has the weights."""
        return self

    def _with(self, interventions: Sequence[Any]) -> tuple[Any, ...]:
        """What changes the weights' answers in a call of this engine."""
        return (*self.standing, *interventions)

    def _as_ours(self, ask: T) -> T:
        return replace(ask, interventions=self._with(ask.interventions))

    # -- the work of one batch, done by whichever thread is in turn ---------------------------------------

    def _work(self, jobs: Sequence[Job]) -> None:
        """Score what is to be scored, and write a little of what is to be written."""
        from llmlab.models.local.lanes import place

        for group in by_equality(jobs, lambda job: (type(job.ask), job.ask.interventions)):
            if isinstance(group[0].ask, Prompted):
                place(group, self._lanes, _LANES)
            else:
                self._each(self._score if isinstance(group[0].ask, Scored) else self._read, group)
        try:
            for lane in self._lanes[:_LANES]:
                self._advance(lane)
        except BaseException:
            self._lanes.clear()
            raise

    def _advance(self, lane: Lane) -> None:
        """Write some tokens of a lane; if it fails, its rows are written one by one, and the error stays with its own.

        What changes a model in a call may call the model: that call finds this lane gone, and makes one of its own.
        """
        from llmlab.models.local.lanes import Lane

        lanes = self._lanes
        self._lanes = []
        try:
            with self._prepared(lane.interventions) as path, lane.attention():
                while lane.advance(self.loaded, path, self.batch_tokens):
                    if len(lanes) > 1 or self._coalescer.waiting or cancelled():
                        break
        except Exception as error:
            if len(lane.jobs) == 1:
                lane.jobs[0].finish(error)
            else:
                lanes += [Lane([job], open_=False) for job in lane.jobs if not job.done]
            lane.jobs = []
        self._lanes = [one for one in (*lanes, *self._lanes) if one.jobs]

    def _each(self, work: Callable[[Sequence[Job]], None], jobs: Sequence[Job]) -> None:
        """Do the work together, or one by one if that fails, so that an error stays with its own job."""
        try:
            work(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].finish(error)
                return
            for job in jobs:
                if not job.done:
                    self._each(work, [job])

    def _read(self, jobs: Sequence[Job]) -> None:
        from llmlab.models.local.echo import read

        with self._prepared(jobs[0].ask.interventions) as path:
            found = read(self.loaded, [job.ask for job in jobs], self.batch_tokens, path.prefixes)
        for job, reading in zip(jobs, found, strict=True):
            job.finish(reading)

    def _score(self, jobs: Sequence[Job]) -> None:
        from llmlab.models.local import guided, scoring

        pairs, interventions = [pair for job in jobs for pair in job.ask.pairs], jobs[0].ask.interventions
        with self._prepared(interventions) as path:
            if path.guides:
                results = guided.score(
                    self.loaded, pairs, lambda n: guided.by(self._decoder(n, path), path, self.loaded)
                )
            else:
                plain = all(getattr(hook, "anywhere", False) for hook in inside(interventions))
                results = scoring.score(self.loaded, pairs, self.batch_tokens, path.prefixes, merge=plain)
        scored = iter(range(len(pairs)))
        for job in jobs:
            job.finish([results[next(scored)] for _ in job.ask.pairs])

    @contextmanager
    def _prepared(self, interventions: Sequence[Any] = ()) -> Iterator[Tried]:
        interventions = tuple(interventions)
        with threads(self.threads), ExitStack() as stack:
            path = self._tried()
            hooks = inside(interventions)
            stack.enter_context(self._only(hooks))
            if hooks:
                path = replace(path, prefixes=self._prefixes(path, hooks))
            yield replace(path, guides=guides(interventions)) if interventions else path

    @contextmanager
    def _only(self, hooks: tuple[Any, ...]) -> Iterator[None]:
        """The model under these changes and no others: those of a call around this one are off in here."""
        around = self._on
        if around is not None:
            if around[0] == hooks:
                yield
                return
            surely(around[1].close)
        try:
            self._put_on(hooks)
            yield
        finally:
            if self._on is not None:
                surely(self._on[1].close)
            self._on = None
            if around is not None:
                self._put_on(around[0])

    def _put_on(self, hooks: tuple[Any, ...]) -> None:
        path, stack = self._tried(), ExitStack()
        self._on = (hooks, stack)
        if path.prepacked is not None:
            stack.enter_context(path.prepacked.used())
        if hooks:
            stack.enter_context(applied(self.loaded.model, hooks))

    def _prefixes(self, path: Tried, hooks: tuple[Any, ...]) -> Prefixes | None:
        """Prefixes as the changed model reads them: none in transformers' own layout; the last ones are kept."""
        if path.prefixes is None or not pack(hooks):
            return None
        for known in self._own_prefixes:
            if known[:2] == (hooks, path.state):
                self._own_prefixes.remove(known)
                break
        else:
            from llmlab.models.local.forward import Prefixes

            known = (hooks, path.state, Prefixes(self.loaded, path.prefixes.most_bytes // _CHANGES))
        self._own_prefixes = [*self._own_prefixes[1 - _CHANGES :], known]
        return known[2]

    def _tried(self) -> Tried:
        """How to compute, tried again whenever the weights have changed."""
        from llmlab.models.local.check import state, try_out

        if self._path is None or self._path.state != state(self.loaded.model):
            self._path = try_out(self.loaded)
        return self._path


_known: weakref.WeakValueDictionary[tuple[Source, int | None, int], Engine] = weakref.WeakValueDictionary()


def own(source: Source, threads: int | None, batch_tokens: int) -> Engine:
    """The engine of a new model: its own, or one that so far only adapters use."""
    engine = _known.get((source, threads, batch_tokens))
    if engine is None or engine.owned:
        engine = Engine(source, threads, batch_tokens)
        _known.setdefault((source, threads, batch_tokens), engine)
    engine.owned = True
    return engine


def shared(source: Source, threads: int | None, batch_tokens: int) -> Engine:
    """The engine that a model of these settings has, or a new one."""
    key = (source, threads, batch_tokens)
    engine = _known.get(key)
    if engine is None:
        _known[key] = engine = Engine(source, threads, batch_tokens)
    return engine


def _moved(job: Job, seen: int) -> bool:
    """Whether there is something new for the reader of a stream."""
    return job.done or len(job.ask.row.written) > seen or cancelled()


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Let torch use n CPU threads in here."""
    import torch

    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    try:
        torch.set_num_threads(n)
        yield
    finally:
        torch.set_num_threads(before)
