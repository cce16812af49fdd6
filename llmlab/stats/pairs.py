"""Two models on the same items, and several such comparisons at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmlab.stats.estimate import (
    Clusters,
    Estimate,
    Floats,
    checked,
    cluster_codes,
    standard_error,
    t_quantile,
    t_test,
    z_quantile,
)
from llmlab.types import NAN


@dataclass(frozen=True, repr=False)
class Difference(Estimate):
    """A paired difference a - b.

    Attributes:
        p: two-sided p-value of "no difference".
        wins, losses: items on which a is better, and on which b is better.
    """

    p: float = NAN
    wins: int = 0
    losses: int = 0


def paired(a: ArrayLike, b: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Difference:
    """Mean difference a - b over the same items.

    Args:
        a: (n,) scores of one model, without NaN.
        b: (n,) scores of the other on the same items, in the same order.
        clusters: as for `mean`.
        level: coverage, in (0, 1).

    Returns:
        For right-or-wrong scores without clusters, the p-value is the exact McNemar test and the interval is Bonett
        and Price's, which keeps a width when the two never differ. Otherwise both come from Student's t on the
        (clustered) differences. The exact test is the more cautious of the two, so p can be a little above 0.05
        where the interval just leaves out 0.

    Raises:
        ValueError: for arrays of different lengths, or values that are not finite.

    Source: Miller (2024), https://arxiv.org/abs/2411.00640; Bonett and Price (2012),
    https://doi.org/10.1002/sim.4186
    """
    x, y = checked(a), checked(b)
    if len(x) != len(y):
        raise ValueError(f"a pair needs two scores for every item; got {len(x)} and {len(y)}")
    d = x - y
    n, wins, losses = len(d), int((d > 0).sum()), int((d < 0).sum())
    codes, count = cluster_codes(clusters, n)
    if n == 0:
        return Difference(NAN, NAN, NAN, 0, level, "t")
    value, binary = float(d.mean()), bool(np.isin(np.concatenate([x, y]), (0.0, 1.0)).all())
    if binary and count == n:
        return _adjusted_wald(value, wins, losses, n, n, level)
    se = standard_error(d, codes, count)
    if se == 0 and binary:  # every cluster says exactly the same: as many independent pairs as clusters
        return _adjusted_wald(value, wins, losses, n, count, level)
    method = "clustered t" if count < n else "t"
    if se == 0:
        p = mcnemar(count, 0) if value else 1.0
        return Difference(value, value, value, n, level, method, se, p, wins, losses)
    half = t_quantile(level, count - 1) * se
    low, high = max(value - half, -1.0) if binary else value - half, min(value + half, 1.0) if binary else value + half
    return Difference(value, low, high, n, level, method, se, t_test(value / se, count - 1), wins, losses)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p-value for b discordant pairs one way and c the other; 1 without any.

    Source: McNemar (1947), https://doi.org/10.1007/BF02295996, with binomial instead of chi-squared tails.

    >>> mcnemar(1, 7)
    0.0703125
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts of discordant pairs cannot be negative; got {b} and {c}")
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def holm(pvalues: ArrayLike) -> Floats:
    """Holm's step-down adjustment, in the order given. NaN (no test made) stays NaN and does not count.

    Source: Holm (1979), https://www.jstor.org/stable/4615733

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, dtype=np.float64)
    adjusted = np.full(p.shape, NAN)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def benjamini_hochberg(pvalues: ArrayLike) -> Floats:
    """Step-up adjustment for the expected share of false ones among what is shown, in the order given.

    NaN (no test made) stays NaN and does not count. Holds for independent or positively dependent tests.

    Source: Benjamini and Hochberg (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(pvalues, dtype=np.float64)
    adjusted = np.full(p.shape, NAN)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")][::-1]
    factors = len(order) / np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum.accumulate(np.minimum(1.0, p[order] * factors))
    return adjusted


def _adjusted_wald(value: float, wins: int, losses: int, n: int, units: int, level: float) -> Difference:
    """Bonett and Price: one more discordant pair each way, among `units` independent pairs."""
    b, c = wins * units / n, losses * units / n
    win, loss = (b + 1) / (units + 2), (c + 1) / (units + 2)
    se = math.sqrt((win + loss - (win - loss) ** 2) / (units + 2))
    centre, half = win - loss, z_quantile(level) * se
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    p = mcnemar(round(b), round(c))
    return Difference(value, low, high, n, level, "bonett-price", se, p, wins, losses)
