"""Calls that are remembered: inside `evaluate`, what a judge has answered is stored and not paid for again.

A scorer asks through `generate` and `decide` of this module. Outside of `evaluate` they simply ask.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from llmlab.models.base import Model
from llmlab.types import Decision, Request, Response


class Memory(Protocol):
    """Answers a call from what is stored, else makes it and stores the answer."""

    def generate(self, model: Model, request: Request) -> Response:
        """The stored response, or a new one."""

    def decide(self, model: Model, request: Request, choices: Sequence[str]) -> Decision:
        """The stored decision, or a new one."""


_memory: contextvars.ContextVar[Memory | None] = contextvars.ContextVar("memory", default=None)


@contextmanager
def remembering(memory: Memory) -> Iterator[None]:
    """Within it, calls of this thread (and of threads that copy its context) go through `memory`."""
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)


def generate(model: Model, request: Request) -> Response:
    """Ask, or recall what was answered."""
    memory = _memory.get()
    return model.generate(request) if memory is None else memory.generate(model, request)


def decide(model: Model, request: Request, choices: Sequence[str]) -> Decision:
    """Let the model decide, or recall what it decided."""
    memory = _memory.get()
    return model.decide(request, choices) if memory is None else memory.decide(model, request, choices)
