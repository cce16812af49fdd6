"""How many items a question needs, from what is known about how far models disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, SupportsFloat

from llmlab.errors import DataError, StoreError, UnknownName
from llmlab.evaluation.plan import at_least_one
from llmlab.stats import paired, sample_size
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.results import Results
    from llmlab.store import Store

_USUAL = 0.2
_RUNS_LOOKED_AT = 20


@dataclass(frozen=True)
class Plan:
    """How many items find a difference.

    Attributes:
        n: items, each asked `repeats` times of both models; at the largest disagreement of the pairs.
        low, high: n at the bounds of the 95 % interval of the disagreement; NaN when it was stated or assumed.
        delta: the true difference of mean scores to be found, in [0, 1].
        disagreement: variance of the difference per item; for right-or-wrong scores the share of items on which two
            models differ.
        source: where the disagreement is from, in words.
        table: a line per pair of models in the history: a, b, benchmark, items, disagreement, correlation of their
            scores, n, low, high.
    """

    n: int
    low: float
    high: float
    delta: float
    disagreement: float
    power: float
    alpha: float
    repeats: int
    source: str
    table: pd.DataFrame

    def __repr__(self) -> str:
        each = f", each asked {self.repeats} times" if self.repeats > 1 else ""
        said = (
            f"{self.n:,} items{each} find a true difference of {100 * self.delta:g} points with probability "
            f"{self.power:.0%} (two-sided {self.alpha:.2g}), at a disagreement of {self.disagreement:.3f}: "
            f"{self.source}"
        )
        return (
            f"{said}; between {self.low:,.0f} and {self.high:,.0f} as far as that tells."
            if self.low > 0
            else f"{said}."
        )

    def _repr_markdown_(self) -> str:
        return repr(self)


def plan(
    delta: float = 0.03,
    *,
    history: Results | None = None,
    benchmark: str | None = None,
    models: Sequence[str] | None = None,
    disagreement: float | None = None,
    sd: float | None = None,
    correlation: float | None = None,
    repeats: int = 1,
    comparisons: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
    store: str | Store | None = None,
) -> Plan:
    """The number of items that a paired comparison needs to find a true difference of `delta`.

    How far two models disagree decides it: say it (`disagreement`, or `sd` of the scores and their `correlation`), show
    `history`, or name a `benchmark` whose latest run in the store shows it; else a fifth of the items is assumed.

    Args:
        delta: difference of mean scores, in (0, 1].
        history: Results of two models or more, on few items perhaps.
        benchmark: takes only this one of the history, or looks for it in the store.
        models: takes only these of the history.
        disagreement: variance of the difference per item, in (0, 1] for right-or-wrong scores.
        sd: standard deviation of the scores, taken to be the same for both models.
        correlation: between the two models' scores of an item; the disagreement is then 2 sd^2 (1 - correlation).
        repeats: answers per item. With a history of repeated answers their noise is averaged out accordingly.
        comparisons: how many there will be; alpha is divided by it (Bonferroni), as the first step of Holm needs.
        power: probability of finding it.
        alpha: two-sided level of the test.
        store: where to look for the benchmark; None is the default store.

    Raises:
        DataError: when the history holds no two models on the same items, or things are said twice.

    Source: Miller (2024), https://arxiv.org/abs/2411.00640, section 5.

    >>> plan(0.03, disagreement=0.2).n
    1745
    """
    import pandas as pd

    at_least_one(comparisons=comparisons, repeats=repeats)
    if not (isinstance(delta, SupportsFloat) and 0 < delta <= 1):
        raise DataError(f"delta is a difference of scores, in (0, 1], such as 0.03 for 3 points; got {delta!r}")
    level = alpha / comparisons
    told = _stated(disagreement, sd, correlation)
    if told is not None and history is not None:
        raise DataError("the disagreement is stated and a history given; give one of the two")
    if told is None and history is None and benchmark is not None:
        history = _stored(benchmark, store)
    if history is not None:
        lines = _pairs(_chosen(history, benchmark, models), delta, repeats, power, level)
        most = max(lines, key=lambda line: line["n"])
        source = f"{most['a']} and {most['b']} on {most['items']:,} items of {most['benchmark']}"
        table = pd.DataFrame(lines)
        numbers = (most["n"], most["low"], most["high"], delta, most["disagreement"])
        return Plan(*numbers, power, alpha, repeats, source, table)
    value, source = (_USUAL, "assumed, for want of a history") if told is None else (told, "as stated")
    n = sample_size(delta, value, power, level)
    return Plan(n, NAN, NAN, delta, value, power, alpha, repeats, source, pd.DataFrame())


def _stated(disagreement: float | None, sd: float | None, correlation: float | None) -> float | None:
    if (sd is None) != (correlation is None):
        raise DataError("sd and correlation go together: lab.plan(0.03, sd=0.5, correlation=0.6)")
    if disagreement is not None and sd is not None:
        raise DataError("give the disagreement, or sd and correlation")
    if sd is not None and correlation is not None:
        if not (sd > 0 and -1 <= correlation < 1):
            raise ValueError(f"sd is positive and correlation in [-1, 1); got {sd} and {correlation}")
        return 2 * sd**2 * (1 - correlation)
    if disagreement is not None and not disagreement > 0:
        raise ValueError(f"a disagreement is a variance, above 0; got {disagreement}")
    return disagreement


def _stored(benchmark: str, store: str | Store | None) -> Results:
    """The latest run in which two models answered the benchmark."""
    from llmlab.evaluation.evaluate import opened
    from llmlab.results import Results

    with opened(store) as source:
        runs = source.runs()
        fit = [run for run, line in runs.iterrows() if benchmark in line["benchmarks"] and len(line["models"]) > 1]
        for run in fit[:_RUNS_LOOKED_AT]:
            found = Results(source.results(str(run))).filter(benchmark=benchmark)
            if len(found.models) > 1:
                return found
    raise StoreError(
        f"the store has no run of two models on {benchmark!r}; give history= or disagreement=, "
        "or leave benchmark out to assume that they disagree on a fifth"
    )


def _chosen(history: Results, benchmark: str | None, models: Sequence[str] | None) -> Results:
    wanted: dict[str, Any] = {} if benchmark is None else {"benchmark": benchmark}
    if models is not None:
        unknown = next((m for m in models if m not in history.models), None)
        if unknown is not None:
            raise UnknownName.among("model in the history", unknown, history.models)
        wanted["model"] = list(models)
    return history.filter(**wanted) if wanted else history


def _pairs(history: Results, delta: float, repeats: int, power: float, alpha: float) -> list[dict[str, Any]]:
    from llmlab.results.summary import unscored

    frame = history.samples[~unscored(history.samples)]
    lines = []
    for (name, _, _), rows in frame.groupby(["benchmark", "benchmark_version", "protocol"], sort=False):
        per = rows.groupby(["model", "sample"], sort=False)["score"].agg(["mean", "var", "count"])
        clusters = rows.drop_duplicates("sample").set_index("sample")["cluster"]
        by = {str(model): per.loc[model] for model in dict.fromkeys(rows["model"])}
        for a, b in combinations(by, 2):
            both = by[a].index.intersection(by[b].index)
            if len(both) > 1:
                found = _pair(by[a].loc[both], by[b].loc[both], clusters[both].tolist(), repeats)
                lines.append({"a": a, "b": b, "benchmark": str(name), **found})
    if not lines:
        raise DataError("the history holds no two models that answered the same items, two at least")
    for line in lines:
        line["n"] = sample_size(delta, line["disagreement"], power, alpha)
        for bound in ("low", "high"):
            line[bound] = float(sample_size(delta, line.pop(f"disagreement_{bound}"), power, alpha))
    return lines


def _pair(a: pd.DataFrame, b: pd.DataFrame, clusters: list[str], repeats: int) -> dict[str, Any]:
    found = paired(a["mean"], b["mean"], clusters)
    n = len(a)
    # clustered items are worth fewer: the standard error knows, where there is one
    spread = found.se if not math.isnan(found.se) else 0.0
    variance = max(spread**2 * n, 1 / n)  # two models that never differed may still differ on one item
    noise = float((a["var"] / a["count"] + b["var"] / b["count"]).mean())
    single = float((a["var"] + b["var"]).mean())
    if not math.isnan(single):  # answers were repeated: their noise is known, and shrinks with the repeats
        variance = max(variance - noise, 1 / n) + single / repeats
    low, high = _variance_bounds(variance, n)
    correlation = float(a["mean"].corr(b["mean"])) if a["mean"].std() > 0 and b["mean"].std() > 0 else NAN
    own = {"items": n, "disagreement": variance, "disagreement_low": low, "disagreement_high": high}
    return own | {"correlation": correlation}


def _variance_bounds(variance: float, n: int) -> tuple[float, float]:
    """95 % interval of a variance from n draws, by the chi-squared distribution of normal ones."""
    from scipy.special import chdtri

    return variance * (n - 1) / float(chdtri(n - 1, 0.025)), variance * (n - 1) / float(chdtri(n - 1, 0.975))
