"""Anthropic's messages, through the anthropic SDK."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, ClassVar

from llmlab.errors import ProviderError
from llmlab.models import faults
from llmlab.models.remote import Limits, Progress
from llmlab.models.wire import WireModel
from llmlab.settings import config
from llmlab.types import FinishReason, Options, Request, Response, Usage

_FINISH: dict[str | None, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_CLOCKS = timedelta(minutes=5)
"""How far the provider's clock may differ from ours."""
_LONGEST = 8192
"""The API insists on a limit; without one of the caller's, this or the model's own, whichever is less."""


class AnthropicModel(WireModel):
    """A Claude model. Reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.

    Args:
        api_version: date of the API; None takes the SDK's. Since 2026-10-21 it has no temperature, top_p or
            top_k; older models still take them with api_version="2023-06-01".
    """

    default_url = "https://api.anthropic.com"
    url_env = "ANTHROPIC_BASE_URL"
    default_key_env = "ANTHROPIC_API_KEY"
    fields: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "stop_sequences": "stop",
        "effort": "effort",
    }

    def __init__(
        self, name: str, options: Options | None = None, *, api_version: str | None = None, **settings: Any
    ) -> None:
        self._api_version = api_version or str(self._sdk._constants.ANTHROPIC_API_VERSION)
        super().__init__(name, options, **settings)

    @property
    def api_version(self) -> str:
        return self._api_version

    @property
    def _sdk(self) -> ModuleType:
        import anthropic

        return anthropic

    def _connect(self, key: str) -> Any:
        headers = {"anthropic-version": self.api_version}
        return self._sdk.Anthropic(api_key=key, default_headers=headers, **self._client_settings())

    def _prepared(self, options: Options) -> Options:
        if options.max_tokens is not None:
            return options
        own = (config("models.yaml")["models"].get(self.name) or {}).get("max_output", _LONGEST)
        return replace(options, max_tokens=min(own, _LONGEST))

    def _send(self, request: Request) -> Response:
        return self._read(self._post("/v1/messages", self._body(request)))

    def _read(self, reply: Any) -> Response:
        try:
            blocks = reply["content"]
            return Response(
                "".join(b["text"] for b in blocks if b["type"] == "text"),
                finish_reason=_FINISH.get(reply.get("stop_reason"), "unknown"),
                usage=usage(reply.get("usage")),
                model_version=reply.get("model") or "",
                reasoning="".join(b.get("thinking", "") for b in blocks if b["type"] == "thinking"),
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise faults.nonsense(self.name, "the answer has no content", str(reply)) from None

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        heard = _Heard()
        yield from heard.read(self._events("/v1/messages", self._body(request) | {"stream": True}))
        if not heard.complete:
            raise faults.nonsense(self.name, "the stream ended before the answer was complete")
        return Response(
            "",
            finish_reason=_FINISH.get(heard.finish, "unknown"),
            usage=usage(heard.usage),
            model_version=heard.version,
            reasoning="".join(heard.reasoning),
        )

    batches = Limits(100_000, 256_000_000)

    def batch_line(self, key: str, request: Request) -> dict[str, Any]:
        return {"custom_id": key, "params": self._body(request)}

    def submit_batch(self, lines: Sequence[Mapping[str, Any]], tag: str) -> str:
        with self._faults():
            return str(self.client.messages.batches.create(requests=list(lines)).id)

    def find_batches(self, tag: str, size: int, since: datetime) -> Iterator[str]:
        # a batch here has no label; of one of another size or time it is sure that it is not ours, and answers are
        # taken by their keys only
        with self._faults():
            for batch in self.client.messages.batches.list(limit=100):
                if batch.created_at < since - _CLOCKS:
                    return
                if sum(batch.request_counts.to_dict().values()) == size:
                    yield batch.id

    def poll_batch(self, batch_id: str) -> Progress:
        with self._faults():
            batch = self.client.messages.batches.retrieve(batch_id)
        counts = batch.request_counts
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Progress(batch.processing_status == "ended", done, batch.processing_status)

    def collect_batch(self, batch_id: str, keys: Sequence[str]) -> Iterator[tuple[str, Response | ProviderError]]:
        import httpx2

        with self._faults():
            batch = self.client.messages.batches.retrieve(batch_id)
            if not batch.results_url:
                raise faults.failure(self.name, 404, f"the results of batch {batch_id} are not there any more")
            reply = self.client.get(batch.results_url, cast_to=httpx2.Response)
        for line in self._lines(reply.content):
            yield line["custom_id"], self._line(line["result"])

    def _line(self, result: Mapping[str, Any]) -> Response | ProviderError:
        if result["type"] == "errored":
            return self._failure(200, result["error"])
        if result["type"] != "succeeded":
            return faults.unanswered(self.name, result["type"])
        try:
            return self._read(result["message"])
        except ProviderError as nonsense:
            return nonsense

    def _body(self, request: Request) -> dict[str, Any]:
        options = request.options
        body: dict[str, Any] = {
            "model": self.id,
            "max_tokens": options.max_tokens,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"],
        }
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        if system:
            body["system"] = system
        body |= {k: v for k in ("temperature", "top_p", "top_k") if (v := getattr(options, k)) is not None}
        # white space alone is an error there; it is seen to afterwards
        if stop := [s for s in options.stop or () if s.strip()]:
            body["stop_sequences"] = stop
        output: dict[str, Any] = {}
        if options.effort is not None:
            output["effort"] = options.effort
        if options.schema is not None:
            output["format"] = {"type": "json_schema", "schema": dict(options.schema)}
        if output:
            body["output_config"] = output
        return body | dict(options.extra or {})


class _Heard:
    """What a stream of events has said beside its text."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.usage: dict[str, Any] = {}
        self.version = ""
        self.reasoning: list[str] = []
        self.complete = False

    def read(self, events: Generator[Any, None, None]) -> Generator[str, None, None]:
        for event in events:
            kind = event.get("type")
            if kind == "message_start":
                self.version = event["message"].get("model") or ""
                self._count(event["message"])
            elif kind == "content_block_delta":
                delta = event["delta"]
                self.reasoning.append(delta.get("thinking", ""))
                yield delta.get("text", "")
            elif kind == "message_delta":
                self.finish = event["delta"].get("stop_reason") or self.finish
                self._count(event)
            elif kind == "message_stop":
                self.complete = True

    def _count(self, event: Mapping[str, Any]) -> None:
        # counts are cumulative; the last event may leave out what it does not know
        self.usage |= {k: v for k, v in (event.get("usage") or {}).items() if v is not None}


def usage(wire: Mapping[str, Any] | None) -> Usage:
    """Usage of messages, whose input tokens leave out those read from and written to the cache."""
    if not wire or wire.get("input_tokens") is None:
        return Usage()
    read, written = wire.get("cache_read_input_tokens"), wire.get("cache_creation_input_tokens")
    return Usage(
        wire["input_tokens"] + (read or 0) + (written or 0),
        wire.get("output_tokens"),
        read,
        written,
        (wire.get("output_tokens_details") or {}).get("thinking_tokens"),
    )
