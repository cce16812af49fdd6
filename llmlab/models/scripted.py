"""A model whose answers are written down: for tests, for tutorials, and to try a pipeline for free."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llmlab.errors import LabError, UnknownName
from llmlab.models.base import Model, describe
from llmlab.types import Chunk, Options, Request, Response, Usage, digest

Script = Callable[[Request], str | Response] | Mapping[str, str] | Sequence[str | Exception] | str


class Scripted(Model):
    """Answers from a script; the public offline double.

    Args:
        script: a function of the request; or a mapping from a piece of the prompt to the answer (the first
            piece found in the last user turn wins, the key "" is the default); or answers in turn, where an
            exception is raised; or one text.
        name: what it is called in tables.
        seconds: how long each answer takes.
        cost: US dollars per answer.
        version: what it reports as its version; part of the cache key.

    Tokens are counted as words, so that usage and tables look like those of a real model.

    >>> Scripted({"capital of France": "Paris", "": "I do not know."}).generate("What is the capital of France?").text
    'Paris'
    """

    billed = True

    def __init__(
        self,
        script: Script,
        name: str = "scripted/model",
        options: Options | None = None,
        *,
        seconds: float = 0.0,
        cost: float = 0.0,
        version: str = "1",
    ) -> None:
        super().__init__(name, options)
        self.script = script
        self.seconds = seconds
        self.cost = cost
        self.version = version
        self.calls = 0
        self._lock = threading.Lock()

    @classmethod
    def named(
        cls, name: str, options: Options | None = None, *, seconds: float = 0.0, cost: float = 0.0, version: str = "1"
    ) -> Scripted:
        """`scripted/echo` repeats the question; `scripted/constant` always says "A"."""
        script = _SCRIPTS.get(name.partition("/")[2])
        if script is None:
            raise UnknownName.among("scripted model", name, (f"scripted/{n}" for n in _SCRIPTS))
        return cls(script, name, options, seconds=seconds, cost=cost, version=version)

    def identity(self) -> Mapping[str, Any]:
        script = describe(self.script) if callable(self.script) else repr(self.script)
        return {"model": self.name, "version": self.version, "script": digest(script)}

    def worst_case(self, request: Request) -> float:
        return self.cost

    def price(self, usage: Usage) -> float:
        return self.cost

    def _respond(self, request: Request) -> Response:
        with self._lock:
            self.calls += 1
            turn = self.calls - 1
        answer = self._answer(request, turn)
        if isinstance(answer, Exception):
            raise answer
        if self.seconds:
            time.sleep(self.seconds)
        if isinstance(answer, Response):
            return answer
        words = answer.split(" ")
        limit = request.options.max_tokens
        text = answer if limit is None else " ".join(words[:limit])
        for stop in request.options.stop or ():
            text = text.partition(stop)[0]
        return Response(
            text,
            finish_reason="length" if limit is not None and len(words) > limit else "stop",
            usage=Usage(sum(len(m.content.split()) for m in request.messages), len(text.split())),
            cost=self.cost,
            price="scripted",
            seconds=self.seconds,
            model_version=self.version,
            applied=request.options,
        )

    def _stream(self, request: Request) -> Iterator[Chunk]:
        response = self._respond(request)
        words = response.text.split(" ")
        yield from (Chunk(word + " ") for word in words[:-1])
        yield Chunk(words[-1], response)

    def _answer(self, request: Request, turn: int) -> str | Response | Exception:
        script = self.script
        if callable(script):
            return script(request)
        if isinstance(script, str):
            return script
        if isinstance(script, Mapping):
            for piece, answer in script.items():
                if piece and piece in request.prompt:
                    return answer
            if "" not in script:
                return LabError(f"{self.name}: no entry of the script is in the prompt {request.prompt[:80]!r}")
            return script[""]
        return script[turn % len(script)]


_SCRIPTS: dict[str, Script] = {"echo": lambda request: request.prompt, "constant": "A"}
