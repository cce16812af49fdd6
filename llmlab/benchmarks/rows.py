"""A benchmark whose items are rows of a published data set, with worked examples (shots) before each question.

The rules are those of lm-evaluation-harness 0.4.13, whose numbers model cards quote: a plain prompt is the
description, then for each shot question + answer + blank line, then the question.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from llmlab.benchmarks import sources
from llmlab.benchmarks.base import Benchmark, Card, Source
from llmlab.benchmarks.sources import Place, Row
from llmlab.errors import DataError
from llmlab.types import Message, Request, Sample

_SHOT_SEED = 1234


class RowsBenchmark(Benchmark):
    """Reads rows, makes samples, draws shots. A benchmark adds `sample`, `shot`, and its wording.

    Args:
        name: as in the registry.
        shots: worked examples before each question; None for the benchmark's usual number.
        source: "hub", "embedded", or a folder; None looks at LLMLAB_BENCHMARKS and then at the hub.
        split: scored instead of the usual one.
    """

    source: ClassVar[Source]
    usual_shots: ClassVar[int] = 0
    shot_splits: ClassVar[tuple[str, ...]] = ()
    """Splits that shots may come from: the first one that is there."""
    most_shots: ClassVar[int | None] = None
    """Where examples are part of a fixed wording, how many there are."""
    embedded_chance: ClassVar[float | None] = None
    """Score of guessing on the embedded rows, where it differs."""
    always_drops_itself: ClassVar[bool] = False
    """Draw one shot more and drop the item, even when the shots come from another split."""

    def __init__(
        self,
        name: str,
        *,
        shots: int | None = None,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> None:
        shots = self.usual_shots if shots is None else shots
        if isinstance(shots, bool) or not isinstance(shots, int) or shots < 0:
            raise DataError(f"{name}: shots should be a whole number from 0, it is {shots!r}")
        if self.most_shots is not None and shots > self.most_shots:
            raise DataError(f"{name} has a fixed wording with at most {self.most_shots} shots; it cannot take {shots}")
        self.shots = shots
        self.split = split or self.source.split
        self.given_source = source
        if source == "embedded":
            self.card = _embedded(self.card, self.embedded_chance)
            # numbers on our own rows must never pass for those of the real benchmark
            name = name if name.startswith("micro/") else f"micro/{name}"
        changed = {"shots": shots != self.usual_shots, "split": self.split != self.source.split}
        super().__init__(name + _settings({k: getattr(self, k) for k, differs in changed.items() if differs}))

    # -- what a benchmark writes ----------------------------------------------------------------------------

    def sample(self, row: Row) -> Sample:
        """One item. Raises DataError for a row that is not what it should be."""
        raise NotImplementedError

    def shot(self, row: Row) -> str:
        """A worked example: question and answer, without what separates it from the next."""
        raise NotImplementedError

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split."""
        return self.place.rows(self.source, self.source.config, split)

    def shot_pool(self, row: Row) -> Sequence[Row]:
        """The rows among which the shots of an item are drawn."""
        return self._all_shot_rows

    def draw(self, rng: random.Random, row: Row, pool: Sequence[Row]) -> list[Row]:
        """The shots of one item: drawn anew for each one, in item order, from one generator."""
        if not self._drops_itself:
            return rng.sample(pool, self.shots)
        # one more is drawn than needed, because the item itself may be among them
        drawn = [other for other in rng.sample(pool, self.shots + 1) if other != row][: self.shots]
        if len(drawn) < self.shots:
            return rng.sample([other for other in pool if other != row], self.shots)
        return drawn

    # -- what evaluate uses -----------------------------------------------------------------------------------

    def samples(self) -> Sequence[Sample]:
        return self._samples

    @cached_property
    def place(self) -> Place:
        """Where the rows come from."""
        return sources.place(self.source, self.source.config, self.split, self.given_source)

    @property
    def where(self) -> str:
        """Where the rows come from, in words: part of every number."""
        return self.place.describe(self.source)

    def known_length(self) -> int | None:
        if self.place.folder is None:
            return self.card.n if self.split == self.source.split else None
        path = self.place.path(self.source, self.source.config, self.split)
        if not path.is_file():
            return None
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())

    def prefix(self, sample: Sample) -> str:
        """The shots before an item's question, each with the blank line after it."""
        return "".join(f"{self.shot(row)}\n\n" for row in self.shots_for(sample))

    def shots_for(self, sample: Sample) -> Sequence[Row]:
        """The worked examples of one item; the same ones in every run."""
        if not self.shots:
            return ()
        try:
            return self._shots[sample.id]
        except KeyError:
            raise DataError(f"{self.name} has no sample {sample.id!r}: its shots are drawn per item") from None

    # -- inside -----------------------------------------------------------------------------------------------

    @cached_property
    def _items(self) -> tuple[tuple[Row, Sample], ...]:
        rows = list(self.rows(self.split))
        if not rows:
            raise DataError(f"{self.name}: the split {self.split!r} of {self.where} has no rows")
        return tuple(zip(rows, unique_ids([self.sample(row) for row in rows]), strict=True))

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(sample for _, sample in self._items)

    @cached_property
    def shot_split(self) -> str:
        """The split that shots are drawn from."""
        there = (s for s in self.shot_splits if self.place.has(self.source, self.source.config, s))
        return next(there, self.shot_splits[0])

    @property
    def _drops_itself(self) -> bool:
        return self.always_drops_itself or self.shot_split == self.split

    @cached_property
    def _all_shot_rows(self) -> list[Row]:
        return list(self.rows(self.shot_split))

    @cached_property
    def _shots(self) -> dict[str, list[Row]]:
        rng = random.Random(_SHOT_SEED)
        table = {}
        for row, sample in self._items:
            pool = self.shot_pool(row)
            if len(pool) < self.shots + self._drops_itself:
                raise DataError(
                    f"{self.name}: {self.shots} shots are asked for, but the split {self.shot_split!r} of {self.where} "
                    f"has {len(pool)} rows for them; ask for fewer, or use a complete copy of the data"
                )
            table[sample.id] = self.draw(rng, row, pool)
        return table


def _embedded(card: Card, chance: float | None) -> Card:
    return replace(
        card,
        title=f"{card.title} form, micro-world",
        source="embedded",
        licence="Apache-2.0",
        description=f"{card.description} (embedded micro-world; says nothing about the real {card.title})",
        chance=card.chance if chance is None else chance,
        n=None,
    )


def completion(prompt: str) -> Request:
    """A request whose text is to be continued as it stands, without a chat template where the model allows."""
    return Request((Message("user", prompt),), template=False)


def unique_ids(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with a count after every repeated id: published sets do repeat some rows."""
    seen: dict[str, int] = {}
    unique = []
    for sample in samples:
        seen[sample.id] = times = seen.get(sample.id, 0) + 1
        unique.append(sample if times == 1 else replace(sample, id=f"{sample.id}#{times}"))
    return unique


def _settings(changed: dict[str, object]) -> str:
    return f"[{','.join(f'{k}={v}' for k, v in changed.items())}]" if changed else ""
