"""What tonight's numbers say against earlier rounds: one `Reading` per quantity, corrected for all of them.

Scores and rates are paired by item. Seconds and costs are not: all answers of a round share the load of that hour, so
a round is one observation, and is compared with the spread of earlier rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmlab import stats
from llmlab.errors import DataError
from llmlab.monitor.items import Items, difference, same
from llmlab.monitor.rounds import FLAGS, Floats, Round, Series
from llmlab.stats.estimate import t_quantile, t_test
from llmlab.stats.strata import fewer
from llmlab.types import NAN

if TYPE_CHECKING:
    from llmlab.monitor.config import Settings

Places: TypeAlias = NDArray[np.intp]
"""Indices into a series' items."""

WINDOWS = (1, 3, 7)
"""Rounds that are pooled for tonight's side: one night sees a fall, a week sees a slope."""
_HISTORY = 60
_SPREAD = 5
"""Earlier rounds from which the spread between rounds can be told."""
_FLOOR = 0.01
"""Smallest spread between rounds that is believed, in logarithms: about 1 %."""
_MAYBE = 0.2


@dataclass(frozen=True)
class Reading:
    """One quantity against earlier rounds.

    Attributes:
        model, benchmark: of the series.
        what: "score", "cost", "median seconds", "p95 seconds", or a flag: "truncated", "refused", ...
        against: "baseline" or "history".
        rounds: how many rounds are pooled on the side of now, and on the side of before.
        n: items that both sides have; for cost and seconds the rounds before.
        now, before: the two means; cost in US dollars per answer.
        difference: now - before for scores and rates, now / before - 1 for cost and seconds, with `low` and `high`.
        p: one-sided, "no fall" for scores and "no rise" for the rest; NaN when nothing could be tested.
        p_adjusted: after Holm or Benjamini-Hochberg over all readings of a round, times the rounds that share alpha.
        detectable: smallest change that this reading would have shown with probability 0.8 after correction.
        shown: whether p_adjusted is below alpha.
        first: slot of the first round on the side of now.
    """

    model: str
    benchmark: str
    what: str
    against: Literal["baseline", "history"]
    rounds: tuple[int, int]
    n: int
    now: float
    before: float
    difference: float
    low: float
    high: float
    p: float
    se: float = NAN
    p_adjusted: float = NAN
    detectable: float = NAN
    shown: bool = False
    first: str = ""


class Side(NamedTuple):
    """Rounds pooled by item: sums of scores and answers, in the order of common items."""

    total: Floats
    asked: Floats


class Reference(NamedTuple):
    """What the last round is compared with, as places in the list of rounds: a clock that jumps changes no order.

    baseline: the pinned round. start: from where rounds count as history. since: series -> from where they do not,
    because an alert on the series is open since then.
    """

    baseline: int = 0
    start: int = 0
    since: Mapping[tuple[str, str], int] = {}


def readings(
    rounds: Sequence[Round], reference: Reference, items: Mapping[str, Items], settings: Settings
) -> list[Reading]:
    """Everything that can be read from the last of `rounds`, oldest first; `items` are by their hash.

    Raises:
        DataError: when the baseline's items are not tonight's and `changed_items` is "refuse".
    """
    made: list[Reading] = []
    for series in rounds[-1].series:
        if not np.isnan(series.scores).all():
            made += _of_series(series, rounds, reference, items, settings)
    return corrected(made, settings)


def corrected(made: Sequence[Reading], settings: Settings) -> list[Reading]:
    """The readings with adjusted p-values, verdicts, and what each could have seen."""
    adjust = stats.holm if settings.correction == "holm" else stats.benjamini_hochberg
    adjusted = np.minimum(1.0, adjust([r.p for r in made]) * settings.rounds)
    tested = sum(not math.isnan(r.p) for r in made)
    # what a drop must pass that is the only one: the first step of both corrections
    alpha = settings.alpha / settings.rounds / max(tested, 1)
    return [
        replace(r, p_adjusted=float(p), shown=bool(p < settings.alpha), detectable=_detectable(r, alpha))
        for r, p in zip(made, adjusted, strict=True)
    ]


def _detectable(reading: Reading, alpha: float) -> float:
    if reading.what in ("score", *FLAGS):
        if not reading.n or reading.se != reading.se:
            return math.inf
        # a drop adds its own variance, at most that of items which turn for good: d = z sqrt(se^2 + d (1 - d) / n)
        z2 = stats.detectable_with(1.0, alpha=2 * alpha) ** 2
        own = z2 / reading.n
        seen = (own + math.sqrt(own**2 + 4 * (1 + own) * z2 * reading.se**2)) / (2 * (1 + own))
        return seen if seen < 1 else math.inf
    if reading.n < _SPREAD:
        return math.inf
    return math.expm1(reading.se * (t_quantile(1 - 2 * alpha, reading.n - 1) + t_quantile(0.6, reading.n - 1)))


def _of_series(
    series: Series, rounds: Sequence[Round], reference: Reference, items: Mapping[str, Items], settings: Settings
) -> list[Reading]:
    comparable = [
        (i, s)
        for i, r in enumerate(rounds)
        if i >= reference.start and (s := r.find(series.key)) is not None and alike(s, series)
    ]
    if settings.changed_items == "refuse":
        comparable = [(i, s) for i, s in comparable if s.items == series.items]
    usable = reference.since.get(series.key, len(rounds))
    made = []
    for k in WINDOWS:
        window, earlier = comparable[-k:], [pair for pair in comparable[:-k] if pair[0] < usable][-_HISTORY:]
        if len(window) == k and len(earlier) >= (1 if k == 1 else k):
            made += [
                _score(
                    series, [s for _, s in window], [s for _, s in earlier], "history", items, rounds[window[0][0]].slot
                )
            ]
    earlier = [pair for pair in comparable[:-1] if pair[0] < usable][-_HISTORY:]
    if earlier:
        before = [s for _, s in earlier]
        made += [r for flag in FLAGS if (r := _rate(series, before, flag, items)) is not None]
        made += _between_rounds(series, before)
    if (base := _baseline(series, rounds, reference.baseline, items, settings)) is not None:
        made.append(_score(series, [series], [base], "baseline", items, rounds[-1].slot))
    return made


def alike(a: Series, b: Series) -> bool:
    """Whether two series measure the same thing."""
    return a.protocol == b.protocol and a.metric == b.metric and not np.isnan(a.scores).all()


def _baseline(
    series: Series, rounds: Sequence[Round], place: int, items: Mapping[str, Items], settings: Settings
) -> Series | None:
    baseline, now = rounds[place], rounds[-1]
    if baseline is now or (base := baseline.find(series.key)) is None:
        return None
    if base.items != series.items and settings.changed_items == "refuse":
        raise DataError(
            f"{series.model} on {series.benchmark}: the items of the baseline ({baseline.slot}) are not those of "
            f"{now.slot}: {difference(items[base.items], items[series.items])}. Scores on other items cannot be "
            "compared: pin another round as the baseline, or pair on the items that are the same with "
            "changed_items='pair'"
        )
    return base if alike(base, series) else None


# -- paired by item -------------------------------------------------------------------------------------------


def common(series: Sequence[Series], items: Mapping[str, Items]) -> tuple[list[Places], list[str]]:
    """Where the items that all series asked alike are in each of them, and the clusters of these items."""
    last = items[series[-1].items]
    if len({s.items for s in series}) == 1:
        return [np.arange(len(last.contents))] * len(series), list(last.clusters) or [""] * len(last.contents)
    ids = last.ids
    for other in {s.items for s in series} - {series[-1].items}:
        kept = set(same(items[other], last))
        ids = [i for i in ids if i in kept]
    places = {h: {name: i for i, name in enumerate(items[h].contents)} for h in {s.items for s in series}}
    where = [np.array([places[s.items][i] for i in ids], dtype=np.intp) for s in series]
    clusters = dict(zip(last.contents, last.clusters, strict=True)) if last.clusters else {}
    return where, [clusters.get(i, "") for i in ids]


def _pooled(series: Sequence[Series], where: Sequence[Places]) -> Side:
    scores = np.stack([s.scores[w] for s, w in zip(series, where, strict=True)])
    asked = np.stack([s.numbers["asked"][w] for s, w in zip(series, where, strict=True)])
    return Side(np.nansum(scores * asked, axis=0), np.where(np.isnan(scores), 0.0, asked).sum(axis=0))


def _score(
    series: Series,
    window: Sequence[Series],
    earlier: Sequence[Series],
    against: Literal["baseline", "history"],
    items: Mapping[str, Items],
    first: str,
) -> Reading:
    where, clusters = common([*window, *earlier, series], items)
    now = _pooled(window, where[: len(window)])
    before = _pooled(earlier, where[len(window) : -1])
    both = (now.asked > 0) & (before.asked > 0)
    now, before = Side(*(a[both] for a in now)), Side(*(a[both] for a in before))
    labels = [c for c, keep in zip(clusters, both, strict=True) if keep]
    x, y = now.total / now.asked, before.total / before.asked
    found = stats.paired(x, y, labels if any(labels) else None)
    return Reading(
        series.model, series.benchmark, "score", against, (len(window), len(earlier)), found.n,
        float(x.mean()) if len(x) else NAN, float(y.mean()) if len(y) else NAN,
        found.value, found.low, found.high, drop_p(now, before, found), found.se, first=first,
    )  # fmt: skip


def drop_p(now: Side, before: Side, found: stats.Difference) -> float:
    """One-sided p-value of "no drop": the larger of two tests, so that a drop is shown only by both.

    The paired test asks whether items like these got worse; it allows for a model that was changed for neither better
    nor worse, whose answers merely flip. The exact stratified test asks whether anything changed at all beyond the
    usual noise of each item; it needs no approximation. Scores that are not right-or-wrong have the first only.
    """
    p = found.p / 2 if found.value < 0 else 1 - found.p / 2
    hits = [np.rint(side.total) for side in (now, before)]
    counts = all(np.allclose(h, side.total, atol=1e-6) for h, side in zip(hits, (now, before), strict=True))
    if math.isnan(p) or p > _MAYBE or not counts:  # a drop that the first test does not see needs no second
        return p
    return max(p, fewer(hits[0], now.asked, hits[1], before.asked))


def _rate(series: Series, earlier: Sequence[Series], flag: str, items: Mapping[str, Items]) -> Reading | None:
    """Rise of the share of answers with a flag; None when there was none on either side, so nothing to test.

    A test that could not have rejected whatever happened need not be corrected for: Tarone (1990),
    https://doi.org/10.2307/2531456
    """
    where, _ = common([*earlier, series], items)
    sides = []
    for group, places in (([series], where[-1:]), (earlier, where[:-1])):
        numbers = [{k: s.numbers[k][w] for k in (flag, "asked", "failed")} for s, w in zip(group, places, strict=True)]
        trials = np.sum([m["asked"] + m["failed"] for m in numbers], axis=0)
        sides.append((np.minimum(np.sum([m[flag] for m in numbers], axis=0), trials), trials))
    (now, asked), (before, asked_before) = sides
    both = (asked > 0) & (asked_before > 0)
    now, asked, before, asked_before = now[both], asked[both], before[both], asked_before[both]
    if not (now.sum() or before.sum()):
        return None
    found = stats.paired(now / asked, before / asked_before)
    p = fewer(asked - now, asked, asked_before - before, asked_before) if found.value > 0 else 1.0
    means = float((now / asked).mean()), float((before / asked_before).mean())
    return Reading(
        series.model, series.benchmark, flag, "history", (1, len(earlier)), found.n, *means,
        found.value, found.low, found.high, p, found.se,
    )  # fmt: skip


# -- a round is one observation -------------------------------------------------------------------------------


def _between_rounds(series: Series, earlier: Sequence[Series]) -> list[Reading]:
    """Cost per answer and the quantiles of the seconds against their spread between rounds."""
    made = []
    for what in ("cost", "median seconds", "p95 seconds"):
        now, before = _value(series, what), np.array([v for s in earlier if (v := _value(s, what)) > 0])
        if now > 0 and len(before):
            made.append(_against_spread(series, what, now, np.log(before)))
    return made


def _value(series: Series, what: str) -> float:
    if what == "cost":
        return float(series.cost / max(series.numbers["asked"].sum(), 1.0))
    return series.seconds[0 if what == "median seconds" else 1]


def _against_spread(series: Series, what: str, now: float, logs: Floats) -> Reading:
    """The prediction interval of one more round, from the logarithms of the rounds before."""
    m, centre = len(logs), float(logs.mean())
    gap = math.log(now) - centre
    p = se = half = NAN
    if m >= _SPREAD:
        se = max(float(logs.std(ddof=1)), _FLOOR) * math.sqrt(1 + 1 / m)
        two_sided = t_test(gap / se, m - 1)
        p = two_sided / 2 if gap > 0 else 1 - two_sided / 2
        half = t_quantile(0.95, m - 1) * se
    return Reading(
        series.model, series.benchmark, what, "history", (1, m), m, now, math.exp(centre),
        math.expm1(gap), math.expm1(gap - half), math.expm1(gap + half), p, se,
    )  # fmt: skip
