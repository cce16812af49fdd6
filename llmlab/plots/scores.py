"""Dot plot of scores with intervals, one group per benchmark and protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmlab.plots import rows, theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_KEYS = ("benchmark", "benchmark_version", "protocol", "metric")


def scores(frame: pd.DataFrame, title: str | None = None, note: str = "", ax: Axes | None = None) -> Axes:
    """Scores in per cent with their intervals.

    Args:
        frame: a summary, as `Results.summary()` gives it: model, benchmark, protocol, n, score, low, high in [0, 1],
            and where known chance (dashed line) and low_if_all_wrong, high_if_all_right (dotted, where lost answers
            could move the score by more than 2 points).
        title: the finding; made from the table when None.
        note: what else to say below, such as the cost.
        ax: where to draw; None makes a figure.

    Different protocols and versions stand in groups of their own.
    """
    groups = rows.arrange(frame, _KEYS)
    if not groups:
        raise ValueError("there is nothing to plot: the table has no rows")
    own = ax is None
    ax = ax or theme.new_axes(7.6, 4, layout="none")
    look = theme.colours(frame["model"])
    with theme.applied():
        for group in groups:
            _chance(ax, group, first=group is groups[0])
            for row in group.rows:
                _dot(ax, row, *look[row.line["model"]])
        _limits(ax, frame)
        texts = [(row.y, _percent(row.line["score"])) for group in groups for row in group.rows]
        lost = "dotted: had all lost answers been wrong … right" if _lost(frame) else ""
        said = filter(None, ["score in per cent, with 95 % interval", lost, note])
        ax.set_xlabel("\n".join(said), loc="left")
        return rows.finish(ax, groups, texts, _title(frame) if title is None else title, own)


def _dot(ax: Axes, row: rows.Row, colour: str, marker: str) -> None:
    line = row.line
    if _loss(line) > 0.02:
        bounds = [100 * line["low_if_all_wrong"], 100 * line["high_if_all_right"]]
        ax.plot(bounds, [row.y + 0.22] * 2, ":", color=colour, linewidth=1.3)
    if not math.isnan(line["low"]):
        ax.plot([100 * line["low"], 100 * line["high"]], [row.y] * 2, color=colour, linewidth=2, solid_capstyle="round")
    ax.plot([100 * line["score"]], [row.y], marker, color=colour, markersize=6.5, markeredgecolor=theme.PAPER)


def _chance(ax: Axes, group: rows.Group, first: bool) -> None:
    chance = group.lines["chance"].iloc[0] if "chance" in group.lines else math.nan
    if math.isnan(chance):
        return
    ends = [group.rows[0].y - 0.45, group.rows[-1].y + 0.45]
    ax.plot([100 * chance] * 2, ends, linestyle=(0, (4, 3)), color=theme.MUTED, linewidth=1.1)
    if first:
        ax.annotate(
            "chance",
            (100 * chance, ends[0]),
            (3, 2),
            textcoords="offset points",
            fontsize=theme.SMALL,
            color=theme.MUTED,
        )


def _limits(ax: Axes, frame: pd.DataFrame) -> None:
    names = [n for n in ("score", "low", "high", "chance", "low_if_all_wrong", "high_if_all_right") if n in frame]
    values = frame[names].to_numpy(dtype=float)
    low, high = (0.0, 1.0) if math.isnan(_extent(values)[0]) else _extent(values)
    low, high = 10 * math.floor(10 * low), 10 * math.ceil(10 * high)
    if high - low < 40:
        low = 0
    pad = 0.02 * (high - low)
    ax.set_xlim(low - pad, max(high, low + 10) + pad)


def _extent(values: object) -> tuple[float, float]:
    import numpy as np

    array = np.asarray(values, dtype=float)
    known = array[~np.isnan(array)]
    return (float(known.min()), float(known.max())) if known.size else (math.nan, math.nan)


def _loss(line: pd.Series) -> float:
    if "high_if_all_right" not in line:
        return 0.0
    return float(line["high_if_all_right"] - line["low_if_all_wrong"])


def _lost(frame: pd.DataFrame) -> bool:
    return any(_loss(line) > 0.02 for _, line in frame.iterrows())


def _percent(score: float) -> str:
    return "no score" if math.isnan(score) else f"{100 * score:.1f} %"


def _title(frame: pd.DataFrame) -> str:
    models, benchmarks = frame["model"].nunique(), frame["benchmark"].nunique()
    span = frame["score"].min(), frame["score"].max()
    return (
        f"{theme.count(models, 'model')} on {theme.count(benchmarks, 'benchmark')}: "
        f"{_percent(span[0])} to {_percent(span[1])}"
    )
