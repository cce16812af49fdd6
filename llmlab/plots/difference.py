"""Forest plot of paired differences from a baseline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmlab.plots import rows, theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_KEYS = ("benchmark", "benchmark_version", "protocol", "metric")


def difference(frame: pd.DataFrame, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Differences in percentage points with their intervals; filled where the corrected test shows one.

    Args:
        frame: the table of a comparison (`Comparison.table`): model, baseline, benchmark, protocol, n, difference,
            low, high in [-1, 1], p_holm and verdict.
        title: the finding; made from the table when None.
        ax: where to draw; None makes a figure.
    """
    groups = rows.arrange(frame, _KEYS)
    if not groups:
        raise ValueError("there is nothing to plot: the table has no rows")
    own = ax is None
    ax = ax or theme.new_axes(7.6, 4, layout="none")
    look = theme.colours(frame["model"])
    with theme.applied():
        for group in groups:
            for row in group.rows:
                _dot(ax, row, *look[row.line["model"]])
        ax.axvline(0, color=theme.MUTED, linewidth=1.2)
        _limits(ax, frame)
        texts = [(row.y, _p(row.line["p_holm"])) for group in groups for row in group.rows]
        baseline = theme.short(frame["baseline"].iloc[0])
        ax.set_xlabel(
            f"percentage points from {baseline}, with 95 % interval\nfilled: shown; open: not shown", loc="left"
        )
        return rows.finish(ax, groups, texts, _title(frame) if title is None else title, own)


def _dot(ax: Axes, row: rows.Row, colour: str, marker: str) -> None:
    line = row.line
    if not math.isnan(line["low"]):
        ax.plot([100 * line["low"], 100 * line["high"]], [row.y] * 2, color=colour, linewidth=2, solid_capstyle="round")
    shown = line["verdict"] in ("better", "worse")
    ax.plot(
        [100 * line["difference"]],
        [row.y],
        marker,
        markersize=7,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        markerfacecolor=colour if shown else theme.PAPER,
    )


def _limits(ax: Axes, frame: pd.DataFrame) -> None:
    values = 100 * frame[["low", "high", "difference"]].fillna(0.0)
    low, high = min(-5.0, float(values.min().min())), max(5.0, float(values.max().max()))
    pad = 0.05 * (high - low)
    ax.set_xlim(low - pad, high + pad)


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _title(frame: pd.DataFrame) -> str:
    baseline = frame["baseline"].iloc[0]
    if len(frame) == 1:
        line = frame.iloc[0]
        if line["verdict"] in ("better", "worse"):
            gap = f"{abs(100 * line['difference']):.1f} points"
            return f"{line['model']} is {line['verdict']} than {baseline} by {gap} on {line['benchmark']}"
        return f"No difference shown between {line['model']} and {baseline} on {line['benchmark']}"
    better, worse = int((frame["verdict"] == "better").sum()), int((frame["verdict"] == "worse").sum())
    undecided = len(frame) - better - worse
    return f"Against {baseline}: {better} better, {worse} worse, {undecided} with no difference shown"
