"""Intervals by drawing again, for statistics without a formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.stats.estimate import Clusters, Estimate, cluster_codes
from llmlab.types import NAN


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[Any]], float],
    *,
    rng: np.random.Generator,
    clusters: Clusters | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """Percentile interval for a statistic that has no formula (a median, a ratio of sums).

    values has one row per item, (n,) or (n, k); whole clusters are drawn with replacement. Resamples for which
    the statistic is NaN (a ratio over nothing) are left out.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    x = np.asarray(values)
    n = len(x)
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, "bootstrap")
    codes, count = cluster_codes(clusters, n)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    draws = np.empty(resamples)
    for i in range(resamples):
        picks = rng.integers(count, size=count)
        rows = picks if count == n and clusters is None else np.concatenate([members[c] for c in picks])
        draws[i] = statistic(x[rows])
    value, kept = float(statistic(x)), draws[~np.isnan(draws)]
    if count < 2 or len(kept) < 2:
        return Estimate(value, NAN, NAN, n, level, "bootstrap")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n, level, "bootstrap", float(kept.std(ddof=1)))
