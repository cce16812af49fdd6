"""The tries of one remote call: waiting, slots, what each costs, and when to give up.

Each try takes a slot of the provider's limiter, reserves its worst case on the ledger, settles, and is recorded.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llmlab import ledger, prices
from llmlab.errors import BadRequest, BudgetExceeded, ProviderError, RateLimited
from llmlab.models.faults import RefusedOption
from llmlab.models.stops import cut
from llmlab.types import NAN, Attempt, FinishReason, Request, Response

if TYPE_CHECKING:
    from llmlab.models.remote import RemoteModel

FIRST_WAIT = 0.5
"""Seconds before the second try when the provider names none; doubled each time, up to LONGEST_WAIT."""
LONGEST_WAIT = 30.0
PATIENCE = 120.0
"""Longest `retry-after` in seconds that is waited for; a longer one fails at once."""


class Tries:
    """Tries until one succeeds (the caller stops asking) or the failure is final (raised on asking for more).

    for attempt in Tries(model, request):
        with attempt:
            return attempt.done(...)
    """

    def __init__(self, model: RemoteModel, request: Request) -> None:
        self.model = model
        self.request = request
        self.attempts: list[Attempt] = []
        self._failures = 0
        self._mended: set[str] = set()

    def __iter__(self) -> Iterator[Try]:
        wait = 0.0
        while True:
            attempt = Try(self.model, self.request, self.attempts, wait)
            yield attempt
            if attempt.error is None:
                raise AssertionError("a try that succeeded is the last one")
            wait = self._wait_after(attempt.error)

    def _wait_after(self, error: ProviderError) -> float:
        if isinstance(error, RefusedOption) and error.option not in self._mended:
            self._mended.add(error.option)
            self.model.capabilities.learn(error.option)
            return 0.0
        self._failures += 1
        if not error.retryable or self._failures >= self.model.tries:
            raise self._final(error) from None
        if error.retry_after is None:
            # half of it random, so that threads that failed together do not return together
            return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (self._failures - 1)) * random.uniform(0.5, 1.0)
        if error.retry_after > PATIENCE:
            raise self._final(error, f"; it asks to wait {error.retry_after:.0f} s") from None
        return error.retry_after

    def _final(self, error: ProviderError, why: str = "") -> ProviderError:
        """The error to raise: the last one, and what happened before."""
        kind = BadRequest if isinstance(error, RefusedOption) else type(error)
        message = f"{error}{why}{_story(self.attempts, len(self.attempts) - 1)}"
        return kind(message, status=error.status, retry_after=error.retry_after, paid=error.paid)


class Try:
    """One try of a call: a context manager that keeps the failures of the provider in `error`.

    Attributes:
        request: what to send: the options without those that the model refuses.
        error: why it failed, None before and on success.
    """

    def __init__(self, model: RemoteModel, request: Request, attempts: list[Attempt], wait: float) -> None:
        self.model = model
        self.asked = request
        self.request, self.dropped = model.sendable(request)
        self.attempts = attempts
        self.wait = wait
        self.error: ProviderError | None = None
        self._first = NAN

    def __enter__(self) -> Try:
        called = time.perf_counter()
        if self.wait:
            time.sleep(self.wait)
        _ = self.model.client  # importing an SDK takes a second, which is not the provider's
        self._slot = self.model.limiter.acquire()
        self._bill = ledger.charge(self.model, self.request)
        try:
            self._bill.__enter__()
        except BaseException as error:
            self.model.limiter.release(self._slot)
            if isinstance(error, BudgetExceeded) and self.attempts:
                raise BudgetExceeded(f"{error}{_story(self.attempts, len(self.attempts))}") from None
            raise
        self._started = time.perf_counter()
        self._waited = self._started - called
        return self

    def heard(self, text: str) -> None:
        """A piece of a stream is handed on: from now on a failure cannot be mended by starting again."""
        if text and math.isnan(self._first):
            self._first = time.perf_counter() - self._started

    def done(self, response: Response) -> Response:
        """The finished response: priced, with the options that were sent and every try; settles the bill."""
        seconds = time.perf_counter() - self._started
        attempts = (*self.attempts, Attempt(self._waited, seconds))
        whole = completed(self.model, response, self.asked, self.request, self.dropped)
        return self._bill.settle(replace(whole, seconds=seconds, first_token_seconds=self._first, attempts=attempts))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._bill.__exit__(kind, error, trace)
        self.model.limiter.release(self._slot, _limited(error))
        if not isinstance(error, ProviderError):
            return False
        self.attempts.append(Attempt(self._waited, time.perf_counter() - self._started, str(error)))
        self.error = error
        return math.isnan(self._first)


def completed(
    model: RemoteModel,
    response: Response,
    asked: Request,
    sent: Request,
    dropped: tuple[str, ...],
    *,
    batch: datetime | None = None,
) -> Response:
    """What was read from the wire, cut at its stops, with its price and its options.

    asked, sent, dropped: the request as the user made it, as it went out, and which options that left out.
    batch: when it was submitted to a batch API, None for a call of its own.
    """
    text = cut(response.text, asked.options.stop)
    if len(text) < len(response.text):
        finish: FinishReason = "refusal" if response.finish_reason == "refusal" else "stop"
        response = replace(response, text=text, finish_reason=finish)
    applied = sent.options
    if applied.top_logprobs is not None and response.logprobs is None and response.text:
        # some servers take the option and ignore it
        model.capabilities.learn("top_logprobs")
        applied, dropped = replace(applied, top_logprobs=None), (*dropped, "top_logprobs")
    answered_by = response.model_version.partition(" ")[0]  # without the fingerprint
    cost, source = prices.price(model.name, response.usage, version=answered_by, when=batch, batch=batch is not None)
    options: Any = {"requested": asked.options, "applied": applied, "dropped": dropped}
    return replace(response, cost=cost, price=source, model=model.name, **options)


class Pieces:
    """The pieces of a stream, and in the end its response with all of them as text."""

    def __init__(self, generator: Generator[str, None, Response]) -> None:
        self._generator = generator
        self._said: list[str] = []
        self._response = Response("")

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                piece = next(self._generator)
            except StopIteration as end:
                self._response = end.value
                return
            self._said.append(piece)
            yield piece

    def response(self) -> Response:
        """What the stream returned."""
        return replace(self._response, text="".join(self._said))


def _limited(error: BaseException | None) -> bool | None:
    """What an outcome says about the number of calls under way: too many, fine, or nothing."""
    if error is None:
        return False
    busy = isinstance(error, RateLimited) or (isinstance(error, ProviderError) and error.status == 503)
    return True if busy else None


def _story(attempts: Sequence[Attempt], told: int) -> str:
    before = dict.fromkeys(a.error for a in attempts[:told])
    return f" (after {len(attempts)} tries: {'; '.join(before)})" if before else ""
