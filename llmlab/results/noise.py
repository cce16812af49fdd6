"""How much of a score is the prompt: its variance split into template, order of options, worked examples and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmlab.benchmarks.variants import variant
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.summary import cost, summary, unscored
from llmlab.stats.components import components, jackknife

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_TOGETHER, _ITEMS = "together", "items"


@dataclass(frozen=True, repr=False)
class Noise:
    """Where the variance of a score comes from, when it is measured once: by one wording, on n items.

    Attributes:
        table: a line per model, suite and source: levels, n items, sd (standard deviation that the source alone gives
            the score, in [0, 1]), share of the variance with low and high, cost in US dollars of all its answers.
            Sources are what varies, "together" (template and order that suit each other) and "items" (which n items
            were asked, and that wordings suit items differently). The intervals are over items; the wordings are
            those that were tried.
        scores: the score of every wording, a line of `Results.summary` with a column for all that varies.
        left_out: items that lack a score under some wording, by model.
        level: coverage of the intervals.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    left_out: Mapping[str, int]
    level: float = 0.95

    def findings(self) -> list[str]:
        """A sentence per model and suite."""
        found = []
        for (model, suite), lines in self.table.groupby(["model", "benchmark"], sort=False):
            own = self.scores[(self.scores["model"] == model) & (self.scores["benchmark"] == suite)]
            low, high = (best(records(own), key=lambda line: line["score"]) for best in (min, max))
            worst = max(records(lines[lines["source"] != _ITEMS]), key=lambda line: line["share"])
            said = (
                f"{model} on {suite}: between {display.percent(low['score'])} ({low['variant']}) and "
                f"{display.percent(high['score'])} ({high['variant']}) by wording alone; of the variance of one score "
                f"on {worst['n']:,} items, {display.percent(worst['share'], 0)} "
                f"{display.interval(worst['low'], worst['high'])} is {_MEANING.get(worst['source'], worst['source'])}"
            )
            lost = self.left_out.get(str(model), 0)
            found.append(said + (f"; {display.count(lost, 'item')} without a score left out" if lost else "") + ".")
        return found

    def plot(self, ax: Axes | None = None) -> Axes:
        """A bar per model: the sources of its variance, with intervals, n and cost."""
        from llmlab import plots

        return plots.noise(self.table, ax=ax)

    def __repr__(self) -> str:
        return "\n".join([display.text_table(*self._cells()), *self.findings()])

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        headers, rows = self._cells()
        caption = f"Where the variance of a score comes from, {100 * self.level:g} % intervals over items"
        return fragment("comparison", headers=headers, rows=rows, caption=caption, notes=self.findings())

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        headers = ["model", "suite", "source", "levels", "n", "sd, points", "share of variance", "interval", "cost"]
        rows = [
            [
                *(line["model"], line["benchmark"], line["source"], f"{line['levels']}", f"{line['n']:,}"),
                *(f"{100 * line['sd']:.1f}", display.percent(line["share"])),
                *(display.interval(line["low"], line["high"]), display.dollars(line["cost"])),
            ]
            for line in records(self.table)
        ]
        return headers, rows


_MEANING = {
    "template": "the template's",
    "order": "that of the order of the options",
    "shots": "that of the draw of examples",
    _TOGETHER: "that of what varies together",
}


def noise(frame: pd.DataFrame, level: float = 0.95) -> Noise:
    """What `Results.noise` gives."""
    import pandas as pd

    names = [variant(name) for name in frame["benchmark"]]
    varied: list[Any] = [what for _, what in names]
    frame = frame.assign(suite=[name for name, _ in names], varied=varied)
    frame = frame[[bool(what) for what in frame["varied"]]]
    if frame.empty:
        raise DataError("nothing varies in these results; ask lab.suites(data, template={...}), and see its orders=")
    lines: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for (model, suite, protocol), rows in frame.groupby(["model", "suite", "protocol"], sort=False):
        facets, values, clusters, lost = _crossed(rows)
        head = {"model": str(model), "benchmark": str(suite), "protocol": str(protocol)}
        paid = cost(rows["cost"].to_numpy(), (rows["error"] == "").to_numpy())[0]
        lines += [{**head, **line, "cost": paid} for line in _split(facets, values, clusters, level)]
        if lost:
            left_out[str(model)] = left_out.get(str(model), 0) + lost
    scores = summary(frame, level)
    read = [variant(name) for name in scores["benchmark"]]
    said = [", ".join(f"{key} {value}" for key, value in what.items()) for _, what in read]
    scores = scores.assign(benchmark=[name for name, _ in read], variant=said)
    return Noise(pd.DataFrame(lines), scores, left_out, level)


def _crossed(rows: pd.DataFrame) -> tuple[dict[str, int], NDArray[np.float64], list[str], int]:
    """Levels of each facet; scores with an axis per facet, the items last; clusters; and items left out.

    Raises:
        DataError: when a combination was not asked.
    """
    facets = {name: list(dict.fromkeys(what[name] for what in rows["varied"])) for name in rows["varied"].iloc[0]}
    scored = rows[~unscored(rows)]
    by: dict[tuple[str, ...], Any] = {
        tuple(variant(str(name))[1].values()): group.groupby("sample", sort=False)["score"].mean()
        for name, group in scored.groupby("benchmark", sort=False)
    }
    missing = [cell for cell in product(*facets.values()) if cell not in by]
    if missing:
        lacking = ", ".join(f"{k}={v}" for k, v in zip(facets, missing[0], strict=True))
        raise DataError(f"the variance is split when every combination has scores; there are none for [{lacking}]")
    asked = list(dict.fromkeys(rows["sample"]))
    common = set.intersection(*(set(scores.index) for scores in by.values()))
    kept = [sample for sample in asked if sample in common]
    if len(kept) < 2:
        raise DataError(f"the variance is split over items; {display.count(len(kept), 'item')} has all its scores")
    cells = [by[cell].loc[kept].to_numpy() for cell in product(*facets.values())]
    varying = {name: len(values) for name, values in facets.items() if len(values) > 1}
    if not varying:
        raise DataError("only one wording is in these results; the variance is split between two or more")
    values = np.array(cells).reshape(*varying.values(), len(kept))
    clusters = rows.drop_duplicates("sample").set_index("sample")["cluster"].loc[kept].tolist()
    return varying, values, clusters, len(asked) - len(kept)


def _split(
    facets: Mapping[str, int], values: NDArray[np.float64], clusters: Sequence[str], level: float
) -> list[dict[str, Any]]:
    """A line per source."""
    sources = [*facets, *([_TOGETHER] if len(facets) > 1 else []), _ITEMS]
    n = values.shape[-1]

    def shares(some: NDArray[Any]) -> NDArray[np.float64]:
        parts = _parts(some, len(sources), n)
        return parts / parts.sum() if parts.sum() > 0 else np.zeros(len(sources))

    found = jackknife(values, shares, clusters, level, (0.0, 1.0))
    sizes = {**facets, _TOGETHER: int(np.prod(list(facets.values()))), _ITEMS: n}
    return [
        {"source": s, "levels": sizes[s], "n": n, "sd": float(v**0.5), "share": e.value, "low": e.low, "high": e.high}
        for s, v, e in zip(sources, _parts(values, len(sources), n), found, strict=True)
    ]


def _parts(values: NDArray[Any], sources: int, n: int) -> NDArray[np.float64]:
    """Variance that each source gives a score on n items: components with items are averaged over them."""
    parts = np.zeros(sources)
    items = values.ndim - 1
    for axes, variance in components(values).items():
        place = sources - 1 if items in axes else axes[0] if len(axes) == 1 else sources - 2
        parts[place] += variance / (n if items in axes else 1)
    # unbiased estimates of what is 0 fall below it half of the time
    return np.maximum(parts, 0.0)
