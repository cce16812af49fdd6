"""Anthropic's messages, as anthropic 2.12 sends and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmlab.testing.answers import Answer, words
from llmlab.testing.faults import Fault
from llmlab.testing.wire import Ask, event

_ERRORS = {
    "rate_limited": ("rate_limit_error", "This request would exceed your rate limit."),
    "overloaded": ("overloaded_error", "Overloaded"),
    "server_error": ("api_error", "Internal server error"),
    "bad_request": ("invalid_request_error", "messages: at least one message is required"),
    "unauthorized": ("authentication_error", "invalid x-api-key"),
    "not_found": ("not_found_error", "model: no-such-model"),
    "quota": ("rate_limit_error", "This request would exceed your spend limit."),
}
_STOP = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "blocked": "refusal"}


class _Messages:
    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith("/v1/messages")

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        turns = [{"role": m["role"], "content": _text(m["content"])} for m in body["messages"]]
        if body.get("system"):
            turns = [{"role": "system", "content": _text(body["system"])}, *turns]
        return Ask(
            f"{body['model']}-{version}",
            turns,
            body,
            body["max_tokens"],
            tuple(body.get("stop_sequences") or ()),
            bool(body.get("stream")),
        )

    def fields(self, body: Mapping[str, Any]) -> list[str]:
        return [*body, *(body.get("output_config") or {})]

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        thought = [{"type": "thinking", "thinking": answer.reasoning, "signature": "x"}] if answer.reasoning else []
        said = [{"type": "text", "text": answer.text}] if answer.text else []
        wire = self._head(ask) | {
            "content": [*thought, *said],
            "stop_reason": _STOP[answer.finish],
            "stop_sequence": None,
        }
        return wire | ({"usage": _usage(ask, answer)} if with_usage else {})

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        usage = _usage(ask, answer)
        start = self._head(ask) | {"content": [], "stop_reason": None, "stop_sequence": None}
        start |= {"usage": usage | {"output_tokens": 1}} if with_usage else {}
        yield event({"type": "message_start", "message": start}, "message_start")
        yield event({"type": "ping"}, "ping")
        blocks = [("thinking", [answer.reasoning])] if answer.reasoning else []
        blocks.append(("text", words(answer.text)))
        for index, (kind, pieces) in enumerate(blocks):
            block = {"type": kind, kind: ""}
            yield event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start")
            for piece in pieces:
                delta = {"type": f"{kind}_delta", kind: piece}
                yield event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
            yield event({"type": "content_block_stop", "index": index}, "content_block_stop")
        end: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": _STOP[answer.finish], "stop_sequence": None},
        }
        yield event(end | ({"usage": usage} if with_usage else {}), "message_delta")
        yield event({"type": "message_stop"}, "message_stop")

    def error(self, fault: Fault) -> Any:
        kind, message = _ERRORS[fault.kind]
        return _error(kind, fault.message or message)

    def unsupported(self, field: str) -> Any:
        return _error("invalid_request_error", f"`{field}` is not supported on this model.")

    def _head(self, ask: Ask) -> dict[str, Any]:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": ask.model}


MESSAGES = _Messages()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _error(kind: str, message: str) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    thinking = len(answer.reasoning.split())
    return {
        "input_tokens": ask.input_tokens - answer.cached_tokens - answer.cache_write_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
        "cache_creation_input_tokens": answer.cache_write_tokens,
        "output_tokens": len(words(answer.text)) + thinking,
        "output_tokens_details": {"thinking_tokens": thinking},
    }
