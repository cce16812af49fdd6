"""A number with its interval, and the parts that all intervals are made of."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.types import NAN

Floats: TypeAlias = NDArray[np.float64]
Clusters: TypeAlias = Sequence[Hashable]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the point estimate, NaN when nothing was measured.
        low, high: bounds of the interval, NaN when it cannot be known (no items, or one item of a measured value).
        n: number of items.
        level: coverage of the interval.
        method: how the interval was made.
        se: standard error behind it, NaN when there is none.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95
    method: str = ""
    se: float = NAN

    def __repr__(self) -> str:
        low, high = _plain(self.low), _plain(self.high)
        return f"{type(self).__name__}({_plain(self.value)} [{low}, {high}], n={self.n})"


def checked(values: ArrayLike) -> Floats:
    """One number per item as an array; refuses tables, NaN and infinity."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"scores are one number per item; got an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"{int((~np.isfinite(x)).sum())} of {len(x)} scores are NaN or infinite; "
            "leave out what has no score, and report how many there were"
        )
    return x


def cluster_codes(clusters: Clusters | None, n: int) -> tuple[NDArray[np.intp], int]:
    """Cluster number of each item, and how many clusters there are."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"every item needs a cluster; got {n} values and {len(clusters)} clusters")
    seen: dict[Hashable, int] = {}
    for i, label in enumerate(clusters):
        seen.setdefault(_cluster_key(label, i), len(seen))
    if len(seen) == 1:
        return np.arange(n), n
    return np.array([seen[_cluster_key(label, i)] for i, label in enumerate(clusters)], dtype=np.intp), len(seen)


def _cluster_key(label: Hashable, i: int) -> Hashable:
    unlabelled = label is None or label == "" or label != label  # NaN differs from itself
    return (i,) if unlabelled else ("label", label)


def standard_error(x: Floats, codes: NDArray[np.intp], count: int) -> float:
    """Miller's clustered standard error of the mean; with one item per cluster, sd / sqrt(n). NaN for one item."""
    if count < 2:
        return NAN
    if x.min() == x.max():  # not the rounding error of the mean
        return 0.0
    totals = np.bincount(codes, weights=x - x.mean())
    squares = float((totals**2).sum())
    se = math.sqrt(count / (count - 1) * squares) / len(x)
    return 0.0 if se < 1e-14 else se


def z_quantile(level: float) -> float:
    """Two-sided quantile of the normal distribution."""
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage in (0, 1), such as 0.95; got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def t_quantile(level: float, df: int) -> float:
    """Two-sided quantile of Student's t; NaN without degrees of freedom."""
    if df < 1:
        return NAN
    z_quantile(level)  # the same check of the level
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def t_test(statistic: float, df: int) -> float:
    """Two-sided p-value of a t statistic; NaN without degrees of freedom."""
    if df < 1 or math.isnan(statistic):
        return NAN
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(statistic)))


def _plain(x: float) -> str:
    return "nan" if math.isnan(x) else f"{x + 0.0:.2f}".replace("-0.00", "0.00")
