"""Arrays in, `Estimate` out: intervals, paired comparisons, planning, and tests that may be looked at any time.

Everything follows Miller (2024), "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640, where it has a
formula, and a named method where it has none. What draws random numbers takes `rng`. scipy.stats and statsmodels
take a second or two to import, so they serve as references in the tests, and the few lines stand here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, TypeAlias

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
    low, high = _score_bounds(p, n, _z(level))
    return Estimate(p, low, high, int(n), level, "wilson", math.sqrt(p * (1 - p) / n))


def mean(
    values: ArrayLike,
    clusters: Clusters | None = None,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Mean of one score per item, with an interval that knows which items belong together.

    Args:
        values: (n,) scores without NaN; leave out what has no score, and count it.
        clusters: (n,) labels; items with the same label are not independent. An empty label is a cluster of its
            own. With a single label for all items the interval speaks about that cluster, as without clusters.
        level: coverage, in (0, 1).
        bounds: where a mean can lie at all; the interval is cut there.

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
    x = _scores(values)
    n = len(x)
    codes, count = _codes(clusters, n)
    clustered = "clustered " if count < n else ""
    binary = bool(np.isin(x, (0.0, 1.0)).all())
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, "t")
    if binary and not clustered:
        return wilson(float(x.sum()), n, level)
    value, se, t = float(x.mean()), _standard_error(x, codes, count), _t(level, count - 1)
    if binary:
        low, high = _score_bounds(value, _effective_size(value, se, n, count), t)
        return Estimate(value, low, high, n, level, "clustered wilson", se)
    low, high = max(value - t * se, bounds[0]), min(value + t * se, bounds[1])
    if math.isnan(se):  # max and min would hide it
        low = high = NAN
    return Estimate(value, low, high, n, level, f"{clustered}t", se)


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
    x, y = _scores(a), _scores(b)
    if len(x) != len(y):
        raise ValueError(f"a pair needs two scores for every item; got {len(x)} and {len(y)}")
    d = x - y
    n, wins, losses = len(d), int((d > 0).sum()), int((d < 0).sum())
    codes, count = _codes(clusters, n)
    if n == 0:
        return Difference(NAN, NAN, NAN, 0, level, "t")
    value, binary = float(d.mean()), bool(np.isin(np.concatenate([x, y]), (0.0, 1.0)).all())
    if binary and count == n:
        return _adjusted_wald(value, wins, losses, n, n, level)
    se = _standard_error(d, codes, count)
    if se == 0 and binary:  # every cluster says exactly the same: as many independent pairs as clusters
        return _adjusted_wald(value, wins, losses, n, count, level)
    method = "clustered t" if count < n else "t"
    if se == 0:
        p = mcnemar(count, 0) if value else 1.0
        return Difference(value, value, value, n, level, method, se, p, wins, losses)
    half = _t(level, count - 1) * se
    low, high = max(value - half, -1.0) if binary else value - half, min(value + half, 1.0) if binary else value + half
    return Difference(value, low, high, n, level, method, se, _t_test(value / se, count - 1), wins, losses)


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
    codes, count = _codes(clusters, n)
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
    x = _scores(values)
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


# -- inside ---------------------------------------------------------------------------------------------------


def _plain(x: float) -> str:
    return "nan" if math.isnan(x) else f"{x + 0.0:.2f}".replace("-0.00", "0.00")


def _scores(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"scores are one number per item; got an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"{int((~np.isfinite(x)).sum())} of {len(x)} scores are NaN or infinite; "
            "leave out what has no score, and report how many there were"
        )
    return x


def _codes(clusters: Clusters | None, n: int) -> tuple[NDArray[np.intp], int]:
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


def _standard_error(x: Floats, codes: NDArray[np.intp], count: int) -> float:
    """Miller's clustered standard error of the mean; with one item per cluster, sd / sqrt(n). NaN for one item."""
    if count < 2:
        return NAN
    if x.min() == x.max():  # not the rounding error of the mean
        return 0.0
    totals = np.bincount(codes, weights=x - x.mean())
    squares = float((totals**2).sum())
    se = math.sqrt(count / (count - 1) * squares) / len(x)
    return 0.0 if se < 1e-14 else se


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


def _adjusted_wald(value: float, wins: int, losses: int, n: int, units: int, level: float) -> Difference:
    """Bonett and Price: one more discordant pair each way, among `units` independent pairs."""
    b, c = wins * units / n, losses * units / n
    win, loss = (b + 1) / (units + 2), (c + 1) / (units + 2)
    se = math.sqrt((win + loss - (win - loss) ** 2) / (units + 2))
    centre, half = win - loss, _z(level) * se
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    p = mcnemar(round(b), round(c))
    return Difference(value, low, high, n, level, "bonett-price", se, p, wins, losses)


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage in (0, 1), such as 0.95; got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _t(level: float, df: int) -> float:
    if df < 1:
        return NAN
    _z(level)  # the same check of the level
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _t_test(t: float, df: int) -> float:
    if df < 1 or math.isnan(t):
        return NAN
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(t)))


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
