"""All rounds of a watch as a table, with the change points and a picture."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmlab import stats
from llmlab.errors import DataError, UnknownName
from llmlab.monitor.changes import Change, changes
from llmlab.monitor.items import Items
from llmlab.monitor.rounds import FLAGS, Round, Series
from llmlab.results import display
from llmlab.types import NAN

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_COLUMNS = [
    *("round", "at", "model", "benchmark", "protocol", "metric", "n", "score", "low", "high", "cost", "cost_per_1000"),
    *("seconds", "seconds_p95", "input_tokens", "output_tokens", *FLAGS, "model_version", "prompts", "run", "error"),
]


class History:
    """What a watch has seen so far. `frame` is a DataFrame, `changes` are the change points, `plot` draws both."""

    def __init__(self, name: str, rounds: Sequence[Round], items: Mapping[str, Items], baseline: str = "") -> None:
        self.name = name
        self.rounds = list(rounds)
        self.baseline = baseline
        self._items = items

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """A line per round, model and benchmark, in the order in which the rounds were made.

        at is in UTC; score is in [0, 1] with its 95 % interval low and high (over items, one round); cost in US
        dollars, NaN when unpriced; seconds is the median; truncated, refused, unparsable and failed are shares.
        """
        return self._lines(self.rounds)

    def _lines(self, rounds: Sequence[Round]) -> pd.DataFrame:
        import pandas as pd

        lines = [_line(r, s, self._items[s.items]) for r in rounds for s in r.series]
        made = pd.DataFrame(lines, columns=_COLUMNS)
        made["at"] = pd.to_datetime(made["at"], utc=True)
        return made

    @functools.cached_property
    def changes(self) -> list[Change]:
        """Lasting moves of the scores, with date and interval."""
        return changes(self.rounds, self._items)

    @property
    def models(self) -> list[str]:
        """Labels, in the order of the rounds."""
        return list(dict.fromkeys(s.model for r in self.rounds for s in r.series))

    @property
    def benchmarks(self) -> list[str]:
        """Names, in the order of the rounds."""
        return list(dict.fromkeys(s.benchmark for r in self.rounds for s in r.series))

    def only(self, models: Collection[str], benchmarks: Collection[str]) -> History:
        """The part of some models and benchmarks."""
        rounds = [
            replace(r, series=tuple(s for s in r.series if s.model in models and s.benchmark in benchmarks))
            for r in self.rounds
        ]
        return History(self.name, rounds, self._items, self.baseline)

    def plot(self, value: str = "score", benchmark: str | None = None, title: str | None = None) -> Axes | Figure:
        """The trend of "score", "cost_per_1000" or "seconds"; several benchmarks stand above each other.

        Raises:
            UnknownName: for a benchmark or value that is not there.
            DataError: when there is no round yet.
        """
        from llmlab.plots import trend

        if value not in ("score", "cost_per_1000", "seconds"):
            raise UnknownName.among("trend", value, ("score", "cost_per_1000", "seconds"))
        if benchmark is not None and benchmark not in self.benchmarks:
            raise UnknownName.among("benchmark in this history", benchmark, self.benchmarks)
        if not len(self.frame):
            raise DataError(f"the watch {self.name!r} has no rounds to draw yet; `watch.run()` makes one")
        names = [benchmark] if benchmark else self.benchmarks
        if len(names) == 1:
            return trend.trend(self._of(names[0]), value, self._marks(names[0], value), title=title)
        parts = [(f"{name}: {self._said(name)}", self._of(name), self._marks(name, value), NAN) for name in names]
        return trend.panels(parts, value)

    def _of(self, benchmark: str) -> pd.DataFrame:
        rows: pd.DataFrame = self.frame[self.frame["benchmark"] == benchmark]
        return rows

    def _marks(self, benchmark: str, value: str) -> list[Change]:
        return [c for c in self.changes if c.benchmark == benchmark] if value == "score" else []

    def _said(self, benchmark: str) -> str:
        marks = self._marks(benchmark, "score")
        return display.count(len(marks), "change of level") if marks else "no lasting change"

    def __len__(self) -> int:
        return len(self.rounds)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        latest = self._lines(self.rounds[-1:])
        headers = ["model", "benchmark", "n", "score", "95 % interval", "cost", "seconds"]
        rows = [
            [
                str(line.model),
                str(line.benchmark),
                f"{line.n:,}",
                display.percent(float(line.score)),  # type: ignore[arg-type]  # a float
                display.interval(float(line.low), float(line.high)),  # type: ignore[arg-type]
                display.dollars(float(line.cost)),  # type: ignore[arg-type]
                display.seconds(float(line.seconds)),  # type: ignore[arg-type]
            ]
            for line in latest.itertuples()
        ]
        return headers, rows

    def __repr__(self) -> str:
        head = f"History of {self.name}: {display.count(len(self.rounds), 'round')}"
        if not self.rounds:
            return f"{head}; `watch.run()` makes one"
        head += f", {self.rounds[0].slot} to {self.rounds[-1].slot}; the latest:"
        headers, rows = self._table()
        return "\n".join([head, display.text_table(headers, rows, right=(2, 3, 5, 6)), *map(str, self.changes)])

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        headers, rows = self._table()
        caption = repr(self).split("\n", 1)[0]
        notes = [str(change) for change in self.changes]
        return fragment("comparison", headers=headers, rows=rows, caption=caption, notes=notes)


def _line(made: Round, series: Series, items: Items) -> list[Any]:
    score = _estimate(series.scores, items)
    answers = float(series.numbers["asked"].sum())
    return [
        *(made.slot, made.at, series.model, series.benchmark, series.protocol, series.metric),
        *(score.n, score.value, score.low, score.high),
        *(series.cost, 1000 * series.cost / answers if answers else NAN),
        *(*series.seconds, *series.tokens, *(series.rate(flag) for flag in FLAGS)),
        *(series.facts.get("model_version", ""), series.facts.get("prompts", ""), made.run, series.error),
    ]


def _estimate(scores: NDArray[np.float64], items: Items) -> stats.Estimate:
    known = scores == scores
    labels = [c for c, keep in zip(items.clusters, known, strict=True) if keep] if items.clusters else None
    return stats.mean(scores[known], labels, bounds=(0.0, 1.0))
