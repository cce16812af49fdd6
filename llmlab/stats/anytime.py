"""Tests and bounds that may be looked at after every answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmlab.stats.estimate import Estimate, Floats, checked
from llmlab.types import NAN


class Sequential(NamedTuple):
    """What the discordant pairs say so far, however often one has looked.

    e_value: evidence against "both are equally good". p: min(1, 1 / e_value). decided: e_value >= 1 / alpha.
    win_share: share of wins among discordant pairs, with an interval that is valid at every look.
    """

    e_value: float
    p: float
    decided: bool
    win_share: Estimate


def sequential(wins: int, losses: int, alpha: float = 0.05, prior: float = 1.0) -> Sequential:
    """Sign test that may be looked at after every pair and stopped at any time.

    The beta-binomial e-process: the likelihood of the wins under a Beta(prior, prior) mixture over that under 1/2.
    It is exact at every n: the chance of ever reaching 1 / alpha is at most alpha when the two are equal.

    Source: Robbins (1970), https://doi.org/10.1214/aoms/1177696786; Ville's inequality.

    >>> sequential(9, 1).decided, sequential(5, 4).decided
    (False, False)
    >>> sequential(14, 2).decided
    True
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative; got {wins} wins and {losses} losses")
    n = wins + losses
    log_mixture = _log_beta(prior + wins, prior + losses) - _log_beta(prior, prior)
    log_e = log_mixture + n * math.log(2)
    e_value = math.exp(min(log_e, 700.0))
    share = wins / n if n else NAN

    def rejected(theta: float) -> bool:
        log_likelihood = _times_log(wins, theta) + _times_log(losses, 1 - theta)
        return log_mixture - log_likelihood >= -math.log(alpha)

    low = _boundary(rejected, share, 0.0) if n else NAN
    high = _boundary(rejected, share, 1.0) if n else NAN
    interval = Estimate(share, low, high, n, 1 - alpha, "beta-binomial confidence sequence")
    return Sequential(e_value, min(1.0, math.exp(-log_e)) if log_e > 0 else 1.0, log_e >= -math.log(alpha), interval)


def confidence_sequence(values: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Bounds on the mean of scores in [0, 1] that hold at all times together.

    Args:
        values: (n,) in order of arrival.
        alpha: chance that the mean ever leaves the bounds.

    Returns:
        low and high, each (n,): bounds after 1, 2, ... n values, never widening.

    Source: predictable plug-in empirical Bernstein, Waudby-Smith and Ramdas (2024), theorem 2,
    https://doi.org/10.1093/jrsssb/qkad009
    """
    x = checked(values)
    if ((x < 0) | (x > 1)).any():
        raise ValueError("a confidence sequence needs scores in [0, 1]")
    t = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    # each bet may use only what was seen before it
    mean_before, variance_before = np.r_[0.5, means][: len(x)], np.r_[0.25, variances][: len(x)]
    bets = np.minimum(np.sqrt(2 * math.log(2 / alpha) / (variance_before * t * np.log1p(t))), 0.75)
    spread = np.cumsum((x - mean_before) ** 2 * (-np.log1p(-bets) - bets))
    weights = np.cumsum(bets)
    centre, half = np.cumsum(bets * x) / weights, (math.log(2 / alpha) + spread) / weights
    low = np.maximum.accumulate(np.clip(centre - half, 0, 1))
    return low, np.minimum.accumulate(np.clip(centre + half, 0, 1))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: int, p: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(p) if p > 0 else -math.inf


def _boundary(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where `rejected` turns true between a value that is not rejected and an end of the range."""
    if not rejected(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return outside
