"""Two models on the same items: the paired difference, whether it can be chance, and what could not be seen."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmlab import stats
from llmlab.errors import DataError, UnknownName
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.summary import items

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_KIND = ["benchmark_version", "protocol", "metric"]
_COLUMNS = [
    *("benchmark", "benchmark_version", "protocol", "metric", "model", "baseline", "n", "score", "baseline_score"),
    *("difference", "low", "high", "p", "p_holm", "better", "worse", "left_out", "detectable", "verdict"),
]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Every model against a baseline, paired by item.

    Attributes:
        baseline: name of the model that the others are compared with.
        table: a line per model and benchmark. difference = score - baseline_score, in [-1, 1], with the interval
            [low, high]; p of "no difference" (exact McNemar for right-or-wrong scores), p_holm adjusted for all
            lines; better and worse count items; left_out counts items that only one of the two has a score for;
            detectable is the smallest true difference that this line would have found with probability 0.8.
        level: coverage of the intervals; 1 - level is the error rate of the verdicts, all lines together.
        notes: what could not be compared, and why.
    """

    baseline: str
    table: pd.DataFrame
    level: float = 0.95
    notes: tuple[str, ...] = ()

    def findings(self) -> list[str]:
        """A sentence per line. A null result says what difference it could have seen."""
        return [_sentence(line, len(self.table)) for line in records(self.table)]

    def plot(self, ax: Axes | None = None) -> Axes:
        """The differences with their intervals, as a forest plot."""
        from llmlab import plots

        return plots.difference(self.table, ax=ax)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        headers, rows = self.cells()
        return "\n".join([self._caption(), display.text_table(headers, rows, right=(2, 3, 5)), *self.notes])

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        headers, rows = self.cells()
        return fragment("comparison", headers=headers, rows=rows, caption=self._caption(), notes=self.notes)

    def _caption(self) -> str:
        return (
            f"Comparison with {self.baseline}, paired by item, {100 * self.level:g} % intervals; "
            f"p after Holm over {display.count(len(self), 'comparison')}"
        )

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """The table as people read it: headers and rows."""
        headers = ["model", "benchmark", "n", "points", "interval", "p", "verdict"]
        rows = [
            [
                line["model"],
                line["benchmark"],
                str(line["n"]),
                display.points(line["difference"]),
                display.interval(line["low"], line["high"]),
                display.p_value(line["p_holm"]),
                line["verdict"],
            ]
            for line in records(self.table)
        ]
        return headers, rows


def compare(
    frame: pd.DataFrame, baseline: str, protocols: Literal["same", "any"] = "same", level: float = 0.95
) -> Comparison:
    """What `Results.compare` gives."""
    import pandas as pd

    models = list(dict.fromkeys(frame["model"]))
    if baseline not in models:
        raise UnknownName.among("model in these results", baseline, models)
    if protocols not in ("same", "any"):
        raise UnknownName.among("way to treat protocols", protocols, ("same", "any"))
    per_item, notes, lines = items(frame), [], []
    for benchmark in dict.fromkeys(frame["benchmark"]):
        on_it = per_item[per_item["benchmark"] == benchmark]
        base = _kinds(on_it[on_it["model"] == baseline])
        for model in models:
            if model != baseline and ((frame["benchmark"] == benchmark) & (frame["model"] == model)).any():
                pairs, note = _pairs(base, _kinds(on_it[on_it["model"] == model]), protocols)
                notes += [f"{model} is not compared with {baseline} on {benchmark}: {note}"] if note else []
                head = {"benchmark": benchmark, "model": model, "baseline": baseline}
                lines += [head | _line(a, b, level) | kind for kind, a, b in pairs]
    if not lines:
        raise DataError("; ".join(notes) or f"there is no other model to compare {baseline} with; have: {models}")
    table = pd.DataFrame(lines)
    table["p_holm"] = stats.holm(table["p"])
    alpha = 1 - level
    table["detectable"] = [stats.detectable_with(se, alpha=alpha / len(table)) for se in table.pop("se")]
    table["verdict"] = [_verdict(line, alpha) for line in records(table)]
    return Comparison(baseline, table[_COLUMNS], level, tuple(notes))


def _kinds(per_item: pd.DataFrame) -> dict[tuple[str, ...], pd.DataFrame]:
    """The items by what makes numbers comparable: version, protocol and metric."""
    return {tuple(map(str, key)): rows.set_index("sample") for key, rows in per_item.groupby(_KIND, sort=False)}


def _pairs(
    base: dict[tuple[str, ...], pd.DataFrame], other: dict[tuple[str, ...], pd.DataFrame], protocols: str
) -> tuple[list[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]], str]:
    """What can be compared, or a note that says why nothing can."""
    if not base or not other:
        return [], "one of the two has no scored answers"
    chosen = [(key, key) for key in other if key in base]
    if not chosen and protocols == "any":
        chosen = [(next(iter(other)), next(iter(base)))]
    if not chosen:
        said = " and ".join(", ".join(map(_kind_name, kinds)) for kinds in (other, base))
        return [], f"they were asked differently ({said}); protocols='any' compares them all the same"
    pairs: list[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]] = []
    for mine, theirs in chosen:
        if len(other[mine].index.intersection(base[theirs].index)):
            kind = {name: a if a == b else f"{a} vs {b}" for name, a, b in zip(_KIND, mine, theirs, strict=True)}
            pairs.append((kind, other[mine], base[theirs]))
    return pairs, "" if pairs else "they have no scored item in common"


def _kind_name(kind: tuple[str, ...]) -> str:
    version, protocol, metric = kind
    return f"version {version} by {protocol}, {metric}"


def _line(a: pd.DataFrame, b: pd.DataFrame, level: float) -> dict[str, Any]:
    common = a.index.intersection(b.index)
    x, y = a.loc[common, "score"], b.loc[common, "score"]
    difference = stats.paired(x, y, a.loc[common, "cluster"].tolist(), level)
    return {
        "n": difference.n,
        "score": float(x.mean()),
        "baseline_score": float(y.mean()),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "se": difference.se,
        "better": difference.wins,
        "worse": difference.losses,
        "left_out": len(a) + len(b) - 2 * len(common),
    }


def _verdict(line: dict[str, Any], alpha: float) -> str:
    if math.isnan(line["p_holm"]):
        return "too few items to tell"
    if line["p_holm"] < alpha:
        return "better" if line["difference"] > 0 else "worse"
    if line["detectable"] >= 1:
        return "no difference shown; too few items to see any"
    return f"no difference shown; below {100 * line['detectable']:.1f} points it could not have been seen"


def _sentence(line: dict[str, Any], comparisons: int) -> str:
    where = f"on {line['benchmark']} ({display.count(line['n'], 'item')})"
    holm = f" after Holm over {comparisons}" if comparisons > 1 else ""
    if line["verdict"] in ("better", "worse"):
        p = display.p_value(line["p_holm"])
        p = f"p {p}" if p.startswith("<") else f"p = {p}"
        worse = line["difference"] < 0
        low, high = (-line["high"], -line["low"]) if worse else (line["low"], line["high"])
        size = f"{abs(100 * line['difference']):.1f} points {display.interval(low, high)}"
        return f"{line['model']} is {line['verdict']} than {line['baseline']} {where} by {size}, {p}{holm}."
    signed = f"{display.points(line['difference'])} points {display.interval(line['low'], line['high'])}"
    return f"{line['model']} against {line['baseline']} {where}: {signed}; {line['verdict']}."


def best(frame: pd.DataFrame, level: float = 0.95) -> Iterator[tuple[str, list[str]]]:
    """Each benchmark (and protocol) with its leaders: the highest score, and those not shown to be below it.

    1 - level is the error rate over all benchmarks together (Bonferroni).
    """
    parts = frame.groupby(["benchmark", "protocol"], sort=False)
    level = 1 - (1 - level) / max(parts.ngroups, 1)
    for key, rows in parts:
        means = items(rows).groupby("model", sort=False)["score"].mean().sort_values(ascending=False, kind="stable")
        leaders = [str(name) for name in means.index]
        if len(leaders) > 1:
            with contextlib.suppress(DataError):  # nothing in common: nobody is shown to be below
                table = compare(rows, leaders[0], level=level).table
                below = set(table.loc[table["verdict"] == "worse", "model"])
                leaders = [name for name in leaders if name not in below]
        yield str(key[0]), leaders
