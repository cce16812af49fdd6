"""A model behind somebody's API: tries, waiting, options that are refused, and what each try costs.

The SDKs' own retries are off. Every try takes a slot of the provider's limiter, reserves its worst case on the
ledger, settles, and is recorded in `response.attempts`.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar

from llmlab import ledger, prices, settings
from llmlab.errors import BadRequest, ProviderError, RateLimited
from llmlab.models import capabilities, limiter
from llmlab.models.base import Model
from llmlab.models.faults import RefusedOption
from llmlab.models.stops import cut, until
from llmlab.types import NAN, Attempt, Chunk, Decision, Options, Prompt, Protocol, Request, Response

FIRST_WAIT = 0.5
"""Seconds before the second try when the provider names none; doubled each time, up to LONGEST_WAIT."""
LONGEST_WAIT = 30.0
PATIENCE = 120.0
"""Longest `retry-after` in seconds that is waited for; a longer one fails at once."""


class RemoteModel(Model):
    """A model that is called over the network.

    Args:
        name: `provider/name`.
        options: generation options.
        base_url: where the API is; None takes the provider's environment variable, else its public address.
        key_env: environment variable that holds the key.
        timeout: seconds that one try may take.
        tries: how often a call is made at most when it fails in a way that can heal.

    Raises:
        MissingKey: when the variable is not set.
    """

    billed = True
    default_url: ClassVar[str]
    url_env: ClassVar[str]
    default_key_env: ClassVar[str]

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        *,
        base_url: str | None = None,
        key_env: str | None = None,
        timeout: float = 600.0,
        tries: int = 5,
    ) -> None:
        if tries < 1 or timeout <= 0:
            raise ValueError(f"tries must be at least 1 and timeout above 0; got {tries!r} and {timeout!r}")
        super().__init__(name, options)
        self.base_url = (base_url or settings.value(self.url_env) or self.default_url).rstrip("/")
        self.key_env = key_env or self.default_key_env
        self.timeout = timeout
        self.tries = tries
        self.limiter = limiter.limiter(self.provider, self.base_url)
        self.capabilities = capabilities.capabilities(name, self.base_url, self.api_version)
        self._key()

    # -- what a provider writes ---------------------------------------------------------------------------

    def _send(self, request: Request) -> Response:
        """Make the call once. Raises ProviderError."""
        raise NotImplementedError

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        """Make the call once and yield pieces as they come; return the Response, whose text is not looked at."""
        raise NotImplementedError

    def _send_decision(self, request: Request, choices: Sequence[str]) -> Decision:
        """Make one typed decision; `response` of the result has the usage."""
        raise NotImplementedError

    def _connect(self, key: str) -> Any:
        """A client of the SDK, with retries off and room for many threads."""
        raise NotImplementedError

    @property
    def api_version(self) -> str:
        """Version of the API where the provider dates it."""
        return ""

    # -- what every provider has --------------------------------------------------------------------------

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.partition("/")[0]

    @property
    def id(self) -> str:
        """What the provider calls the model."""
        return self.name.partition("/")[2]

    @property
    def client(self) -> Any:
        """The SDK's client, shared by all models and threads with the same key and URL."""
        return _client(self._client_key(), self._connect, self._key())

    def _client_key(self) -> tuple[Any, ...]:
        return (type(self), self.base_url, self.api_version, self.timeout)

    def _key(self) -> str:
        return settings.key(self.key_env, self.name)

    def identity(self) -> Mapping[str, Any]:
        return {"model": self.name, "base_url": self.base_url, "api_version": self.api_version}

    def close(self) -> None:
        _forget(self._client_key(), self._key())

    def _prepared(self, options: Options) -> Options:
        """The options with what the provider insists on filled in."""
        return options

    def _charged(self, request: Request) -> Response:
        for attempt in self._tries(request):
            with attempt:
                return attempt.done(self._send(attempt.request))
        raise AssertionError("the last try raises")

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[Chunk]:
        request = self._complete(prompt, options)
        for attempt in self._tries(request):
            with attempt, closing(self._send_stream(attempt.request)) as generator:
                pieces = _Pieces(generator)
                for piece in until(pieces, request.options.stop):
                    attempt.heard(piece)
                    yield Chunk(piece)
                yield Chunk("", attempt.done(pieces.response()))
                return

    def _decide(self, request: Request, choices: Sequence[str], protocol: Protocol) -> Decision:
        if protocol != "decision":
            return super()._decide(request, choices, protocol)
        for attempt in self._tries(self._complete(request, {})):
            with attempt:
                decision = self._send_decision(attempt.request, choices)
                assert decision.response is not None
                return replace(decision, response=attempt.done(decision.response))
        raise AssertionError("the last try raises")

    def _tries(self, request: Request) -> Iterator[Try]:
        """Tries until one succeeds (the caller stops asking) or the failure is final (raised here)."""
        attempts: list[Attempt] = []
        wait = 0.0
        while True:
            attempt = Try(self, request, attempts, wait)
            yield attempt
            assert attempt.error is not None
            wait = self._wait_after(attempt.error, attempts)

    def _wait_after(self, error: ProviderError, attempts: Sequence[Attempt]) -> float:
        if isinstance(error, RefusedOption) and self.capabilities.learn(error.option):
            return 0.0
        failures = len(attempts)
        if not error.retryable or failures >= self.tries:
            raise _final(error, attempts) from None
        if error.retry_after is None:
            # half of it random, so that threads that failed together do not return together
            return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
        if error.retry_after > PATIENCE:
            raise _final(error, attempts, f"; it asks to wait {error.retry_after:.0f} s") from None
        return error.retry_after


class Try:
    """One try of a call, as a context manager that keeps failures in `error` instead of raising them."""

    def __init__(self, model: RemoteModel, request: Request, attempts: list[Attempt], wait: float) -> None:
        options, self.dropped = model.capabilities.accept(request.options)
        self.model = model
        self.asked = request
        self.request = replace(request, options=model._prepared(options))
        self.attempts = attempts
        self.wait = wait
        self.error: ProviderError | None = None
        self.first_token_seconds = NAN

    def __enter__(self) -> Try:
        called = time.perf_counter()
        if self.wait:
            time.sleep(self.wait)
        _ = self.model.client  # importing an SDK takes a second, which is not the provider's
        self._slot = self.model.limiter.acquire()
        try:
            self._bill = ledger.charge(self.model, self.request)
            self._bill.__enter__()
        except BaseException:
            self.model.limiter.release(self._slot)
            raise
        self._started = time.perf_counter()
        self._waited = self._started - called
        return self

    def heard(self, text: str) -> None:
        """A piece of a stream is handed on: from now on a failure cannot be mended by starting again."""
        if text and math.isnan(self.first_token_seconds):
            self.first_token_seconds = time.perf_counter() - self._started

    def done(self, response: Response) -> Response:
        """The finished response: priced, with the options that were sent and every try; settles the bill."""
        seconds = time.perf_counter() - self._started
        text = cut(response.text, self.asked.options.stop)
        if len(text) < len(response.text):
            response = replace(response, text=text, finish_reason="stop")
        cost, source = prices.price(self.model.name, response.usage, version=response.model_version.partition(" ")[0])
        finished = replace(
            self.model._finish(response, self.asked),
            cost=cost,
            price=source,
            seconds=seconds,
            first_token_seconds=self.first_token_seconds,
            applied=self.request.options,
            dropped=self.dropped,
            attempts=(*self.attempts, Attempt(self._waited, seconds)),
        )
        return self._bill.settle(finished)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._bill.__exit__(kind, error, trace)
        limited = None if error is not None else False
        if isinstance(error, RateLimited) or (isinstance(error, ProviderError) and error.status == 503):
            limited = True
        self.model.limiter.release(self._slot, limited)
        if not isinstance(error, ProviderError):
            return False
        self.attempts.append(Attempt(self._waited, time.perf_counter() - self._started, str(error)))
        self.error = error
        return math.isnan(self.first_token_seconds)


class _Pieces:
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
        return replace(self._response, text="".join(self._said))


def _final(error: ProviderError, attempts: Sequence[Attempt], why: str = "") -> ProviderError:
    """The error to raise: the last one, and what happened before."""
    before = [a.error for a in attempts[:-1]]
    story = f" (after {len(attempts)} tries: {'; '.join(dict.fromkeys(before))})" if before else ""
    kind = BadRequest if isinstance(error, RefusedOption) else type(error)
    return kind(f"{error}{why}{story}", status=error.status, retry_after=error.retry_after, paid=error.paid)


def decided(choices: Sequence[str], probabilities: Sequence[float], response: Response) -> Decision:
    """A provider's typed decision; probabilities in the order of the choices, normalised here."""
    total = math.fsum(probabilities)
    shares = tuple(p / total for p in probabilities)
    pick = max(range(len(choices)), key=shares.__getitem__)
    return Decision(tuple(choices), shares, pick, "decision", replace(response, text=choices[pick]))


def declined(choices: Sequence[str], response: Response) -> Decision:
    """A decision that the provider would not make."""
    silent = replace(response, finish_reason="refusal")
    return Decision(tuple(choices), (NAN,) * len(choices), None, "decision", silent)


_clients: dict[tuple[Any, ...], Any] = {}
_clients_lock = threading.Lock()


def _client(key: tuple[Any, ...], connect: Callable[[str], Any], secret: str) -> Any:
    found = _clients.get((*key, secret))
    if found is None:
        with _clients_lock:
            found = _clients.get((*key, secret)) or _clients.setdefault((*key, secret), connect(secret))
    return found


def _forget(key: tuple[Any, ...], secret: str) -> None:
    with _clients_lock:
        client = _clients.pop((*key, secret), None)
    if client is not None:
        client.close()


def forget() -> None:
    """Close every client of this process, and forget what was learned of limits and refused options."""
    with _clients_lock:
        clients = list(_clients.values())
        _clients.clear()
    for client in clients:
        client.close()
    limiter.forget()
    capabilities.forget()
