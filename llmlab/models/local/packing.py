"""What to compute: each distinct beginning of all the sequences once. Plain Python; no model is seen here.

A `Unit` is a stem with a tree of tokens on it: a context with its continuations, or several short contexts that begin
alike. Units that begin alike form a `Group` with a prefix that is computed apart, where that saves work.
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

# what sharing a prefix costs beyond its tokens, in tokens: a pass of its own, and one more that is not full
PASS = 96
# shorter prefixes are not worth a pass
LEAST = 24
# at most so many tokens may hang on one stem: who sees whom among them is a square
_TREE = 256
# a tree must save this share of its tokens, as attention by a mask takes longer
_SAVING = 0.1


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
    """A stem that contexts begin with, and the tree that the rest of them and their continuations make.

    tokens, parents: the tree's nodes, parents before children; parent -1 is the end of the stem. wanted: for each
    continuation the nodes that predict its tokens.
    """

    stem: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    wanted: list[tuple[Fitted, list[int]]] = field(default_factory=list)
    _child: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def add(self, fitted: Fitted) -> None:
        """Put a context that begins with the stem onto the tree, and its continuation but for the last token."""
        rest = fitted.context[len(self.stem) :]
        path = [-1]
        for token in (*rest, *fitted.target[:-1]):
            step = (path[-1], token)
            if step not in self._child:
                self._child[step] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(path[-1])
            path.append(self._child[step])
        self.wanted.append((fitted, path[len(rest) :]))

    def size(self, prefix: int = 0) -> int:
        """Tokens to compute when the first `prefix` of the stem are there already."""
        return len(self.stem) - prefix + len(self.tokens)

    @property
    def rows(self) -> int:
        """Positions whose logits are needed."""
        return len({node for _, path in self.wanted for node in path})

    def depths(self) -> list[int]:
        """How far each node is from the end of the stem, at least 1."""
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


def merged(several: Sequence[Unit], prefix: int) -> list[Unit]:
    """The same contexts in fewer units: small ones that begin alike behind `prefix` become one tree."""
    found = []
    for group in groups([unit.stem[prefix:] for unit in several], overhead=0, least=1):
        members = [several[i] for i in group.members]
        if group.prefix and _worth_a_tree(members, prefix, group.prefix):
            tree = Unit(members[0].stem[: prefix + group.prefix])
            for f in (f for unit in members for f, _ in unit.wanted):
                tree.add(f)
            found.append(tree)
        else:
            found += members
    return found


def _worth_a_tree(members: Sequence[Unit], prefix: int, common: int) -> bool:
    """Whether units with `common` tokens in common behind a prefix are better one tree."""
    hanging = sum(unit.size(prefix + common) for unit in members)
    apart = common * len(members) + hanging
    return hanging <= _TREE and common * (len(members) - 1) >= _SAVING * apart


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


def groups(sequences: Sequence[tuple[int, ...]], overhead: int = PASS, least: int = LEAST) -> list[Group]:
    """The cheapest way to share one prefix per sequence, in sorted order; prefixes shorter than `least` are not shared.

    Neighbours in sorted order are merged, those with the most in common first; at each merge either all of them
    share what they have in common, or the two sides stay as they are, whichever computes fewer tokens.

    Args:
        sequences: of tokens.
        overhead: what a group of its own costs beyond its tokens, in tokens. A group of all sequences is not apart
            from anything, and costs at most a pass.
        least: shortest prefix.
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
        extra = min(overhead, PASS) if high - low == len(order) else overhead
        together = ends[high] - ends[low] - prefix * (high - low - 1) + extra
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
