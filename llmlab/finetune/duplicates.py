"""Examples that say the same twice: exactly, or nearly (Broder 1997, MinHash over word 3-grams)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
_GRAM = 3
_PERMUTATIONS = 128
# 32 bands of 4: a pair of similarity 0.7 is proposed with probability 0.9998, one of 0.5 with 0.87
_BANDS = (32, 4)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An example that was left out, the earlier one it repeats, and how similar they are (1: equal)."""

    index: int
    of: int
    similarity: float


def words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation."""
    return _WORD.findall(text.lower())


def grams(text: str, n: int) -> set[str]:
    """The word n-grams of a text; all of it as one when it is shorter."""
    found = words(text)
    return {" ".join(found[i : i + n]) for i in range(max(1, len(found) - n + 1))} if found else set()


def exact(keys: Iterable[str]) -> list[Duplicate]:
    """Those whose key came before."""
    first: dict[str, int] = {}
    return [Duplicate(i, first[k], 1.0) for i, k in enumerate(keys) if first.setdefault(k, i) != i]


def near(texts: Sequence[str], similarity: float) -> list[Duplicate]:
    """Those whose 3-grams have at least this Jaccard similarity with an earlier text that stays.

    MinHash proposes the pairs, so a few of low similarity may be missed; each is then computed exactly, so nothing
    is left out wrongly.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=_PERMUTATIONS, params=_BANDS)
    sets: dict[int, set[str]] = {}
    found = []
    for i, text in enumerate(texts):
        mine = grams(text, _GRAM)
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        sketch.update_batch([gram.encode() for gram in mine])
        scored = [(jaccard(mine, sets[j]), -j) for j in index.query(sketch)]
        best, negative = max(scored, default=(0.0, 0))
        if best >= similarity:
            found.append(Duplicate(i, -negative, best))
            continue
        index.insert(i, sketch)
        sets[i] = mine
    return found


def jaccard(a: set[str], b: set[str]) -> float:
    """Shared share of two sets, in [0, 1]; two empty ones are equal."""
    return len(a & b) / len(a | b) if a or b else 1.0
