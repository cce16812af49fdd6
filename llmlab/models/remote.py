"""A model behind somebody's API. The SDKs' own retries are off; there is one retry layer, in `tries`."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from llmlab import settings
from llmlab.errors import BadRequest, ProviderError
from llmlab.models import capabilities, limiter
from llmlab.models.base import Model
from llmlab.models.stops import until
from llmlab.models.tries import Pieces, Tries
from llmlab.types import NAN, Chunk, Decision, Options, Prompt, Protocol, Request, Response

# what a protocol rests on, by the name under which its lack is remembered
_NEEDS: dict[Protocol, str] = {"loglikelihood": "echo", "decision": "decision", "letter_logprob": "top_logprobs"}


class Limits(NamedTuple):
    """What a provider takes in one batch."""

    requests: int
    bytes: int


class Progress(NamedTuple):
    """How far a batch is: whether it has ended, requests dealt with so far, and in which state or why it failed."""

    ended: bool
    done: int
    state: str


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
    offers: tuple[Protocol, ...] = ()
    """Protocols that the provider is known to have for this model, before anything is learned."""
    any_object: ClassVar[bool] = False
    """Whether it can be held to some JSON object (`types.ANY_OBJECT`), without a schema of its fields."""

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
        if settings.asks():
            self._key()  # missing, it is said before anything is done

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

    # -- what a provider with a batch API writes; it is driven by `evaluation.batches` ----------------------

    batches: ClassVar[Limits | None] = None
    """How much one batch takes; None for a provider without a batch API."""

    def batch_line(self, key: str, request: Request) -> dict[str, Any]:
        """One request of a batch, as JSON; its answer comes back under `key`."""
        raise NotImplementedError

    def submit_batch(self, lines: Sequence[Mapping[str, Any]], tag: str) -> str:
        """Submit what `batch_line` made; gives the provider's id of the batch. Raises ProviderError."""
        raise NotImplementedError

    def find_batches(self, tag: str, size: int, since: datetime) -> Iterator[str]:
        """Ids of batches that may be the one submitted under `tag` after `since`, whose id was never heard."""
        raise NotImplementedError

    def poll_batch(self, batch_id: str) -> Progress:
        """How far a batch is. Raises ProviderError."""
        raise NotImplementedError

    def collect_batch(self, batch_id: str, keys: Sequence[str]) -> Iterator[tuple[str, Response | ProviderError]]:
        """The answers of a batch that has ended, in any order; a request may have none.

        keys: those of the batch, in the order in which they were submitted.
        """
        raise NotImplementedError

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

    def sendable(self, request: Request) -> tuple[Request, tuple[str, ...]]:
        """The request without the options that the model refuses, and the names of these."""
        options, dropped = self.capabilities.accept(request.options)
        return replace(request, options=self._prepared(options)), dropped

    @property
    def protocols(self) -> tuple[Protocol, ...]:  # type: ignore[override]  # shrinks with what is learned
        """What the provider offers for this model, less what it has turned out not to have."""
        offered = (p for p in self.offers if _NEEDS[p] not in self.capabilities.refused)
        return (*offered, "letter", "generate")

    def _charged(self, request: Request) -> Response:
        for attempt in Tries(self, request):
            with attempt:
                return attempt.done(self._send(attempt.request))
        raise AssertionError("the last try raises")

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[Chunk]:
        request = self._complete(prompt, options)
        for attempt in Tries(self, request):
            with attempt, closing(self._send_stream(attempt.request)) as generator:
                pieces = Pieces(generator)
                for piece in until(pieces, request.options.stop):
                    attempt.heard(piece)
                    yield Chunk(piece)
                yield Chunk("", attempt.done(pieces.response()))
                return

    def _decide(self, request: Request, choices: Sequence[str], protocol: Protocol) -> Decision:
        if protocol != "decision":
            return super()._decide(request, choices, protocol)
        try:
            for attempt in Tries(self, self._complete(request, {})):
                with attempt:
                    decision = self._send_decision(attempt.request, choices)
                    assert decision.response is not None
                    return replace(decision, response=attempt.done(decision.response))
        except BadRequest as error:
            if error.status in (404, 405):  # the address has no such endpoint, and will not have one soon
                self.capabilities.learn(_NEEDS[protocol])
            raise
        raise AssertionError("the last try raises")


def decided(choices: Sequence[str], probabilities: Sequence[float], response: Response) -> Decision:
    """A provider's typed decision; probabilities in the order of the choices, normalised here.

    Raises:
        ValueError: when they add up to nothing.
    """
    total = math.fsum(probabilities)
    if not total > 0:
        raise ValueError(f"probabilities add up to {total}")
    shares = tuple(p / total for p in probabilities)
    pick = max(range(len(choices)), key=shares.__getitem__)
    return Decision(tuple(choices), shares, pick, "decision", replace(response, text=choices[pick]))


def declined(choices: Sequence[str], response: Response) -> Decision:
    """A decision that the provider would not make."""
    silent = replace(response, finish_reason="refusal")
    return Decision(tuple(choices), (NAN,) * len(choices), None, "decision", silent)


@functools.cache
def ssl_context() -> Any:
    """The certificates of this machine, read once: every client by itself would spend some 20 ms on them."""
    import httpx2

    return httpx2.create_ssl_context()


def connections() -> Any:
    """Connections for as many threads as the limiter may ever let through."""
    import httpx2

    return httpx2.Limits(max_connections=limiter.MOST, max_keepalive_connections=limiter.MOST)


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
