"""A part of a benchmark: the same wording and scoring on fewer items."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llmlab.benchmarks.base import Benchmark, Query, Reply
from llmlab.errors import DataError
from llmlab.types import Options, Protocol, Sample, Score


class Subset(Benchmark):
    """The items of `whole` whose ids are given, in the order of `whole`.

    Answers are the same as those of the whole benchmark, so stored ones are used by both.
    """

    def __init__(self, whole: Benchmark, ids: Sequence[str], name: str) -> None:
        super().__init__(name)
        self.whole = whole
        self.card = whole.card
        self.version = whole.version
        self.protocols = whole.protocols
        wanted = set(ids)
        self._samples = [s for s in whole.samples() if s.id in wanted]

    def samples(self) -> Sequence[Sample]:
        return self._samples

    def options(self, protocol: Protocol) -> Options:
        return self.whole.options(protocol)

    def metric(self, protocol: Protocol) -> str:
        return self.whole.metric(protocol)

    def chance(self, protocol: Protocol) -> float:
        return self.whole.chance(protocol)

    def wording(self, protocol: Protocol) -> str:
        return self.whole.wording(protocol)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        return self.whole.query(sample, protocol)

    def score(self, sample: Sample, reply: Reply) -> Score:
        return self.whole.score(sample, reply)


def split(benchmark: Benchmark, share: float = 0.5, seed: int = 0) -> tuple[Benchmark, Benchmark]:
    """Two parts without a common item: one to choose on, one locked away to test the choice on.

    Items of the same cluster stay together, because they are not independent of each other.

    Args:
        benchmark: at least two items (or clusters).
        share: of the items that go into the first part, in (0, 1).
        seed: draws them.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    clusters: dict[str, list[str]] = {}
    for s in benchmark.samples():
        clusters.setdefault((s.cluster and f"cluster {s.cluster}") or f"item {s.id}", []).append(s.id)
    if len(clusters) < 2:
        raise DataError(f"{benchmark.name} has {len(clusters)} independent item; a split needs at least two")
    order = list(clusters)
    random.Random(seed).shuffle(order)
    cut = min(max(round(share * len(order)), 1), len(order) - 1)
    first = [i for c in order[:cut] for i in clusters[c]]
    second = [i for c in order[cut:] for i in clusters[c]]
    return Subset(benchmark, first, f"{benchmark.name}[train]"), Subset(benchmark, second, f"{benchmark.name}[locked]")
