"""The endpoints."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from llmlab import types as lab
from llmlab.models.base import Model
from llmlab.serve import answering, shapes
from llmlab.serve.bodies import ChatBody, CompletionBody, Feedback, Generation
from llmlab.serve.metrics import Metrics
from llmlab.serve.office import Item, Office, Work
from llmlab.serve.problems import CLIENT_LEFT, Problem, install, json_response, problem_of
from llmlab.serve.record import Recorder, Served
from llmlab.serve.trial import Trial
from llmlab.types import Chunk

Shape = Callable[[Mapping[str, Any], Sequence[Any]], dict[str, Any]]
Piece = Callable[[Mapping[str, Any], int, Chunk], dict[str, Any]]


@dataclass
class Service:
    """What the endpoints share."""

    models: Mapping[str, Model]
    office: Office
    metrics: Metrics
    recorder: Recorder
    trial: Trial | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def names(self) -> list[str]:
        """What clients may ask for."""
        return [*([self.trial.name] if self.trial else []), *self.models]


@dataclass
class Asked:
    """One request on its way through an endpoint."""

    service: Service
    http: Request
    body: Generation
    endpoint: str
    id: str
    model: Model
    arm: str = ""
    unit: str = ""
    began: float = field(default_factory=time.monotonic)
    first: float = lab.NAN
    responses: list[lab.Response] = field(default_factory=list)

    @classmethod
    def of(cls, service: Service, http: Request, body: Generation, endpoint: str) -> Asked:
        """Raises Problem when there is no such model."""
        kind = "chatcmpl" if endpoint == "chat" else "cmpl"
        id_ = f"{kind}-{secrets.token_hex(12)}"
        trial = service.trial
        if trial is not None and body.model == trial.name:
            unit = trial.unit(body)
            arm = trial.arm(unit, id_)
            return cls(service, http, body, endpoint, id_, service.models[arm], arm, unit)
        if body.model not in service.models:
            known = ", ".join(service.names)
            message = f"no model {body.model!r} here; there are: {known}"
            raise Problem(404, message, code="model_not_found", param="model")
        return cls(service, http, body, endpoint, id_, service.models[body.model])

    @property
    def head(self) -> dict[str, Any]:
        """What every answer begins with."""
        return {"id": self.id, "created": int(time.time()), "model": self.body.model}

    @property
    def client(self) -> str:
        """Whose turn in the queue this request takes."""
        return self.body.user or (self.http.client.host if self.http.client else "")

    def items(self, works: Sequence[Work]) -> AsyncGenerator[Item]:
        """What the works find."""
        return self.service.office.run(works, self.client, lambda: _left(self.http))

    def ended(self, status: int) -> None:
        """Count and record."""
        seconds = time.monotonic() - self.began
        name = self.arm or self.body.model
        self.service.metrics.ended(name, self.endpoint, status, seconds, self.responses)
        user = self.unit or self.body.user or ""
        experiment = self.body.model if self.arm else ""
        served = Served(self.id, name, self.endpoint, status, seconds, user, self.responses, self.first, experiment)
        self.service.recorder.note(served)


def application(service: Service) -> FastAPI:
    """The app around a service."""
    app = FastAPI(
        title="LLM Lab",
        version=version("llmlab"),
        docs_url=None,
        redoc_url=None,
        responses={400: {"description": "Not a request that this server takes"}},
    )
    install(app)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody, http: Request) -> Response:
        """Answer a conversation."""
        asked = Asked.of(service, http, body, "chat")
        wanted = bool(body.logprobs)
        seen: set[int] = set()

        def piece(head: Mapping[str, Any], i: int, chunk: Chunk) -> dict[str, Any]:
            first = i not in seen
            seen.add(i)
            return shapes.chat_piece(head, i, chunk, wanted, first)

        with _counted(asked):
            requests = answering.chat_requests(body, asked.model)
            works = [answering.answering(asked.model, request, bool(body.stream)) for request in requests]
            if body.stream:
                return await _streamed(asked, works, piece, "chat.completion.chunk", 1)
            return await _whole(asked, works, shapes.chat)

    @app.post("/v1/completions")
    async def completions(body: CompletionBody, http: Request) -> Response:
        """Continue texts or sequences of tokens."""
        asked = Asked.of(service, http, body, "completions")
        wanted, prompts = body.logprobs is not None, len(body.prompts)
        places: dict[int, int] = {}

        def piece(head: Mapping[str, Any], i: int, chunk: Chunk) -> dict[str, Any]:
            start = places.get(i, 0)
            places[i] = start + sum(len(token.token) for token in chunk.logprobs)
            return shapes.completion_piece(head, i, chunk, wanted, start)

        with _counted(asked):
            requests = answering.completion_requests(body, asked.model)
            if body.echo:
                works = [answering.echoing(asked.model, body, requests)]
                return await _whole(asked, works, lambda h, found: shapes.echoed(h, found, wanted, prompts))
            works = [answering.answering(asked.model, request, bool(body.stream)) for request in requests]
            if body.stream:
                return await _streamed(asked, works, piece, "text_completion", prompts)
            return await _whole(asked, works, lambda h, found: shapes.completion(h, found, prompts))

    @app.post("/v1/feedback")
    async def feedback(body: Feedback) -> Response:
        """Say what came of an answer, for the experiment that runs here."""
        if service.trial is None:
            raise Problem(404, "no experiment runs on this server; start it with --experiment NAME")
        return json_response(await asyncio.to_thread(service.trial.record, body))

    @app.get("/v1/models")
    async def models() -> Response:
        """What there is."""
        return json_response({"object": "list", "data": [_listed(service, name) for name in service.names]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """One of them."""
        if name not in service.names:
            raise Problem(404, f"no model {name!r} here; there are: {', '.join(service.names)}", code="model_not_found")
        return json_response(_listed(service, name))

    @app.get("/health")
    async def health() -> Response:
        """Whether the server lives, and how busy it is."""
        office = service.office
        return json_response({"status": "ok", "under_way": office.under_way, "waiting": office.waiting})

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    for body in (ChatBody, CompletionBody):
        schemas: Any = app.openapi()["components"]["schemas"]
        schemas[body.__name__]["properties"]["model"]["enum"] = service.names
    return app


class _counted:  # noqa: N801  # reads as a verb
    """Counts a request that fails before its answer begins."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            self.asked.ended(problem_of(error).status)


async def _whole(asked: Asked, works: Sequence[Work], shape: Shape) -> Response:
    """Everything at once."""
    found: list[list[Any]] = [[] for _ in works]
    async with aclosing(asked.items(works)) as items:
        async for item in items:
            found[item.work].append(item.found)
    flat: list[Any]
    if found and isinstance(found[0][0], Chunk):
        flat = asked.responses = [chunks[-1].response for chunks in found]
    else:
        flat = found[0][0]
        asked.responses = [one.response for one in flat]
    body = shape(asked.head, flat)
    asked.ended(200)
    return json_response(body)


async def _streamed(asked: Asked, works: Sequence[Work], piece: Piece, form: str, prompts: int) -> Response:
    """Piece by piece. What goes wrong before the first one is an ordinary error."""
    items = asked.items(works)
    try:
        first = await anext(items)
    except BaseException:
        await items.aclose()
        raise
    asked.first = time.monotonic() - asked.began
    asked.service.metrics.began(asked.arm or asked.body.model, asked.first)
    pieces = _events(asked, first, items, piece, form, prompts)
    return StreamingResponse(pieces, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _events(
    asked: Asked, first: Item, items: AsyncGenerator[Item], piece: Piece, form: str, prompts: int
) -> AsyncIterator[bytes]:
    head = asked.head
    options = asked.body.stream_options
    nothing = {"usage": None} if options is not None and options.include_usage else {}
    last: dict[int, lab.Response] = {}
    status = CLIENT_LEFT
    try:
        async with aclosing(items):
            item: Item | None = first
            while item is not None:
                if item.found.response is not None:
                    last[item.work] = item.found.response
                yield shapes.event(piece(head, item.work, item.found) | nothing)
                item = await anext(items, None)
        asked.responses = [last[i] for i in sorted(last)]
        if nothing:
            yield shapes.event(shapes.last_piece(head, form, asked.responses, prompts))
        yield shapes.DONE
        status = 200
    except Problem as problem:
        status = problem.status
        if status != CLIENT_LEFT:
            yield shapes.event(problem.body)
    finally:
        asked.responses = asked.responses or [last[i] for i in sorted(last)]
        asked.ended(status)


async def _left(http: Request) -> None:
    """Return when the client hangs up."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _listed(service: Service, name: str) -> dict[str, Any]:
    owner = service.models[name].name.partition("/")[0] if name in service.models else "experiment"
    return {"id": name, "object": "model", "created": service.created, "owned_by": owner}
