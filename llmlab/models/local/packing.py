"""What to compute: each distinct beginning of all the sequences once. Plain Python; no model is seen here.

A context and all that is scored after it is a `Unit`: the context is the stem, the continuations a tree of tokens
on it. Units whose contexts begin alike form a `Group` with a prefix, where that saves work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from llmlab.errors import BadRequest, LabError
from llmlab.models.local.tokens import Pair
from llmlab.types import ContinuationLogprob

Results = dict[int, ContinuationLogprob | LabError]

# tokens that a separate forward pass for a prefix costs on top of its own
_PASS = 48
# shorter prefixes are not worth the bookkeeping
LEAST = 24


@dataclass(frozen=True, slots=True)
class Fitted:
    """A pair that fits into the model's context: `target` after `context`; `index` says whose result it is."""

    index: int
    context: tuple[int, ...]
    target: tuple[int, ...]
    truncated: int


def fit(pairs: Sequence[Pair], context: int, results: Results) -> list[Fitted]:
    """Pairs with contexts cut on the left where they are too long; those that cannot be scored get their error."""
    fitted = []
    for i, pair in enumerate(pairs):
        n = len(pair.continuation)
        if n > context:
            results[i] = BadRequest(
                f"a continuation of {n} tokens does not fit into the model's context of {context} tokens"
            )
            continue
        kept = pair.context[-(context - n + 1) :]
        fitted.append(Fitted(i, kept, pair.continuation, len(pair.context) - len(kept)))
    return fitted


@dataclass
class Unit:
    """A context, and the tree of tokens that its continuations make.

    tokens, parents: the tree's nodes, parents before children; parent -1 is the end of the context. wanted: for each
    continuation the nodes that predict its tokens, -1 first.
    """

    context: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    wanted: list[tuple[Fitted, list[int]]] = field(default_factory=list)
    _child: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def add(self, fitted: Fitted) -> None:
        """Put one continuation onto the tree. Its last token is only predicted, never read."""
        path = [-1]
        for token in fitted.target[:-1]:
            step = (path[-1], token)
            if step not in self._child:
                self._child[step] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(path[-1])
            path.append(self._child[step])
        self.wanted.append((fitted, path))

    def size(self, prefix: int = 0) -> int:
        """Tokens to compute when the first `prefix` of the context are there already."""
        return len(self.context) - prefix + len(self.tokens)

    @property
    def rows(self) -> int:
        """Positions whose logits are needed."""
        return len({node for _, path in self.wanted for node in path})

    def depths(self) -> list[int]:
        """How far each node is from the end of the context, at least 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return depths

    def sees(self, stem: int) -> np.ndarray:
        """Which tokens each node sees: (nodes, stem + nodes) bool; all of the stem, its ancestors, itself."""
        n = len(self.tokens)
        seen = np.zeros((n, stem + n), dtype=bool)
        seen[:, :stem] = True
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, stem + node] = True
        return seen


def units(fitted: Sequence[Fitted]) -> list[Unit]:
    """One unit per distinct context."""
    found: dict[tuple[int, ...], Unit] = {}
    for f in fitted:
        found.setdefault(f.context, Unit(f.context)).add(f)
    return list(found.values())


class Group(NamedTuple):
    """Indices of sequences whose first `prefix` tokens are the same and computed once; 0 shares nothing."""

    prefix: int
    members: list[int]


class _Cluster(NamedTuple):
    """Neighbours in sorted order, the tokens that computing them takes, and the intervals that share a prefix."""

    low: int
    high: int
    cost: int
    parts: list[tuple[int, int, int]]
    """(prefix, low, high)"""


def groups(sequences: Sequence[tuple[int, ...]], least: int = LEAST) -> list[Group]:
    """The cheapest way to share one prefix per sequence, in sorted order; prefixes shorter than `least` are not shared.

    Neighbours in sorted order are merged, those with the most in common first; at each merge either all of them
    share what they have in common, or the two sides stay as they are, whichever computes fewer tokens.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    ends = np.cumsum([0, *(len(sequences[i]) for i in order)]).tolist()
    common = [_common(sequences[a], sequences[b]) for a, b in pairwise(order)]
    clusters = [_Cluster(i, i + 1, ends[i + 1] - ends[i], [(0, i, i + 1)]) for i in range(len(order))]
    # a cluster is found at its first and its last place
    for edge in sorted(range(len(common)), key=lambda e: -common[e]):
        prefix = common[edge]
        if prefix < least:
            break
        left, right = clusters[edge], clusters[edge + 1]
        low, high = left.low, right.high
        together = ends[high] - ends[low] - prefix * (high - low - 1) + _PASS
        apart = left.cost + right.cost
        parts = [(prefix, low, high)] if together < apart else left.parts + right.parts
        clusters[low] = clusters[high - 1] = _Cluster(low, high, min(together, apart), parts)
    found, at = [], 0
    while at < len(order):
        found += [Group(prefix, order[low:high]) for prefix, low, high in clusters[at].parts]
        at = clusters[at].high
    return found


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the common beginning that leaves each of two sequences a token of its own."""
    return min(shared(a, b), len(a) - 1, len(b) - 1)


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def batches(sizes: Sequence[int], budget: int, rows: Sequence[int], most_rows: int) -> Iterator[list[int]]:
    """Batches of indices, with sizes of at most `budget` and rows of at most `most_rows` in all; or single ones.

    The longest come first, so that what one batch holds is of similar length.
    """
    batch: list[int] = []
    size = row = 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if batch and (size + sizes[i] > budget or row + rows[i] > most_rows):
            yield batch
            batch, size, row = [], 0, 0
        batch.append(i)
        size += sizes[i]
        row += rows[i]
    if batch:
        yield batch
