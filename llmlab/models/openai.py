"""OpenAI's chat completions and decisions, through the openai SDK."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar

from llmlab.errors import ProviderError
from llmlab.models import faults
from llmlab.models.capabilities import supports
from llmlab.models.faults import unanswered
from llmlab.models.remote import Limits, Progress, decided, declined
from llmlab.models.wire import WireModel
from llmlab.types import (
    ANY_OBJECT,
    Decision,
    FinishReason,
    Options,
    Protocol,
    Request,
    Response,
    TokenLogprob,
    Usage,
)

FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}
_PLAIN = ("temperature", "top_p", "top_k", "seed")
_ENDED = ("completed", "failed", "expired", "cancelled")
_CLOCKS = 3600
"""Seconds that the provider's clock may differ from ours; the tag decides."""


class OpenAIModel(WireModel):
    """A chat model of OpenAI. Reads OPENAI_API_KEY and OPENAI_BASE_URL."""

    any_object = True
    default_url = "https://api.openai.com/v1"
    url_env = "OPENAI_BASE_URL"
    default_key_env = "OPENAI_API_KEY"
    fields: ClassVar[Mapping[str, str]] = {
        **{name: name for name in _PLAIN},
        "stop": "stop",
        "reasoning_effort": "effort",
        "top_logprobs": "top_logprobs",
        "logprobs": "top_logprobs",
        "stream_options": "stream_options",
    }
    limit_field: ClassVar[str] = "max_completion_tokens"

    def __init__(self, name: str, options: Options | None = None, **settings: Any) -> None:
        super().__init__(name, options, **settings)
        own: tuple[Protocol, ...] = ("decision", "letter_logprob")
        self.offers = tuple(p for p in own if supports(name, p))

    @property
    def _sdk(self) -> ModuleType:
        import openai

        return openai

    def _connect(self, key: str) -> Any:
        return self._sdk.OpenAI(api_key=key, **self._client_settings())

    def _send(self, request: Request) -> Response:
        return self._read(self._post("/chat/completions", self._body(request)))

    def _read(self, reply: Any) -> Response:
        try:
            choice = reply["choices"][0]
            message = choice["message"]
            refusal = message.get("refusal")
            return Response(
                refusal or message.get("content") or "",
                finish_reason="refusal" if refusal else FINISH.get(choice.get("finish_reason"), "unknown"),
                usage=usage(reply.get("usage")),
                model_version=version(reply),
                reasoning=_reasoning(message),
                logprobs=_logprobs([choice]),
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise faults.nonsense(self.name, "the answer has no message", str(reply)) from None

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        return (yield from self._stream_body("/chat/completions", self._body(request)))

    def _stream_body(self, path: str, body: Mapping[str, Any]) -> Generator[str, None, Response]:
        body = {**body, "stream": True}
        if "stream_options" not in self.capabilities.refused:
            body["stream_options"] = {"include_usage": True}
        heard = _Heard()
        yield from heard.read(self._events(path, body))
        if heard.finish is None:
            raise faults.nonsense(self.name, "the stream ended before the answer was complete")
        return Response(
            "",
            finish_reason="refusal" if heard.refused else FINISH.get(heard.finish, "unknown"),
            usage=usage(heard.usage),
            model_version=heard.version,
            reasoning="".join(heard.reasoning),
            logprobs=_logprobs(heard.choices),
        )

    def _send_decision(self, request: Request, choices: Sequence[str]) -> Decision:
        question = {
            "type": "choice",
            "instructions": "Which option is the right answer to the input?",
            "choices": [{"value": str(i), "description": choice} for i, choice in enumerate(choices)],
        }
        messages = [{"role": m.role, "content": m.content, "type": "message"} for m in request.messages]
        body = {"model": self.id, "input": messages, "questions": [question]}
        reply = self._post("/decisions", body | dict(request.options.extra or {}))
        try:
            answer = reply["answers"][0]
            response = Response("", usage=usage(reply.get("usage")), model_version=version(reply))
            if answer["type"] == "refusal":
                return declined(choices, response)
            found = {p["value"]: float(p["probability"]) for p in answer["probabilities"]}
            return decided(choices, [found[str(i)] for i in range(len(choices))], response)
        except (KeyError, IndexError, TypeError, ValueError):
            raise faults.nonsense(self.name, "the answer has no probabilities", str(reply)) from None

    batches = Limits(50_000, 200_000_000)

    def batch_line(self, key: str, request: Request) -> dict[str, Any]:
        return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": self._body(request)}

    def submit_batch(self, lines: Sequence[Mapping[str, Any]], tag: str) -> str:
        file = "\n".join(json.dumps(line) for line in lines).encode()
        with self._faults():
            uploaded = self.client.files.create(file=(f"{tag}.jsonl", file), purpose="batch")
            made = self.client.batches.create(
                completion_window="24h",
                endpoint="/v1/chat/completions",
                input_file_id=uploaded.id,
                metadata={"llmlab": tag},
            )
        return str(made.id)

    def find_batches(self, tag: str, size: int, since: datetime) -> Iterator[str]:
        with self._faults():
            for batch in self.client.batches.list(limit=100):
                if batch.created_at < since.timestamp() - _CLOCKS:
                    return
                if (batch.metadata or {}).get("llmlab") == tag:
                    yield batch.id

    def poll_batch(self, batch_id: str) -> Progress:
        with self._faults():
            batch = self.client.batches.retrieve(batch_id)
        counts, errors = batch.request_counts, (batch.errors.data if batch.errors else None) or ()
        why = "; ".join(dict.fromkeys(str(e.message or e.code) for e in errors))
        done = counts.completed + counts.failed if counts else 0
        return Progress(batch.status in _ENDED, done, f"{batch.status}: {why}" if why else batch.status)

    def collect_batch(self, batch_id: str, keys: Sequence[str]) -> Iterator[tuple[str, Response | ProviderError]]:
        with self._faults():
            batch = self.client.batches.retrieve(batch_id)
            files = [f for f in (batch.output_file_id, batch.error_file_id) if f]
            contents = [self.client.files.content(file).content for file in files]
        for line in (line for content in contents for line in self._lines(content)):
            yield line["custom_id"], self._line(line)

    def _line(self, line: Mapping[str, Any]) -> Response | ProviderError:
        reply, error = line.get("response") or {}, line.get("error")
        try:
            if not error and reply.get("status_code") == 200:
                return self._read(reply["body"])
        except ProviderError as nonsense:
            return nonsense
        if error:
            return unanswered(self.name, error.get("code") or "", error.get("message") or "")
        return self._failure(reply.get("status_code") or 500, reply.get("body"))

    def _body(self, request: Request) -> dict[str, Any]:
        options = request.options
        body: dict[str, Any] = {
            "model": self.id,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        }
        body |= {name: value for name in _PLAIN if (value := getattr(options, name)) is not None}
        if options.max_tokens is not None:
            body[self.limit_field] = options.max_tokens
        if options.stop:
            body["stop"] = list(options.stop[:4])  # more are an error; the rest is seen to afterwards
        if options.effort is not None:
            body["reasoning_effort"] = options.effort
        if options.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": options.top_logprobs}
        if options.schema == ANY_OBJECT:
            body["response_format"] = {"type": "json_object"}  # strict schemas name every field
        elif options.schema is not None:
            named = {"name": "answer", "schema": dict(options.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body | dict(options.extra or {})


class _Heard:
    """What a stream of chunks has said beside its text."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.version = ""
        self.refused = False
        self.reasoning: list[str] = []
        self.choices: list[Mapping[str, Any]] = []

    def read(self, events: Generator[Any, None, None]) -> Generator[str, None, None]:
        for event in events:
            self.usage = event.get("usage") or self.usage
            self.version = version(event) or self.version
            for choice in event.get("choices") or ():  # the last chunk has usage and no choices
                delta = choice.get("delta") or {}
                self.finish = choice.get("finish_reason") or self.finish
                self.reasoning.append(_reasoning(delta))
                if choice.get("logprobs"):
                    self.choices.append(choice)
                if delta.get("refusal"):
                    self.refused = True
                yield delta.get("content") or delta.get("refusal") or choice.get("text") or ""


def usage(wire: Mapping[str, Any] | None) -> Usage:
    """Usage of chat completions, completions or decisions; cached and reasoning tokens are parts of the totals."""
    if not wire:
        return Usage()
    inputs = wire.get("prompt_tokens_details") or wire.get("input_tokens_details") or {}
    outputs = wire.get("completion_tokens_details") or wire.get("output_tokens_details") or {}
    return Usage(
        wire.get("prompt_tokens", wire.get("input_tokens")),
        wire.get("completion_tokens", wire.get("output_tokens")),
        inputs.get("cached_tokens"),
        inputs.get("cache_write_tokens"),
        outputs.get("reasoning_tokens"),
    )


def version(wire: Mapping[str, Any]) -> str:
    """The model that answered, as the provider resolved it, with its fingerprint where it gives one."""
    model, fingerprint = wire.get("model") or "", wire.get("system_fingerprint")
    return f"{model} {fingerprint}" if fingerprint else str(model)


def _reasoning(message: Mapping[str, Any]) -> str:
    # not OpenAI's own, but what servers of open reasoning models agree on
    return message.get("reasoning_content") or message.get("reasoning") or ""


def _logprobs(choices: Sequence[Mapping[str, Any]]) -> tuple[TokenLogprob, ...] | None:
    tokens = [t for choice in choices for t in (choice.get("logprobs") or {}).get("content") or ()]
    if not tokens:
        return None
    return tuple(
        TokenLogprob(t["token"], t["logprob"], tuple((o["token"], o["logprob"]) for o in t.get("top_logprobs") or ()))
        for t in tokens
    )
