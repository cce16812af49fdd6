"""Whether training data holds a benchmark's items, by word n-gram overlap as in Brown et al. (2020, appendix C)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.base import Benchmark
from llmlab.errors import DataError
from llmlab.finetune.duplicates import words
from llmlab.types import Sample

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 3
# shorter questions are the same words by chance
_SHORTEST = 3


@dataclass(frozen=True, repr=False)
class Leakage:
    """Items of a benchmark whose words occur in training data.

    Attributes:
        benchmark: name.
        table: a line per item that overlaps: item, share (of its n-grams that occur, in [0, 1]), text, where.
        n: items that were long enough to tell.
        items: all items.
        gram: words per n-gram.
        threshold: share from which an item counts as leaked.
        examples: positions of the training examples that hold one on their own.
    """

    benchmark: str
    table: pd.DataFrame
    n: int
    items: int
    gram: int
    threshold: float
    examples: frozenset[int] = frozenset()

    @property
    def leaked(self) -> list[str]:
        """Ids of the items that count as leaked."""
        return [str(item) for item in self.table.loc[self.table["share"] >= self.threshold, "item"]]

    @property
    def clean(self) -> bool:
        """Whether no item counts as leaked."""
        return not self.leaked

    def require(self) -> None:
        """Refuse data that holds items of the benchmark.

        Raises:
            DataError: naming the first of them and where they are.
        """
        if self.clean:
            return
        rows = self.table[self.table["share"] >= self.threshold].head(_SHOWN)
        shown = "; ".join(f"{row.item} in {row.where}" for row in rows.itertuples())
        raise DataError(
            f"{len(self.leaked)} of {self.items} items of {self.benchmark} are in the training data ({shown}, …): "
            f"scores on it would be memory. Leave them out with data.without({self.benchmark!r})"
        )

    def __repr__(self) -> str:
        short = self.items - self.n
        said = (
            f"Leakage: {len(self.leaked)} of {self.n} items of {self.benchmark} share at least "
            f"{100 * self.threshold:g} % of their {self.gram}-grams with the data"
        )
        return said + (f" ({short} items are too short to tell)" if short else "")


def overlap(texts: Sequence[tuple[str, str]], benchmark: Benchmark, gram: int = 8, threshold: float = 0.5) -> Leakage:
    """Look for the items of a benchmark in training texts.

    Args:
        texts: of each training example its text and where it stands.
        benchmark: whose questions (with their choices) are looked for; items of fewer than 3 words are left out.
        gram: words that must follow each other the same way; items with fewer words are compared whole.
        threshold: share of an item's n-grams from which it counts as leaked.
    """
    import pandas as pd

    samples = benchmark.samples()
    asked = [(sample, words(text_of(sample))) for sample in samples]
    items = [(sample, set(_grams(found, min(gram, len(found))))) for sample, found in asked if len(found) >= _SHORTEST]
    owners: dict[str, list[int]] = defaultdict(list)
    for i, (_, grams) in enumerate(items):
        for one in grams:
            owners[one].append(i)
    sizes = {one.count(" ") + 1 for one in owners}
    seen: list[set[str]] = [set() for _ in items]
    most, best = [0] * len(items), [""] * len(items)
    holding = set()
    for position, (text, where) in enumerate(texts):
        hits = _hits(text, sizes, owners)
        for i, n in hits.items():
            seen[i] |= n
            if len(n) > most[i]:
                most[i], best[i] = len(n), where
            if len(n) >= threshold * len(items[i][1]):
                holding.add(position)
    rows: list[dict[str, Any]] = [
        {"item": sample.id, "share": len(seen[i]) / len(grams), "text": text_of(sample), "where": best[i]}
        for i, (sample, grams) in enumerate(items)
        if seen[i]
    ]
    table = pd.DataFrame(rows, columns=["item", "share", "text", "where"])
    table = table.sort_values("share", ascending=False, kind="stable", ignore_index=True)
    return Leakage(benchmark.name, table, len(items), len(samples), gram, threshold, frozenset(holding))


def text_of(sample: Sample) -> str:
    """A question as training data would hold it: its words, without the answer."""
    asked = sample.input if isinstance(sample.input, str) else "\n".join(m.content for m in sample.input)
    return "\n".join([asked, *sample.choices])


def _hits(text: str, sizes: set[int], owners: dict[str, list[int]]) -> dict[int, set[str]]:
    """Of each item the n-grams that a text has."""
    found, hits = words(text), defaultdict(set)
    for size in sizes:
        for one in _grams(found, size):
            for i in owners.get(one, ()):
                hits[i].add(one)
    return hits


def _grams(found: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(found[i : i + n]) for i in range(len(found) - n + 1))
