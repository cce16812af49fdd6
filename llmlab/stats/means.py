"""Intervals for proportions and means, with and without clusters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from llmlab.stats.estimate import Clusters, Estimate, checked, cluster_codes, standard_error, t_quantile, z_quantile
from llmlab.types import NAN


def wilson(successes: float, n: float, level: float = 0.95) -> Estimate:
    """Score interval for a proportion.

    Args:
        successes: number of correct answers, 0 <= successes <= n.
        n: number of scored answers.
        level: coverage, in (0, 1).

    Returns:
        Estimate of successes / n. With n = 0 the value and both bounds are NaN: nothing was measured, which is
        not the same as zero.

    Raises:
        ValueError: if successes is not in [0, n].

    Source: Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953

    >>> wilson(8, 10)
    Estimate(0.80 [0.49, 0.94], n=10)
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n; got {successes} of {n}")
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, "wilson")
    p = successes / n
    low, high = _score_bounds(p, n, z_quantile(level))
    return Estimate(p, low, high, int(n), level, "wilson", math.sqrt(p * (1 - p) / n))


def mean(
    values: ArrayLike,
    clusters: Clusters | None = None,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    proportion: bool | None = None,
) -> Estimate:
    """Mean of one score per item, with an interval that knows which items belong together.

    Args:
        values: (n,) scores without NaN; leave out what has no score, and count it.
        clusters: (n,) labels; items with the same label are not independent. An empty label is a cluster of its
            own. With a single label for all items the interval speaks about that cluster, as without clusters.
        level: coverage, in (0, 1).
        bounds: where a mean can lie at all; the interval is cut there.
        proportion: whether the values are verdicts, 0 or 1; None takes them so when all of them are. False is for
            what is measured (dollars, seconds) and may be 0 or 1 by accident.

    Returns:
        The standard error is Miller's, clustered with the factor C / (C - 1), and the interval is Student's t with
        C - 1 degrees of freedom (C clusters; C = n without). For values that are all 0 or 1 it is the Wilson
        interval, with clusters at the effective sample size and the same t quantile: near 0 and 1 the plain
        interval is far too short, and has no width at all when every answer is right.

    Raises:
        ValueError: for NaN or infinite values, or as many clusters as there are not values.

    Source: Miller (2024), https://arxiv.org/abs/2411.00640; Franco, Little, Louis and Slud (2019),
    https://doi.org/10.1093/jssam/smy019 for the Wilson interval of clustered proportions.

    >>> mean([1, 1, 0, 1])
    Estimate(0.75 [0.30, 0.95], n=4)
    """
    x = checked(values)
    n = len(x)
    codes, count = cluster_codes(clusters, n)
    clustered = "clustered " if count < n else ""
    binary = proportion is not False and bool(np.isin(x, (0.0, 1.0)).all())
    if proportion and not binary:
        raise ValueError("a proportion is a mean of verdicts that are 0 or 1; these values hold others")
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, "t")
    if binary and not clustered:
        return wilson(float(x.sum()), n, level)
    value, se, t = float(x.mean()), standard_error(x, codes, count), t_quantile(level, count - 1)
    if binary:
        low, high = _score_bounds(value, _effective_size(value, se, n, count), t)
        return Estimate(value, low, high, n, level, "clustered wilson", se)
    low, high = max(value - t * se, bounds[0]), min(value + t * se, bounds[1])
    if math.isnan(se):  # max and min would hide it
        low = high = NAN
    return Estimate(value, low, high, n, level, f"{clustered}t", se)


def _effective_size(p: float, se: float, n: int, count: int) -> float:
    """How many independent answers n clustered ones are worth; the number of clusters when all are the same."""
    if se == 0 or p in (0.0, 1.0):
        return count
    return min(float(n), n * p * (1 - p) / ((n - 1) * se**2))


def _score_bounds(p: float, n: float, z: float) -> tuple[float, float]:
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # exact at the ends, where rounding could step over them
    return 0.0 if p == 0 else (centre - half) / scale, 1.0 if p == 1 else (centre + half) / scale
