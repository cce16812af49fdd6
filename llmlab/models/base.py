"""What a model is, and how one is wrapped.

A model needs one method, `_respond`. Everything else (options, streaming, batches, decisions, interceptors, the
ledger) builds on it.
"""

from __future__ import annotations

import contextvars
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import CodeType
from typing import Any, ClassVar

from llmlab import ledger
from llmlab.errors import InterceptorFailed, LabError, NeedsLocalModel
from llmlab.models import tracing
from llmlab.types import (
    NAN,
    Call,
    Chunk,
    ContinuationLogprob,
    Decision,
    Interceptor,
    Options,
    Prompt,
    Protocol,
    Request,
    Response,
    Usage,
)


class Model:
    """Anything that answers: `generate`, `stream`, `logprob`, `decide`, and `through` to wrap it.

    Args:
        name: `provider/name`, as `lab.model` takes it.
        options: generation options of this model; a call's own options overrule them.
    """

    billed: ClassVar[bool] = False
    """Whether a call costs money that someone else charges: budgets count only such calls."""
    local: ClassVar[bool] = False
    """Whether it runs in this process, takes whole batches (`generate_batch`) and needs no threads."""
    open: ClassVar[bool] = False
    """Whether its inside and its logits can be changed during a call (`Request.interventions`)."""
    asks: tuple[Model, ...] = ()
    """The models that a wrapper asks; empty for one that answers by itself."""
    protocols: tuple[Protocol, ...] = ("letter", "generate")
    """How this model can answer a multiple-choice question, best first."""

    def __init__(self, name: str, options: Options | None = None) -> None:
        self.name = name
        self.options = options or Options()

    # -- what a provider writes ---------------------------------------------------------------------------

    def _respond(self, request: Request) -> Response:
        """Answer one request whose options are complete. Raises ProviderError when the call failed."""
        raise NotImplementedError

    def _stream(self, request: Request) -> Iterator[Chunk]:
        """Answer in pieces; without a streaming form the whole answer is one piece, and says so."""
        response = self._respond(request)
        note = f"{self.name} does not stream; the answer came in one piece"
        response = replace(response, notes=(*response.notes, note))
        yield Chunk(response.text, response)

    def _decide(self, request: Request, choices: Sequence[str], protocol: Protocol) -> Decision:
        """Decide by a protocol that is the provider's own ("decision", "letter_logprob")."""
        raise NotImplementedError

    def identity(self) -> Mapping[str, Any]:
        """What, beside the request, an answer depends on: the response cache keys on it. No secrets."""
        return {"model": self.name}

    def close(self) -> None:
        """Give back connections or memory. Using the model again opens them again."""

    # -- what everybody calls -----------------------------------------------------------------------------

    def generate(self, prompt: Prompt, **options: Any) -> Response:
        """Answer a prompt: text, a list of messages, or a Request.

        Options given here overrule those of the request, which overrule the model's.

        Raises:
            BadRequest: for a prompt that is none of these.
            UnknownName: for an option that does not exist, with the closest ones that do.
            ProviderError: when the call failed for good.
            BudgetExceeded: when it could cost more than an active ledger has left; it was not made then.
        """
        return self._charged(self._complete(prompt, options))

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[Chunk]:
        """Answer in pieces; the last chunk carries the whole Response."""
        request = self._complete(prompt, options)
        said: list[str] = []
        whole: Response | None = None
        try:
            with ledger.charge(self, request) as bill:
                for chunk in tracing.steps(self._stream(request), None):
                    said.append(chunk.text)
                    if chunk.response is not None:
                        whole = bill.settle(self._finish(chunk.response, request))
                        tracing.note(whole)
                        chunk = replace(chunk, response=whole)
                    yield chunk
        except GeneratorExit:
            if whole is None:
                left = Response("".join(said), "unknown", notes=("the stream was left before its end",))
                tracing.note(self._finish(left, request))
            raise

    def generate_batch(self, requests: Sequence[Request]) -> list[Response | LabError]:
        """Answer many requests; a failed one yields its error in place. Local models overrule this."""
        return [_attempt(self.generate, request) for request in requests]

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        """Log-probability of each continuation after a context, both plain text without a chat template.

        interventions: as `Request.interventions`.

        Raises:
            NeedsLocalModel: when the model does not give log-probabilities of given text.
        """
        raise NeedsLocalModel(
            f"{self.name} gives no log-probabilities of given text; use a local model ('hf/…', 'micro/base'), "
            "a 'compatible/…' completion endpoint that echoes log-probabilities, or `decide`, which every model has"
        )

    def logprob_batch(
        self, queries: Sequence[tuple[str, Sequence[str]]], interventions: tuple[Any, ...] = ()
    ) -> list[list[ContinuationLogprob] | LabError]:
        """`logprob` for many (context, continuations); local models share work between them."""
        changed = (interventions,) if interventions else ()
        return [_attempt(self.logprob, context, continuations, *changed) for context, continuations in queries]

    def decide(self, prompt: Prompt, choices: Sequence[str], protocol: Protocol | None = None) -> Decision:
        """Pick one of `choices`, with probabilities where the model can give them.

        Args:
            prompt: the question, without the options; they are added where the protocol shows them.
            choices: at least two different texts.
            protocol: one of the model's `protocols`; None takes the first that works.

        The protocol that was used is part of the answer.
        """
        from llmlab.models.decide import decide

        with tracing.recording(None):
            decision = decide(self, Request.of(prompt), tuple(choices), protocol)
        if decision.response is not None:
            tracing.note(decision.response)
        return decision

    def through(self, *interceptors: Interceptor, name: str = "") -> Model:
        """This model with functions around every call; the first one given is the outermost."""
        return Through(self, *interceptors, name=name)

    def with_options(self, **options: Any) -> Model:
        """The same model with other generation options; weights and connections are shared."""
        from copy import copy

        twin = copy(self)
        twin.options = self.options.merged(Options.of(**options))
        return twin

    def worst_case(self, request: Request) -> float:
        """The most that one call can cost, in US dollars; NaN when the price is unknown."""
        from llmlab.prices import worst_case

        return worst_case(self.name, request)

    def price(self, usage: Usage) -> float:
        """What one call with these tokens costs, in US dollars; NaN when the price is unknown."""
        from llmlab.prices import price

        return price(self.name, usage).cost if self.billed else 0.0

    # -- inside -------------------------------------------------------------------------------------------

    def _complete(self, prompt: Prompt, options: Mapping[str, Any]) -> Request:
        request = Request.of(prompt)
        if request.interventions and not (self.open or self.asks):
            raise closed(self.name, request.interventions)
        return replace(request, options=self.options.merged(request.options).merged(Options.of(**options)))

    def _charged(self, request: Request) -> Response:
        with ledger.charge(self, request) as bill, tracing.recording(None):
            response = bill.settle(self._finish(self._respond(request), request))
        tracing.note(response)
        return response

    def _finish(self, response: Response, request: Request) -> Response:
        return replace(response, model=self.name, requested=request.options)

    def __repr__(self) -> str:
        options = "".join(f", {k}={v!r}" for k, v in self.options.set().items())
        return f"model({self.name!r}{options})"


def closed(name: str, interventions: Sequence[Any]) -> NeedsLocalModel:
    """The error for interventions in a model that does not run here."""
    return NeedsLocalModel(
        f"{name} does not run here, so {', '.join(map(repr, interventions))} cannot reach its inside or its logits. "
        "Use a local model ('hf/…', 'micro/base'); on this one a system prompt, a review of its answers or the best of "
        "n works: see `llmlab.alignment`"
    )


def _attempt(f: Callable[..., Any], *args: Any) -> Any:
    try:
        return f(*args)
    except LabError as error:
        return error


class Through(Model):
    """A model with interceptors around every call. Each inner call is charged, and kept in the trace.

    An interceptor is `f(request, call) -> Response`; it may use `call` never, once or several times. The first one
    given is the outermost: it sees the request first and has the last word on the answer, and one that does not use
    `call` keeps all that stand behind it from being asked. With an attribute `stream(request, stream)` it also
    transforms an iterator of chunks; if any interceptor lacks it, a stream is made from the finished answer, and the
    response notes it.

    The trace has the calls of the inner model and of every other model that an interceptor asked through `generate`,
    `stream` or `decide` (judges, reviewers), in the order in which they ended; cost, usage and seconds are their sums.

    Raises:
        InterceptorFailed: when an interceptor raises, or gives something that is not a Response. No answer is given.
    """

    threads: ClassVar[int] = 64
    """How many requests of one batch run side by side."""

    def __init__(self, inner: Model, *interceptors: Interceptor, name: str = "") -> None:
        super().__init__(name or "+".join([inner.name, *map(_name_of, interceptors)]), inner.options)
        self.inner = inner
        self.asks = (inner,)
        self.interceptors = interceptors
        self.local = inner.local  # type: ignore[misc]  # a wrapped local model is local too
        # what its interceptors add to a request, None when they do anything else
        found = [getattr(f, "intervention", None) for f in interceptors]
        self.adds = None if None in found else tuple(found)
        if self.adds is not None:
            self.protocols = inner.protocols

    def identity(self) -> Mapping[str, Any]:
        return {"through": [describe(f) for f in self.interceptors], "inner": dict(self.inner.identity())}

    def _respond(self, request: Request) -> Response:
        trace: list[Response] = []
        call: Call = self.inner.generate
        for interceptor in reversed(self.interceptors):
            call = functools.partial(_intercept, interceptor, call)
        with tracing.recording(trace):
            response = call(request)
        return with_trace(response, trace)

    def _stream(self, request: Request) -> Iterator[Chunk]:
        if not all(hasattr(f, "stream") for f in self.interceptors):
            yield from super()._stream(request)
            return
        trace: list[Response] = []
        stream: Callable[[Request], Iterator[Chunk]] = self.inner.stream
        for interceptor in reversed(self.interceptors):
            stream = functools.partial(_intercept_stream, interceptor, stream)
        for chunk in tracing.steps(stream(request), trace):
            yield chunk if chunk.response is None else replace(chunk, response=with_trace(chunk.response, trace))

    def generate_batch(self, requests: Sequence[Request]) -> list[Response | LabError]:
        if self.adds is not None and self.inner.local:
            return self._generate_changed(requests, self.adds)
        if not self.inner.local or len(requests) < 2:
            return super().generate_batch(requests)
        from concurrent.futures import ThreadPoolExecutor

        # simultaneous calls are what a local model coalesces into batches
        # ledgers are context variables, which threads do not inherit by themselves
        contexts = [contextvars.copy_context() for _ in requests]
        with ThreadPoolExecutor(min(len(requests), self.threads)) as pool:
            return list(pool.map(lambda c, request: c.run(_attempt, self.generate, request), contexts, requests))

    def _generate_changed(self, requests: Sequence[Request], adds: tuple[Any, ...]) -> list[Response | LabError]:
        """One batch for the inner model, without a thread per request."""
        complete = [self._complete(request, {}) for request in requests]
        asked = [replace(r, interventions=(*r.interventions, *adds)) for r in complete]
        return [
            a if isinstance(a, LabError) else self._finish(with_trace(a, [a]), request)
            for a, request in zip(self.inner.generate_batch(asked), complete, strict=True)
        ]

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        if self.adds is None:
            return super().logprob(context, continuations)
        return self.inner.logprob(context, continuations, (*interventions, *self.adds))

    def logprob_batch(
        self, queries: Sequence[tuple[str, Sequence[str]]], interventions: tuple[Any, ...] = ()
    ) -> list[list[ContinuationLogprob] | LabError]:
        if self.adds is None:
            return super().logprob_batch(queries)
        return self.inner.logprob_batch(queries, (*interventions, *self.adds))

    def close(self) -> None:
        self.inner.close()


def _intercept(interceptor: Interceptor, call: Call, request: Request) -> Response:
    try:
        response: Any = interceptor(request, call)
    except LabError:
        raise
    except Exception as error:  # whatever a user's function raises; no answer gets past it
        raise _failed(interceptor, error) from error
    if not isinstance(response, Response):
        raise InterceptorFailed(
            f"{_name_of(interceptor)} should return a Response, it returned {type(response).__name__}; "
            "lab.alignment.interceptor makes an interceptor from a function of text"
        )
    return response


def _intercept_stream(interceptor: Any, stream: Any, request: Request) -> Iterator[Chunk]:
    try:
        yield from interceptor.stream(request, stream)
    except LabError:
        raise
    except Exception as error:
        raise _failed(interceptor, error) from error


def _failed(interceptor: Any, error: Exception) -> InterceptorFailed:
    return InterceptorFailed(
        f"{_name_of(interceptor)}, or what it calls, failed: {type(error).__name__}: {error}; no answer is given"
    )


def _name_of(f: Any) -> str:
    return getattr(f, "name", None) or getattr(f, "__name__", None) or type(f).__name__


def describe(f: Any) -> Any:
    """What the response cache knows a function by: its own `identity()`, else its code and closure as text."""
    if hasattr(f, "identity"):
        return f.identity()
    source = _source(f.__code__) if hasattr(f, "__code__") else None
    if source is None:
        source = repr(f)
    closure = [repr(cell.cell_contents) for cell in getattr(f, "__closure__", None) or ()]
    defaults = repr(getattr(f, "__defaults__", None))
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join([_name_of(f), source, defaults, *closure]))


@functools.lru_cache(maxsize=256)
def _source(code: CodeType) -> str | None:
    # read once: reading and parsing the file takes longer than all else that an answer from the store needs
    import inspect

    try:
        return inspect.getsource(code)
    except OSError:
        return None


def with_trace(response: Response, trace: Sequence[Response]) -> Response:
    """A wrapper's response: its own text, but the usage, cost and seconds of all inner calls."""
    if not trace:
        return replace(response, cost=0.0, usage=Usage(0, 0)) if math.isnan(response.cost) else response
    cost = math.fsum(r.cost for r in trace) if not any(math.isnan(r.cost) for r in trace) else NAN
    usage = sum((r.usage for r in trace[1:]), trace[0].usage)
    return replace(
        response,
        cost=cost,
        usage=usage,
        seconds=math.fsum(r.seconds for r in trace if not math.isnan(r.seconds)),
        trace=tuple(trace),
    )
