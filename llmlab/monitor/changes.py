"""Change points of a series: where its level moved, how far, and between which dates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from llmlab import stats
from llmlab.monitor.items import Items
from llmlab.monitor.readings import Side, alike, common, drop_p
from llmlab.monitor.rounds import Floats, Round, Series

_LEAST = 2
"""Rounds on each side of a change."""
_DRAWS = 400


@dataclass(frozen=True)
class Change:
    """A lasting move of a score.

    Attributes:
        model, benchmark: of the series.
        at: first round of the new level; earliest and latest bound it (bootstrap over items, 95 %).
        difference: new level minus old, in [-1, 1], paired by item, with low and high.
        p: of "no move", after Bonferroni over all places where it could have been.
    """

    model: str
    benchmark: str
    at: datetime
    earliest: datetime
    latest: datetime
    difference: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        move = "fell" if self.difference < 0 else "rose"
        between = f"between {self.earliest:%Y-%m-%d} and {self.latest:%Y-%m-%d}"
        return (
            f"{self.model} on {self.benchmark} {move} by {abs(100 * self.difference):.1f} points "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}] on {self.at:%Y-%m-%d} (95 %: {between})"
        )


def changes(rounds: Sequence[Round], items: Mapping[str, Items], alpha: float = 0.05, seed: int = 0) -> list[Change]:
    """Change points of every series of the last round, oldest first.

    Single rounds that stand out are set aside first. Optimal partitioning then proposes places on the mean over items
    (least squares, penalty 3 sigma^2 log T, sigma from the items' variance between neighbouring rounds); a place is
    kept only if the paired test of the levels on both sides shows the move.

    Args:
        rounds: complete ones, oldest first.
        items: by their hash; items that are not in every round are left out.
        alpha: chance of a false change point in a series.
        seed: of the bootstrap.

    Sources: Killick, Fearnhead and Eckley (2012), https://doi.org/10.1080/01621459.2012.737745 (as in
    `ruptures`); the interval is a percentile bootstrap that draws items.
    """
    found = []
    by_key = [{s.key: s for s in r.series} for r in rounds]
    for series in rounds[-1].series if rounds else ():
        places, scores, asked = _grid([of.get(series.key) for of in by_key], series, items)
        if len(places) >= 2 * _LEAST and scores.size:
            dates = [rounds[place].at for place in places]
            found += _changes(series.key, dates, scores, asked, alpha, np.random.default_rng(seed))
    return found


def fell(rounds: Sequence[Round], key: tuple[str, str], items: Mapping[str, Items]) -> int | None:
    """Where the first round is after the latest fall of a series; None when it never fell.

    It is proposed as in `changes`, and not tested: this dates a fall that was shown otherwise.
    """
    series = rounds[-1].find(key)
    if series is None:
        return None
    places, scores, _ = _grid([r.find(key) for r in rounds], series, items)
    if len(places) < 2 or not scores.size:
        return None
    bounds = [0, *_proposed(scores, 1), len(scores)]
    levels = [float(scores[a:b].mean()) for a, b in itertools.pairwise(bounds)]
    steps = [b - a for a, b in itertools.pairwise(levels)]
    while steps and steps[-1] >= 0:
        steps.pop()
    if not steps:
        return None
    # noise may break one fall into several: of those in a row the largest counts
    lead = next((i for i in reversed(range(len(steps))) if steps[i] >= 0), -1) + 1
    largest = min(range(lead, len(steps)), key=lambda i: steps[i])
    return places[bounds[largest + 1]]


def _grid(
    rounds: Sequence[Series | None], series: Series, items: Mapping[str, Items]
) -> tuple[list[int], Floats, Floats]:
    """Places of the rounds that measured a series as the last one does; (rounds, items) scores, and how often asked."""
    having = [(i, s) for i, s in enumerate(rounds) if s is not None and alike(s, series)]
    where, _ = common([s for _, s in having], items)
    scores = np.stack([s.scores[w] for (_, s), w in zip(having, where, strict=True)])
    asked = np.stack([s.numbers["asked"][w] for (_, s), w in zip(having, where, strict=True)])
    kept = ~np.isnan(scores).any(axis=0)
    return [i for i, _ in having], scores[:, kept], asked[:, kept]


def _changes(
    key: tuple[str, str],
    dates: Sequence[datetime],
    scores: Floats,
    asked: Floats,
    alpha: float,
    rng: np.random.Generator,
) -> list[Change]:
    lasting = _lasting(scores)
    dates = [date for date, kept in zip(dates, lasting, strict=True) if kept]
    scores, asked = scores[lasting], asked[lasting]
    places, start = [*_proposed(scores, _LEAST), len(scores)], 0
    made = []
    for place, end in itertools.pairwise(places):
        found, p = _move(scores[start:end], asked[start:end], place - start)
        p = min(1.0, p * (len(scores) - 1))
        if p >= alpha:
            continue  # the next one is compared with both stretches together
        low, high = _interval(scores[start:end], rng)
        bounds = (dates[place], dates[start + low], dates[start + high])
        made.append(Change(*key, *bounds, found.value, found.low, found.high, p))
        start = place
    return made


def _lasting(scores: Floats) -> NDArray[np.bool_]:
    """Rounds that do not stand alone: one bad night is no change of level, and must not look like two changes."""
    places = [0, *_proposed(scores, 1), len(scores)]
    made = np.ones(len(scores), dtype=bool)
    for start, end in itertools.pairwise(places):
        made[start:end] = end - start >= _LEAST
    return made if made.sum() >= 2 * _LEAST else np.ones(len(scores), dtype=bool)


def _proposed(scores: Floats, least: int) -> list[int]:
    """Places where the mean moves, by the least squares that a penalty for each place allows."""
    import ruptures

    means = scores.mean(axis=1)
    noise = np.median(np.diff(scores, axis=0).var(axis=1)) / 2 / scores.shape[1]
    # a deterministic model has no noise at all: then whatever moves by more than a tenth of an item is a move
    penalty = 3 * max(noise, (0.1 / scores.shape[1]) ** 2) * np.log(len(means))
    # a linear kernel is least squares, and unlike `ruptures.Pelt` it runs in C: a year of nights takes a millisecond
    found = ruptures.KernelCPD(kernel="linear", min_size=least).fit(means[:, None]).predict(pen=penalty)
    return [int(place) for place in found[:-1]]


def _move(scores: Floats, asked: Floats, place: int) -> tuple[stats.Difference, float]:
    before, now = (
        Side((scores[part] * asked[part]).sum(axis=0), asked[part].sum(axis=0))
        for part in (slice(None, place), slice(place, None))
    )
    found = stats.paired(now.total / now.asked, before.total / before.asked)
    if found.value > 0:  # a rise is a fall of the wrong answers
        now, before = (Side(side.asked - side.total, side.asked) for side in (now, before))
        turned = stats.paired(now.total / now.asked, before.total / before.asked)
        return found, 2 * drop_p(now, before, turned)
    return found, 2 * drop_p(now, before, found)


def _interval(scores: Floats, rng: np.random.Generator) -> tuple[int, int]:
    """First and last place of the change in 95 % of the redrawn item sets."""
    n = scores.shape[1]
    weights = rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS)
    places = _best_split(weights @ scores.T / n)
    low, high = np.quantile(places, [0.025, 0.975], method="nearest")
    return int(low), int(high)


def _best_split(means: Floats) -> Floats:
    """(draws, rounds) -> (draws,) first round after the split with the least squares."""
    t = means.shape[1]
    sums = np.cumsum(means, axis=1)
    left = np.arange(1, t)
    gain = sums[:, :-1] ** 2 / left + (sums[:, -1:] - sums[:, :-1]) ** 2 / (t - left)
    made: Floats = gain.argmax(axis=1) + 1
    return made
