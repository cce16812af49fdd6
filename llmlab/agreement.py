"""How far raters agree beyond chance: Cohen's kappa for two, Krippendorff's alpha for any number with gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from llmlab.stats import Clusters, Estimate, Floats, bootstrap
from llmlab.types import NAN

Measure = Literal["nominal", "interval"]


def kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    levels: Sequence[Hashable] | None = None,
    weights: Literal["quadratic"] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Cohen's kappa of two raters over the same items.

    Args:
        first: one rating per item.
        second: those of the other rater, for the same items in the same order.
        levels: the possible ratings, in order; None takes those that occur, sorted.
        weights: None counts any disagreement fully, "quadratic" by the squared distance of the levels in order.
        level: coverage of the interval, in (0, 1).

    Returns:
        Estimate with the large-sample interval, cut at -1 and 1. NaN throughout when there are no items, or when
        both give every item the same rating: then chance explains all of the agreement.

    Raises:
        ValueError: for raters with different numbers of items, or a rating that is not one of `levels`.

    Source: Cohen (1960), https://doi.org/10.1177/001316446002000104; standard error by Fleiss, Cohen and Everitt
    (1969), https://doi.org/10.1037/h0028106

    >>> kappa("yyynnyyn", "yynnnyyn")
    Estimate(0.75 [0.31, 1.00], n=8)
    """
    table = confusion(first, second, levels)
    n = int(table.sum())
    method = f"{weights or 'unweighted'} kappa"
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, method)
    share = table / n
    rows, columns = share.sum(1), share.sum(0)
    agreement = _agreement(len(table), weights)
    observed = float((share * agreement).sum())
    expected = float((np.outer(rows, columns) * agreement).sum())
    if math.isclose(expected, 1.0, abs_tol=1e-12):
        return Estimate(NAN, NAN, NAN, n, level, method)
    value = (observed - expected) / (1 - expected)
    marginal = (agreement * columns).sum(1)[:, None] + (agreement.T * rows).sum(1)[None, :]
    spread = float((share * (agreement - marginal * (1 - value)) ** 2).sum())
    variance = (spread - (value - expected * (1 - value)) ** 2) / (n * (1 - expected) ** 2)
    se = math.sqrt(max(variance, 0.0))
    half = _z(level) * se
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, level, method, se)


def confusion(a: Sequence[Hashable], b: Sequence[Hashable], levels: Sequence[Hashable] | None = None) -> Floats:
    """Counts of pairs of ratings, (levels, levels): rows are the ratings of `a`, columns those of `b`."""
    if len(a) != len(b):
        raise ValueError(f"every item needs a rating from both; got {len(a)} and {len(b)}")
    known: list[Hashable] = list(levels) if levels is not None else sorted({*a, *b})  # type: ignore[type-var]
    place = {label: i for i, label in enumerate(known)}
    if unknown := [label for label in (*a, *b) if label not in place]:
        raise ValueError(f"rating {unknown[0]!r} is not one of {known}")
    table = np.zeros((len(known), len(known)))
    for x, y in zip(a, b, strict=True):
        table[place[x], place[y]] += 1
    return table


def alpha(
    ratings: ArrayLike,
    measure: Measure = "interval",
    *,
    rng: np.random.Generator | None = None,
    clusters: Clusters | None = None,
    level: float = 0.95,
) -> Estimate:
    """Krippendorff's alpha: 1 is perfect agreement, 0 what chance gives, below 0 systematic disagreement.

    Args:
        ratings: (items, raters) numbers; NaN where a rater gave none. Items with fewer than two ratings tell
            nothing and are left out.
        measure: "nominal" counts different ratings, "interval" squared distances.
        rng: draws the bootstrap over items for the interval; None leaves the interval NaN.
        clusters: as in `stats.mean`.
        level: coverage of the interval, in (0, 1).

    Returns:
        Estimate over the items that have two ratings or more. NaN when there are none, or no two ratings differ.

    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability,
    https://repository.upenn.edu/handle/20.500.14332/2089
    """
    x = np.asarray(ratings, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"ratings are (items, raters); got an array of shape {x.shape}")
    pairable = (~np.isnan(x)).sum(1) > 1
    x = x[pairable]
    if clusters is not None:
        clusters = [c for c, kept in zip(clusters, pairable, strict=True) if kept]
    parts = _parts(x, measure)
    disagreement = _nominal if measure == "nominal" else _interval
    if rng is None:
        return Estimate(_alpha(parts, disagreement), NAN, NAN, len(x), level, "krippendorff")
    found = bootstrap(parts, lambda p: _alpha(p, disagreement), rng=rng, clusters=clusters, level=level)
    return Estimate(found.value, found.low, found.high, found.n, level, "krippendorff, bootstrap", found.se)


def _parts(x: Floats, measure: Measure) -> Floats:
    """Per item what its disagreement is made of, such that parts of items add up: (items, parts).

    Nominal: how often it got each value. Interval: number, sum and sum of squares of its ratings.
    """
    if measure == "nominal":
        values = np.unique(x[~np.isnan(x)]) if len(x) else [0.0]
        return np.stack([(x == value).sum(1) for value in values], axis=1).astype(np.float64)
    centred = x - (np.nanmean(x) if len(x) else 0.0)
    return np.stack([(~np.isnan(x)).sum(1), np.nansum(centred, 1), np.nansum(centred**2, 1)], axis=1)


def _nominal(parts: Floats) -> tuple[Floats, Floats]:
    """Number of ratings, and the disagreement summed over their ordered pairs."""
    n = parts.sum(-1)
    return n, n**2 - (parts**2).sum(-1)


def _interval(parts: Floats) -> tuple[Floats, Floats]:
    n, total, squares = parts[..., 0], parts[..., 1], parts[..., 2]
    return n, 2 * (n * squares - total**2)


def _alpha(parts: Floats, disagreement: Callable[[Floats], tuple[Floats, Floats]]) -> float:
    if not len(parts):
        return NAN
    n, between = disagreement(parts.sum(0))
    expected = float(between / (n - 1))
    if expected <= 1e-12:
        return NAN
    per_item, within = disagreement(parts)
    return 1 - float((within / (per_item - 1)).sum()) / expected


def _agreement(size: int, weights: str | None) -> Floats:
    if weights is None:
        return np.eye(size)
    places = np.arange(size)
    return 1 - (places[:, None] - places[None, :]) ** 2 / max(size - 1, 1) ** 2


def _z(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)
