"""How many items, and what they can show."""

from __future__ import annotations

import math
from statistics import NormalDist


def smallest_detectable(n: int, disagreement: float = 0.2, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference that a paired comparison of n items finds with probability `power`.

    Args:
        n: number of items both models answer.
        disagreement: variance of the difference per item; for right-or-wrong scores the share of items on which
            the two differ. With K answers per item add (variance of an answer a + of an answer b) / K.
        power: probability of finding it.
        alpha: two-sided level of the test.

    Returns:
        A difference in [0, 1]; infinity when not even a difference of 1 would be found.

    Source: Miller (2024), section 5.

    >>> round(smallest_detectable(164), 3)
    0.098
    """
    if n < 0 or disagreement < 0:
        raise ValueError(f"n and disagreement must not be negative; got {n} and {disagreement}")
    if n == 0:
        return math.inf
    delta = detectable_with(math.sqrt(disagreement / n), power, alpha)
    return delta if delta <= 1 else math.inf


def detectable_with(se: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference that a test with standard error `se` finds with probability `power`."""
    return (NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)) * se


def sample_size(delta: float, disagreement: float = 0.2, power: float = 0.8, alpha: float = 0.05) -> int:
    """Items needed to find a true difference `delta`; the arguments are those of `smallest_detectable`.

    >>> sample_size(0.03)
    1745
    """
    if not 0 < delta <= 1:
        raise ValueError(f"a difference of scores lies in (0, 1]; got {delta}")
    return math.ceil(detectable_with(math.sqrt(disagreement), power, alpha) ** 2 / delta**2)
