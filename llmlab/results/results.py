"""Results: one row per model, benchmark, sample and repeat, and what follows from them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmlab.errors import DataError, UnknownName
from llmlab.results import display
from llmlab.results.cells import summary_cells
from llmlab.results.comparison import Comparison, compare
from llmlab.results.frame import GROUP, tidy
from llmlab.results.summary import COUNTERS, flags, metrics, summary, unscored, warnings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.results.choosing import Ceiling, Selection
    from llmlab.results.consistency import Consistency
    from llmlab.results.costs import Choice
    from llmlab.results.coverage import Coverage
    from llmlab.results.diff import Diff
    from llmlab.results.noise import Noise
    from llmlab.results.pages import Page
    from llmlab.results.requirement import Evidence, Requirement

_SAME_ROW = ["run", *GROUP, "sample", "repeat"]


class Results:
    """What `lab.evaluate` found. It shows itself as a table, and keeps every row.

    Args:
        rows: dicts or a DataFrame with the columns of `llmlab.results.COLUMNS`; what is missing is unknown.
        status: "complete", or what ended the run early.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] | pd.DataFrame, status: str = "complete") -> None:
        self.samples = tidy(rows)
        """Tidy DataFrame, one row per model, benchmark, sample and repeat."""
        self.status = status
        self.decisions: Sequence[object] | None = None
        """Verdicts of `evaluate(..., until=...)`, and what stopping early saved; None without a rule."""

    # -- what is in it ------------------------------------------------------------------------------------

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the rows."""
        return list(self.samples["model"].unique())

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks, in the order of the rows."""
        return list(self.samples["benchmark"].unique())

    def filter(self, **wanted: Any) -> Results:
        """Only the rows whose columns have the given values: `filter(model="a", benchmark=["x", "y"])`.

        Raises:
            UnknownName: for a column or a value that is not there.
        """
        rows = self.samples
        for column, value in wanted.items():
            if column not in rows:
                raise UnknownName.among("column", column, rows.columns)
            values = list(value) if isinstance(value, list | tuple | set) else [value]
            for one in values:
                if not (self.samples[column] == one).any():
                    raise UnknownName.among(f"{column} in these results", one, map(str, set(self.samples[column])))
            rows = rows[rows[column].isin(values)]
        return Results(rows, self.status)

    def __add__(self, other: Results) -> Results:
        """The rows of both. A row that is in both counts once; answers of other runs count as repeats."""
        import pandas as pd

        if not isinstance(other, Results):
            return NotImplemented
        filled = [r.samples for r in (self, other) if len(r)]
        if not filled:
            return self
        rows = pd.concat(filled, ignore_index=True).drop_duplicates(_SAME_ROW, keep="last")
        return Results(rows, self.status if self.status == other.status else "mixed")

    def __len__(self) -> int:
        return len(self.samples)

    # -- numbers ------------------------------------------------------------------------------------------

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """A line per model, benchmark and protocol (and version and metric): they are never averaged.

        Columns: n items with a score; score, the mean over items (repeats averaged first), in [0, 1]; low and high
        at `level`, clustered where the items have clusters; chance; low_if_all_wrong and high_if_all_right, the
        score had every lost answer been wrong or right; answers, the rows; truncated, empty, refused, unparsable,
        shortened (the prompt lost its beginning), unjudged (no scorer, or nothing to judge by) and failed, how many of
        them; cost in US dollars and per 1000 answers (NaN: unpriced); seconds, the median.
        """
        return summary(self.samples, level)

    def metrics(self, level: float = 0.95) -> pd.DataFrame:
        """The scorers' further numbers (acc_norm, mc2, ...): n, value, low and high for each."""
        return metrics(self.samples, level)

    def compare(self, baseline: str, protocols: Literal["same", "any"] = "same", level: float = 0.95) -> Comparison:
        """Every other model against `baseline`, paired on the items that both have a score for.

        Args:
            baseline: name of a model.
            protocols: "any" also compares models that were asked by different protocols, or on different versions
                of a benchmark; the difference is then partly that of the protocols.
            level: coverage of the intervals; 1 - level is the error rate over all comparisons together (Holm).

        Raises:
            UnknownName: when no such model is in the results.
            DataError: when nothing can be compared; the message says why.
        """
        return compare(self.samples, baseline, protocols, level)

    def published(self, level: float = 0.95) -> pd.DataFrame:
        """Scores beside those that others published for the same models; see `llmlab.results.published`."""
        from llmlab.results.published import published

        return published(self.samples, level)

    def cost(self) -> pd.DataFrame:
        """A line per model and benchmark: dollars, per 1000 answers, per right answer, tokens and what each class cost.

        per_1000 and per_right have intervals (_low, _high). Unpriced is NaN.
        """
        from llmlab.results import costs

        return costs.cost(self.samples)

    def forecast(self, answers: int, level: float = 0.95) -> pd.DataFrame:
        """What so many answers more would cost, by model: US dollars and hours of one call after another.

        Columns: n answers that it rests on, cost with low and high (where the sum of as many new answers should lie),
        batch (by the provider's batch API), hours with hours_low and hours_high. Unpriced is NaN.
        """
        from llmlab.results.spending import forecast

        return forecast(self.samples, answers, level)

    def recommend(self, within: float = 0.02) -> list[str]:
        """What to take and where to save, in sentences with their evidence.

        For each benchmark the cheapest model whose score is at most `within` below the best one's; where most of the
        money goes; and what batch APIs would save.
        """
        from llmlab.results.spending import recommend

        return recommend(self, within)

    def cheapest(self, within: float = 0.02, benchmark: str | None = None) -> Choice:
        """The cheapest model whose score is at most `within` below the best one's, and whether n suffices to show it.

        Raises:
            DataError: when the results hold several benchmarks or protocols and `benchmark` does not choose.
        """
        from llmlab.results import costs

        return costs.cheapest(self, within, benchmark)

    def choose(
        self, min_quality: float | None = None, max_cost: float | None = None, max_seconds: float | None = None
    ) -> Selection:
        """The cheapest model that fulfils the conditions and is not shown to be worse than the best that does.

        Args:
            min_quality: lowest mean score, in [0, 1].
            max_cost: most US dollars per answer.
            max_seconds: highest median of the seconds per answer.

        Raises:
            DataError: when the results hold several benchmarks or protocols; choose one with `filter`.
        """
        from llmlab.results.choosing import choose

        return choose(self, min_quality, max_cost, max_seconds)

    def oracle(self) -> Ceiling:
        """What always taking the best model's answer would reach: the ceiling of routing and ensembles."""
        from llmlab.results.choosing import oracle

        return oracle(self)

    def error_correlation(self) -> pd.DataFrame:
        """How far the models fail on the same items, from -1 to 1; near 1 a vote of them gains little."""
        from llmlab.results.choosing import error_correlation

        return error_correlation(self)

    # -- plots --------------------------------------------------------------------------------------------

    def plot(self, ax: Axes | None = None) -> Axes:
        """Scores with intervals, chance and n; the title says what they show."""
        from llmlab import plots

        summary = self.summary()
        costs = summary.groupby("model", sort=False)["cost"].apply(lambda c: c.sum(skipna=False))
        each = [f"{model} {display.dollars(cost)}" for model, cost in costs.items()]
        if len(each) > 3:
            each = [f"{display.dollars(costs.sum(skipna=False))} for {len(each)} models"]
        note = f"cost: {', '.join(each)}" if costs.notna().any() else ""
        return plots.scores(summary, title=self.finding(), note=note, ax=ax)

    def frontier(self, benchmark: str | None = None, ax: Axes | None = None) -> Axes:
        """Score against cost per 1000 answers, with intervals on both, and the line of the best choices."""
        from llmlab import plots
        from llmlab.results import costs

        return plots.frontier(costs.frontier(self, benchmark), ax=ax)

    def finding(self) -> str:
        """One sentence about who is ahead, as far as the paired comparisons show it."""
        from llmlab.results.findings import finding

        return finding(self.samples)

    # -- answers ------------------------------------------------------------------------------------------

    def failures(self, kind: str | None = None) -> pd.DataFrame:
        """Rows to look at, with a column `why`.

        That is failed, truncated, empty, refused, unparsable, shortened, unjudged or wrong; a row has the first of
        these that fits it. Wrong is an answer that scored 0. `kind` gives one sort only.
        """
        return _failures(self.samples, kind)

    def consistency(self, level: float = 0.95) -> Consistency:
        """How often repeats of an item agree, and how often models agree on the same items, with intervals.

        Raises:
            DataError: when no item has two answers, of one model or of two.
        """
        from llmlab.results.consistency import consistency

        return consistency(self.samples, level)

    def coverage(self, threshold: float = 1.0, level: float = 0.95) -> Coverage:
        """Tags x models: how many items were tested, and how many passed, with intervals.

        Args:
            threshold: mean score over repeats from which an item passes, in (0, 1].
            level: coverage of the intervals.
        """
        from llmlab.results.coverage import coverage

        return coverage(self.samples, threshold, level)

    def noise(self, level: float = 0.95) -> Noise:
        """How much of a score is its wording: the variance split into templates, orders, examples and items.

        For results of `lab.suites`; `.plot()` draws the shares with their intervals.

        Raises:
            DataError: when nothing varies, or a combination has no scores.
        """
        from llmlab.results.noise import noise

        return noise(self.samples, level)

    def diff(self, a: str, b: str) -> Diff:
        """The answers of two models side by side, flipped verdicts first, changed words marked.

        Raises:
            UnknownName: for a model that is not in the results. DataError: when they have no item in common.
        """
        from llmlab.results.diff import diff

        return diff(self.samples, a, b)

    def require(
        self,
        rate: float | None = None,
        *,
        max_cost: float | None = None,
        max_seconds: float | None = None,
        max_failed: float = 0.0,
        evidence: Evidence = "measured",
        level: float = 0.95,
    ) -> Requirement:
        """Raise unless every model on every benchmark fulfils this; `filter` first to ask it of some.

        Args:
            rate: lowest mean score, in [0, 1].
            max_cost: most US dollars per answer, on average. What is unpriced does not fulfil it.
            max_seconds: highest median of the seconds per answer.
            max_failed: largest share of answers that may have no score.
            evidence: "measured" looks at the number alone; "shown" also wants the whole interval on the right side, so
                that few items never pass; "not refuted" is content when the interval reaches it.
            level: coverage of the intervals.

        Raises:
            RequirementFailed: an AssertionError too, with the evidence and some of the answers that did not pass.
        """
        from llmlab.results.requirement import require

        return require(self.samples, rate, max_cost, max_seconds, max_failed, evidence, level)

    def show(self, item: str | int, benchmark: str | None = None) -> Page:
        """One item in full: prompt, target, and every model's answer with its evidence.

        Args:
            item: the sample's id, the beginning of it, or its position.
            benchmark: where the same id is in several.
        """
        from llmlab.results import pages

        return pages.show(_item(self.samples, item, benchmark))

    def browse(self) -> Page:
        """All answers as one page, to read or to save."""
        from llmlab.results import pages

        return pages.browse(self.samples)

    # -- files --------------------------------------------------------------------------------------------

    def to_csv(self, path: str | Path) -> Path:
        """Write every row in full, one column per metric; gives the path.

        Text that a spreadsheet would run as a formula gets a leading apostrophe.
        """
        from llmlab.results import export

        return export.to_csv(self.samples, Path(path))

    def report(self, path: str | Path, baseline: str | None = None) -> Path:
        """Write one self-contained HTML page with tables, plots, comparisons, failures and provenance.

        `baseline` is the model that the others are compared with; None takes the first.
        """
        from llmlab.results import report

        return report.write(self, Path(path), baseline)

    # -- how it shows itself ------------------------------------------------------------------------------

    def __repr__(self) -> str:
        what = [display.count(len(self.models), "model"), display.count(len(self.benchmarks), "benchmark")]
        head = f"Results: {', '.join(what)}, {display.count(len(self), 'answer')}"
        head += "" if self.status == "complete" else f" ({self.status})"
        if not len(self):
            return head
        table = self._summary
        headers, rows = summary_cells(table)
        right = [i for i, name in enumerate(headers) if name in _RIGHT]
        return "\n".join([head, display.text_table(headers, rows, right), *(f"! {w}" for w in warnings(table))])

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        headers, rows = summary_cells(self._summary)
        left = headers.index("n")
        said = warnings(self._summary)
        return fragment("results", headers=headers, rows=rows, left=left, results=self, warnings=said)

    @functools.cached_property
    def _summary(self) -> pd.DataFrame:
        return self.summary()


_RIGHT = {"n", "score", "chance", "cost", "per 1000", "seconds", *COUNTERS}


def _failures(frame: pd.DataFrame, kind: str | None) -> pd.DataFrame:
    sorts = ["failed", *COUNTERS[:-1], "wrong"]
    if kind is not None and kind not in sorts:
        raise UnknownName.among("kind of failure", kind, sorts)
    found = flags(frame)
    found["wrong"] = ~unscored(frame) & (frame["score"] == 0)
    why = found[sorts].idxmax(axis=1)
    rows = frame[found[sorts].any(axis=1)]
    rows = rows.assign(why=why[rows.index])
    rows = (
        rows[rows["why"] == kind] if kind else rows.sort_values("why", key=lambda s: s.map(sorts.index), kind="stable")
    )
    front = [
        "why",
        "model",
        "benchmark",
        "sample",
        "error",
        "text",
        "answer",
        "target",
        "score",
        "explanation",
        "prompt",
    ]
    columns = [*front, *(c for c in rows.columns if c not in front)]
    ordered: pd.DataFrame = rows[columns]
    return ordered


def _item(frame: pd.DataFrame, item: str | int, benchmark: str | None) -> pd.DataFrame:
    """The rows of one item, of one benchmark.

    Raises:
        UnknownName: when there is none. DataError: when `item` fits several.
    """
    if benchmark is not None:
        if not (frame["benchmark"] == benchmark).any():
            raise UnknownName.among("benchmark in these results", benchmark, set(frame["benchmark"]))
        frame = frame[frame["benchmark"] == benchmark]
    pairs = list(dict.fromkeys(zip(frame["benchmark"], frame["sample"], strict=True)))
    exact = [pair for pair in pairs if pair[1] == str(item)]
    if isinstance(item, int) and not exact:
        if not -len(pairs) <= item < len(pairs):
            raise UnknownName(f"No item {item}; there are {len(pairs)}, counted from 0")
        exact = [pairs[item]]
    found = exact or [pair for pair in pairs if pair[1].startswith(str(item))]
    if not found:
        raise UnknownName.among("item", item, list(dict.fromkeys(sample for _, sample in pairs))[:20])
    if len(found) > 1:
        listed = ", ".join(f"{sample} ({name})" for name, sample in found[:5])
        raise DataError(f"{item!r} fits {len(found)} items: {listed}; give the whole id, and benchmark=")
    rows: pd.DataFrame = frame[(frame["benchmark"] == found[0][0]) & (frame["sample"] == found[0][1])]
    return rows
