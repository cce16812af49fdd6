"""A tiny benchmark and scripted models for the tests of the evaluation loop."""

from __future__ import annotations

from collections.abc import Sequence

from llmlab.benchmarks.base import Benchmark, Card, Query, Reply
from llmlab.models.scripted import Scripted
from llmlab.types import Options, Protocol, Request, Sample, Score


class Doubling(Benchmark):
    """ "Twice 3?" -> "6"."""

    card = Card("Doubling", chance=0.0)

    def __init__(self, size: int = 20, name: str = "doubling") -> None:
        super().__init__(name)
        self.size = size

    def samples(self) -> Sequence[Sample]:
        return [Sample(f"Twice {i}?", target=str(2 * i), id=str(i)) for i in range(self.size)]

    def options(self, protocol: Protocol) -> Options:
        return Options(max_tokens=16)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        assert isinstance(sample.input, str)
        return Query(protocol, Request.of(sample.input))

    def score(self, sample: Sample, reply: Reply) -> Score:
        found = reply.text.strip() or None
        return Score(float(found == sample.target), answer=found, parsed=found is not None)


def twice(request: Request) -> str:
    """Always right."""
    return str(2 * int(request.prompt.removeprefix("Twice ").removesuffix("?")))


def right(name: str = "scripted/right", **settings: float) -> Scripted:
    return Scripted(twice, name, **settings)  # type: ignore[arg-type]


def wrong(name: str = "scripted/wrong") -> Scripted:
    return Scripted("0", name)
