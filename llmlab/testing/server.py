"""The stand-in itself: a small HTTP/1.1 server on the loopback, in a thread of its own.

It speaks OpenAI's chat completions, completions and decisions, Anthropic's messages and Google's generateContent,
each with server-sent events, and the batch APIs of all three. HTTP is written out here because a connection that breaks
in the middle of an answer is one of the things to test.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from llmlab.testing import wire_anthropic, wire_google, wire_openai
from llmlab.testing.answers import Answer, AnswerFunction
from llmlab.testing.batches import Batches
from llmlab.testing.faults import Fault
from llmlab.testing.wire import Ask, Format

_FORMATS: tuple[Format, ...] = (
    wire_openai.CHAT,
    wire_openai.COMPLETIONS,
    wire_openai.DECISIONS,
    wire_anthropic.MESSAGES,
    wire_google.DECISIONS,
    wire_google.GENERATE,
)


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    body: Any
    method: str = "POST"


class ProviderServer:
    """Answers like OpenAI, Anthropic and Google, from a function of the messages.

    Args:
        answer: what to say: a text, or a function of the messages (each with "role" and "content") that returns
            text or an `Answer`.
        latency: seconds that each answer takes.
        unsupported: request fields that are answered by a 400, as they appear on the wire.
        ignored: request fields that are taken and have no effect.
        version: version that the answers report after the model's name.
        port: 0 takes a free one.

    Attributes:
        requests: everything that was received, in order.
        batches: the batches that were submitted, and how they go on (`llmlab.testing.batches`).
        under_way, peak: requests that are being answered, and the most there were at once.

    Faults wait in a queue: `server.fail("rate_limited", times=2)`; each request takes the next one. For faults
    that depend on the request, set `server.fault` to a function of it.
    """

    def __init__(
        self,
        answer: str | AnswerFunction = "The answer is 42.",
        *,
        latency: float = 0.0,
        unsupported: Collection[str] = (),
        ignored: Collection[str] = (),
        version: str = "2026-01-01",
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.latency = latency
        self.unsupported = set(unsupported)
        self.ignored = set(ignored)
        self.version = version
        self.port = port
        self.requests: list[Received] = []
        self.batches = Batches(self._reply_to)
        self.fault: Callable[[Received], Fault | None] = lambda received: None
        self.peak = 0
        self.under_way = 0
        self._faults: deque[Fault] = deque()
        self._started = threading.Event()

    # -- using it -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it listens; what Anthropic's and Google's clients take."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """What OpenAI's client takes."""
        return f"{self.url}/v1"

    def fail(self, kind: Any, times: int = 1, **details: Any) -> None:
        """Let the next `times` requests fail; details as in `Fault`."""
        self._faults.extend([Fault(kind, **details)] * times)

    @property
    def last(self) -> Received:
        """The latest request."""
        return self.requests[-1]

    def __enter__(self) -> ProviderServer:
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="llmlab-provider-server", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the test server did not start within 10 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def wait(self) -> None:
        """Serve until interrupted."""
        while self._thread.is_alive():
            self._thread.join(1)

    # -- inside -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                received = await _read(reader)
                self.requests.append(received)
                self.under_way += 1
                self.peak = max(self.peak, self.under_way)
                try:
                    alive = await self._reply(received, writer)
                finally:
                    self.under_way -= 1
                if not alive:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _reply(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection lives on."""
        try:
            return await self._answer_to(received, writer)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # an answer function that fails, or a request no client should have sent: said, not hidden
            return await _send(writer, 400, {"error": {"message": f"the test server failed: {error!r}"}})

    async def _answer_to(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        fault = self._faults.popleft() if self._faults else self.fault(received)
        delay = self.latency + (fault.seconds if fault is not None else 0.0)
        if delay:
            await asyncio.sleep(delay)
        body = received.body if isinstance(received.body, dict) else {}
        form = next((f for f in _FORMATS if f.matches(received.path, body)), None)
        if form is None:
            return await self._answer_batch(received, fault, writer)
        if fault is not None and fault.status is not None:
            headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
            return await _send(writer, fault.status, form.error(fault), headers)
        refused = next((f for f in form.fields(body) if f in self.unsupported), None)
        if refused is not None:
            return await _send(writer, 400, form.unsupported(refused))
        heeded = {field: value for field, value in body.items() if field not in self.ignored}
        ask = form.ask(received.path, heeded, self.version)
        answer = self._answer(ask, fault)
        with_usage = fault is None or fault.kind != "no_usage"
        if ask.stream:
            return await self._send_events(writer, form.events(ask, answer, with_usage), fault)
        return await self._send_whole(writer, form.reply(ask, answer, with_usage), fault)

    async def _answer_batch(self, received: Received, fault: Fault | None, writer: asyncio.StreamWriter) -> bool:
        if fault is not None and fault.status is not None:
            return await _send(writer, fault.status, wire_openai.CHAT.error(fault))
        found = self.batches.reply(received.method, received.path, received.headers, received.body)
        if found is None:
            return await _send(writer, 404, {"error": {"message": f"no such path: {received.path}"}})
        if fault is not None and fault.kind == "cut":
            return False  # what was asked for has happened; the answer is lost
        if isinstance(found, bytes):
            return await _send(writer, 200, found)
        return await self._send_whole(writer, found, fault)

    def _reply_to(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON that answer one request, as of a batch."""
        form = next(f for f in _FORMATS if f.matches(path, body))
        received = Received(path, {}, body)
        fault = self.fault(received)
        if fault is not None and fault.status is not None:
            return fault.status, form.error(fault)
        refused = next((f for f in form.fields(body) if f in self.unsupported), None)
        if refused is not None:
            return 400, form.unsupported(refused)
        ask = form.ask(path, body, self.version)
        return 200, form.reply(ask, self._answer(ask, fault), with_usage=True)

    def _answer(self, ask: Ask, fault: Fault | None) -> Answer:
        said = self.answer if isinstance(self.answer, str) else self.answer(ask.messages)
        answer = Answer(said) if isinstance(said, str) else said
        if fault is not None and fault.kind == "blocked":
            return Answer("", finish="blocked")
        if fault is not None and fault.kind == "refusal":
            return Answer("I can't help with that.", finish="refusal")
        return answer.limited(ask.max_tokens, ask.stop)

    async def _send_whole(self, writer: asyncio.StreamWriter, reply: Any, fault: Fault | None) -> bool:
        body = _spoiled(json.dumps(reply).encode(), fault)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        if fault is not None and fault.kind == "cut":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            return False
        writer.write(head + body)
        await writer.drain()
        return True

    async def _send_events(self, writer: asyncio.StreamWriter, events: Iterable[bytes], fault: Fault | None) -> bool:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head)
        pieces = list(events)
        if fault is not None and fault.kind in ("empty", "malformed", "not_an_answer"):
            spoiled = {"empty": [], "malformed": [b'data: {"choices": [{\n\n'], "not_an_answer": [b"data: {}\n\n"]}
            pieces = spoiled[fault.kind]
        cut = fault is not None and fault.kind == "cut"
        for piece in pieces[: len(pieces) // 2] if cut else pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        if cut:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request, *lines = head.split("\r\n")
    headers = {k.lower(): v.strip() for line in lines if line for k, _, v in [line.partition(":")]}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        parsed = body
    method, path, _ = request.split(" ")
    return Received(path, headers, parsed, method)


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: Mapping[str, str] | None = None) -> bool:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(payload)), **(headers or {})}
    head = f"HTTP/1.1 {status} Status\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    writer.write(head.encode() + payload)
    await writer.drain()
    return True


def _spoiled(body: bytes, fault: Fault | None) -> bytes:
    if fault is None:
        return body
    return {"empty": b"", "malformed": body[: len(body) // 2], "not_an_answer": b'{"hello": "world"}'}.get(
        fault.kind, body
    )
