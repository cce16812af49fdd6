"""A server in a thread: `lab.serve(...)`."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llmlab import settings
from llmlab.errors import DataError, LabError, MissingPackage
from llmlab.models.base import Model
from llmlab.models.registry import model as named
from llmlab.store import Store

if TYPE_CHECKING:
    from llmlab.experiments.live import Live

TOKEN = "LLMLAB_SERVE_TOKEN"  # noqa: S105  # the name of a variable
_MEGABYTE = 1 << 20


def serve(
    models: str | Model | Sequence[str | Model] | Mapping[str, str | Model],
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    guard: str | os.PathLike[str] | None = None,
    experiment: str | Live | None = None,
    store: str | Store | None = None,
    slots: int = 64,
    queue: int = 256,
    seconds: float = 600.0,
    body_bytes: int = 4 * _MEGABYTE,
) -> Server:
    """Serve models to any OpenAI client, from a thread of this process.

    Args:
        models: names or Models, or name for the clients -> model. Any Model of the library: local, cloud, wrapped.
        port: 0 takes a free one.
        host: address to listen on; others than loopback need a token.
        token: that clients must show; None takes LLMLAB_SERVE_TOKEN, and none where that is not set.
        guard: rules in YAML; every model gets a safety filter with them (`lab.alignment.safety_filter`).
        experiment: a name that clients can ask for as a model: each user or conversation meets one of the models, the
            first given is the baseline, and POST /v1/feedback says what came of it. Or a prepared `Live`.
        store: where usage and costs go: a Store, its URL, None for the default.
        slots: calls of models under way at a time.
        queue: calls that may wait; more are answered by 429 and when to come back.
        seconds: that a request may take, waiting included.
        body_bytes: of a request's body.

    Returns:
        A running server, which ends with its `with` block or by `stop()`.

    Raises:
        LabError: for a port in use, or an open address without a token.
        DataError, UnknownName, …: when a model cannot be loaded: local ones are loaded now.

    >>> with serve("scripted/echo", store="sqlite://") as server:
    ...     server.url
    'http://127.0.0.1:...'
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise DataError(f"port is a whole number from 0 (any free one) to 65535, it is {port!r}")
    chosen = _named(models)
    if guard is not None:
        from llmlab.alignment.filters import safety_filter

        guarded = safety_filter(Path(guard))
        chosen = {name: model.through(guarded) for name, model in chosen.items()}
    server = Server(
        chosen,
        host,
        port,
        # clients' headers lose such spaces, too, and a line's end from a file would lock everybody out
        (settings.value(TOKEN) or "" if token is None else token).strip(),
        experiment=experiment,
        store=store,
        limits=_Limits(slots, queue, seconds, body_bytes),
    )
    server.start()
    return server


class _Limits:
    def __init__(self, slots: int, queue: int, seconds: float, body_bytes: int) -> None:
        for name, value in (("slots", slots), ("queue", queue), ("seconds", seconds), ("body_bytes", body_bytes)):
            if not isinstance(value, int | float):
                raise DataError(f"{name} is a number, it is {value!r}")
        if slots < 1 or queue < 0 or not seconds > 0 or body_bytes < 1:
            raise DataError(
                "slots, seconds and body_bytes are above 0 and queue is 0 or more; "
                f"got {slots}, {seconds}, {body_bytes} and {queue}"
            )
        self.slots, self.queue, self.seconds, self.body_bytes = slots, queue, seconds, body_bytes


class Server:
    """A running server. Made by `lab.serve`.

    Attributes:
        url: what OpenAI's clients take as base_url is this and "/v1": `server.openai_url`.
        models: by the names that clients use.
        store: where usage and costs go.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        host: str,
        port: int,
        token: str,
        *,
        experiment: str | Live | None,
        store: str | Store | None,
        limits: _Limits,
    ) -> None:
        try:
            import fastapi  # noqa: F401
            import prometheus_client  # noqa: F401
            import uvicorn  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingPackage(f"serving needs the package {error.name!r}: pip install 'llmlab[serve]'") from error
        from llmlab.serve.gate import LOOPBACK

        if host not in LOOPBACK and not token:
            raise LabError(
                f"{host} can be reached from other machines, so it needs a token: token=, --token or {TOKEN} in the "
                "environment; or leave the host at 127.0.0.1"
            )
        self.models = models
        self.host = host
        self.port = port
        self.token = token
        self.limits = limits
        self._experiment = experiment
        self._stack = ExitStack()
        self.store = store if isinstance(store, Store) else self._stack.enter_context(Store(store))
        self._stopped = False

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """What OpenAI's clients take as base_url."""
        return f"{self.url}/v1"

    @property
    def live(self) -> Live | None:
        """The experiment that runs here; `server.live.state()` says how it stands."""
        return self._service.trial.live if self._service.trial else None

    def usage(self) -> Any:
        """What was served from this store, per day and model: a DataFrame with requests, tokens, cost, seconds."""
        import pandas as pd

        from llmlab.serve.record import KIND

        rows = []
        for document in self.store.documents.find(KIND):
            day, _, model = document["key"].partition("/")
            rows.append({"day": day, "model": model, **document["body"]})
        columns = ["requests", "failed", "input_tokens", "output_tokens", "cost", "unpriced", "seconds"]
        return pd.DataFrame(rows, columns=["day", "model", *columns]).set_index(["day", "model"])

    def start(self) -> None:
        """Load the models, listen, and answer in a thread."""
        import uvicorn

        from llmlab.serve.protocol import Protocol

        listening = _listen(self.host, self.port)
        try:
            self.port = listening.getsockname()[1]
            for model in self.models.values():
                _load(model)
            app = self._app()
        except BaseException:
            listening.close()
            self._stack.close()
            raise
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [listening]}, name="llmlab-serve", daemon=True
        )
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            self._thread.join(0.005)

    def _app(self) -> Any:
        from llmlab.experiments.live import Live
        from llmlab.serve.app import Service, application
        from llmlab.serve.gate import Gate
        from llmlab.serve.metrics import Metrics
        from llmlab.serve.office import Office
        from llmlab.serve.record import Recorder
        from llmlab.serve.trial import Trial

        live = self._experiment
        if isinstance(live, str):
            if len(self.models) < 2 or live in self.models:
                raise DataError(f"the experiment {live!r} needs at least two models, and a name that none of them has")
            live = Live(live, list(self.models), self.store)
        if live is not None and (missing := set(live.shares) - set(self.models)):
            raise DataError(f"arms of the experiment that are not served: {', '.join(sorted(missing))}")
        limits = self.limits
        office = Office(limits.slots, limits.queue, limits.seconds)
        self._service = Service(
            self.models, office, Metrics(office), Recorder(self.store), Trial(live) if live else None
        )
        self.app = application(self._service)
        return Gate(self.app, self.token, limits.body_bytes, min(30.0, limits.seconds))

    def stop(self) -> None:
        """Answer what is under way for at most three seconds, write down what was served, and end."""
        if self._stopped:
            return
        self._stopped = True
        self._uvicorn.should_exit = True
        self._thread.join()
        self._service.office.close()
        self._service.recorder.close()
        self._stack.close()

    def wait(self) -> None:
        """Serve until interrupted."""
        try:
            while self._thread.is_alive():
                self._thread.join(1)
        finally:
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else self.openai_url
        return f"Server({', '.join(self.models)}: {state})"


def _named(models: str | Model | Sequence[str | Model] | Mapping[str, str | Model]) -> dict[str, Model]:
    if isinstance(models, str | Model):
        models = [models]
    if not isinstance(models, Mapping | Sequence):
        raise DataError(f"models are names or Models, or a dict of name -> model; got {models!r}")
    pairs = list(models.items()) if isinstance(models, Mapping) else [("", one) for one in models]
    found: dict[str, Model] = {}
    for name, one in pairs:
        if not isinstance(name, str):
            raise DataError(f"clients ask for a model by a text; {name!r} is none")
        made = named(one)
        own = name or (one if isinstance(one, str) else made.name)
        if own in found:
            raise DataError(f"two models are called {own!r}: give them names, {{'a': …, 'b': …}}")
        found[own] = made
    if not found:
        raise DataError("there is nothing to serve: give at least one model")
    return found


def _load(model: Model) -> None:
    """Read local weights now, so that what is wrong with them is said at once."""
    from llmlab.models.local.transformers import TransformersModel

    if isinstance(model, TransformersModel):
        model.load()
    for inner in model.asks:
        _load(inner)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            raise LabError(
                f"port {port} is in use by another program: take another one, or 0 for any free one"
            ) from None
        if code == errno.EACCES:
            raise LabError(f"port {port} is for administrators: take one from 1024 on, or 0 for any free one") from None
        raise LabError(f"cannot listen on {host}:{port}: {error}") from error
    return listening
