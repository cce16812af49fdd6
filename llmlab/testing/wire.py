"""What every wire format can do: read a request, and write an answer, its pieces, or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmlab.testing.answers import Answer, Messages
from llmlab.testing.faults import Fault


@dataclass(frozen=True)
class Ask:
    """A request, read from any format."""

    model: str
    messages: Messages
    body: Mapping[str, Any]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    events: bool = True  # a stream of server-sent events, else of a JSON array

    @property
    def input_tokens(self) -> int:
        """Words of all messages."""
        return sum(len(m["content"].split()) for m in self.messages)


class Format(Protocol):
    """One endpoint of one provider."""

    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether a request is in this format."""

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        """Read a request."""

    def fields(self, body: Mapping[str, Any]) -> list[str]:
        """Names of the generation options that a request sets, as the wire has them."""

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        """A whole answer."""

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        """An answer as server-sent events."""

    def error(self, fault: Fault) -> Any:
        """The body of an error."""

    def unsupported(self, field: str) -> Any:
        """The body of the error for a field that the model does not accept."""


def event(data: Any, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
