"""What was tested and what passed: a matrix of tags and models, an untested cell being as visible as a failed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from llmlab import stats
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.summary import items, unscored
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

UNTAGGED = "(no tag)"
_ROUNDING = 1e-9


@dataclass(frozen=True, repr=False)
class Coverage:
    """Which tags were tested on which models, and what passed.

    Attributes:
        table: a line per tag and model: n items with a score, passed, rate in [0, 1] with low and high, unscored
            (answers without a score), cost in US dollars. n is 0 and the rate NaN where nothing was tested. An item
            counts under each of its tags.
        costs: US dollars by model, of all its answers; NaN is unpriced.
        threshold: an item passes when its mean score over repeats is at least this.
        level: coverage of the intervals.
    """

    table: pd.DataFrame
    costs: Mapping[str, float]
    threshold: float = 1.0
    level: float = 0.95

    def matrix(self) -> pd.DataFrame:
        """Tags down, models across, cells such as "8 of 10 [49.0, 94.3]"; "untested" where there is nothing."""
        cells = self.table.assign(cell=[_cell(line) for line in records(self.table)])
        tags, models = (list(dict.fromkeys(self.table[name])) for name in ("tag", "model"))
        wide = cells.pivot_table(index="tag", columns="model", values="cell", aggfunc="first", sort=False)
        return wide.reindex(index=tags, columns=models).rename_axis(index="tag", columns=None)

    def gaps(self) -> list[tuple[str, str]]:
        """(tag, model) of the cells in which nothing was tested."""
        empty = self.table[self.table["n"] == 0]
        return list(zip(empty["tag"], empty["model"], strict=True))

    def plot(self, ax: Axes | None = None) -> Axes:
        """The matrix as coloured cells with their counts and intervals."""
        from llmlab import plots

        spent = ", ".join(f"{model} {display.dollars(cost)}" for model, cost in self.costs.items())
        return plots.coverage(self.table, note=f"cost: {spent}", ax=ax)

    def __repr__(self) -> str:
        wide = self.matrix()
        rows = [[str(tag), *map(str, cells)] for tag, cells in zip(wide.index, wide.to_numpy(), strict=True)]
        return f"{self._caption()}\n{display.text_table(['tag', *wide.columns], rows)}"

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        lines = {(line["tag"], line["model"]): line for line in records(self.table)}
        tags, models = (list(dict.fromkeys(self.table[name])) for name in ("tag", "model"))
        rows = [(tag, [_shown(lines[tag, model]) for model in models]) for tag in tags]
        return fragment("coverage", caption=self._caption(), models=models, rows=rows)

    def _caption(self) -> str:
        passes = "" if self.threshold == 1.0 else f", passed from a score of {self.threshold:g}"
        return f"Items passed, of those tested{passes}; {100 * self.level:g} % intervals"


def coverage(frame: pd.DataFrame, threshold: float = 1.0, level: float = 0.95) -> Coverage:
    """What `Results.coverage` gives."""
    import pandas as pd

    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold is the score from which an item passes, in (0, 1]; got {threshold}")
    scored = items(frame)
    scored["passed"] = (scored["score"] >= threshold - _ROUNDING).astype(float)
    tags = _tags(frame)
    by_tag = _by_tag(scored, tags)
    rows = _by_tag(frame[["model", "benchmark", "sample", "cost"]].assign(unscored=unscored(frame)), tags)
    lines = []
    for tag, model in product(dict.fromkeys(chain.from_iterable(tags.values())), dict.fromkeys(frame["model"])):
        here, asked = by_tag.get((tag, model), scored[:0]), rows.get((tag, model))
        found = stats.mean(here["passed"], here["cluster"].tolist(), level, bounds=(0.0, 1.0))
        counts = {"n": found.n, "passed": int(here["passed"].sum()), "rate": found.value}
        lost, cost = (0, 0.0) if asked is None else (int(asked["unscored"].sum()), asked["cost"].sum(skipna=False))
        bounds = {"low": found.low, "high": found.high, "unscored": lost, "cost": float(cost)}
        lines.append({"tag": tag, "model": model, **counts, **bounds})
    costs = frame.groupby("model", sort=False)["cost"].sum(min_count=1)
    unpriced = frame[frame["error"] == ""].groupby("model", sort=False)["cost"].apply(lambda c: c.isna().any())
    spent = {str(m): NAN if unpriced.get(m, False) else float(c) for m, c in costs.items()}
    return Coverage(pd.DataFrame(lines), spent, threshold, level)


def _tags(frame: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """The tags of each item."""
    found = {}
    for item, text in zip(_pairs(frame), frame["tags"], strict=True):
        found[item] = tuple(tag for tag in text.split(",") if tag) or (UNTAGGED,)
    return found


def _by_tag(rows: pd.DataFrame, tags: Mapping[tuple[str, str], tuple[str, ...]]) -> dict[Any, pd.DataFrame]:
    """(tag, model) -> rows; a row stands under each of its tags."""
    own: list[Any] = [tags[item] for item in _pairs(rows)]
    return dict(list(rows.assign(tag=own).explode("tag").groupby(["tag", "model"], sort=False)))


def _pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["benchmark"], frame["sample"], strict=True))


def _cell(line: Mapping[str, Any]) -> str:
    if not line["n"]:
        return f"untested ({line['unscored']} without a score)" if line["unscored"] else "untested"
    lost = f", {line['unscored']} without a score" if line["unscored"] else ""
    return f"{line['passed']} of {line['n']} {display.interval(line['low'], line['high'])}{lost}"


def _shown(line: Mapping[str, Any]) -> dict[str, Any]:
    rate = line["rate"]
    return {"text": _cell(line), "share": None if rate != rate else round(100 * rate)}
