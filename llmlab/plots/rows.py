"""Labelled rows under group headings on one y axis: what a dot plot and a forest plot have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmlab.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_ROW_INCHES = 0.29
_PLOT_INCHES = 4.7
_RIGHT_INCHES = 0.85


class Row(NamedTuple):
    """One line of the plot, `y` units below the top."""

    y: float
    line: pd.Series


class Group(NamedTuple):
    """Rows under one heading."""

    heading: str
    y: float
    rows: list[Row]
    lines: pd.DataFrame


def arrange(frame: pd.DataFrame, keys: Sequence[str]) -> list[Group]:
    """Places for the rows of a table, grouped by `keys` (those that the table has)."""
    present = [key for key in keys if key in frame]
    groups, y = [], 0.0
    for key, lines in frame.groupby(present, sort=False):
        named = dict(zip(present, map(str, key), strict=True))
        top, y = y, y + 1
        rows = [Row(y + i, line) for i, (_, line) in enumerate(lines.iterrows())]
        y += len(rows) + 0.5
        groups.append(Group(_heading(named, lines, frame), top, rows, lines))
    return groups


def _heading(named: dict[str, str], lines: pd.DataFrame, frame: pd.DataFrame) -> str:
    parts = [named["benchmark"], named.get("protocol", "")]
    versions = frame.loc[frame["benchmark"] == named["benchmark"]]
    if "benchmark_version" in named and len(set(versions["benchmark_version"])) > 1:
        parts.append(f"version {named['benchmark_version']}")
    if named.get("metric") not in ("", None, "score"):
        parts.append(named["metric"])
    if _same_n(lines):
        parts.append(f"n = {lines['n'].iloc[0]:,}")
    return "  ·  ".join(part for part in parts if part)


def finish(ax: Axes, groups: Sequence[Group], right: Sequence[tuple[float, str]], title: str, own: bool) -> Axes:
    """Headings and names on the left, numbers on the right, the title above; an own figure is cut to size."""
    _label(ax, groups, right)
    if not own:
        return theme.dress(ax, title)
    margin = _label_inches(ax)
    width, height = margin + _PLOT_INCHES + _RIGHT_INCHES, _ROW_INCHES * (groups[-1].rows[-1].y + 1.4)
    lines = theme.wrapped(title, width)
    above, below = 0.15 + 0.24 * len(lines) if title else 0.1, 0.35 + 0.2 * max(2, ax.get_xlabel().count("\n") + 1)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.set_size_inches(width, above + height + below)
    total = above + height + below
    ax.set_position((margin / width, below / total, _PLOT_INCHES / width, height / total))
    theme.dress(ax, "")
    # the title starts where the names do, not where the axes do
    ax.set_title("\n".join(lines), loc="left", x=0.08 / _PLOT_INCHES - margin / _PLOT_INCHES)
    return ax


def _label_inches(ax: Axes) -> float:
    """Width of the longest name beside the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    return max(box.width for box in boxes) / figure.dpi + 0.2


def _label(ax: Axes, groups: Sequence[Group], right: Sequence[tuple[float, str]]) -> None:
    ticks = [(group.y, group.heading) for group in groups]
    for group in groups:
        for row in group.rows:
            n = "" if _same_n(group.lines) else f"  (n = {row.line['n']:,})"
            ticks.append((row.y, f"{theme.short(row.line['model'])}{n}"))
    ax.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
    for tick in ax.get_yticklabels()[: len(groups)]:
        tick.set_fontweight("bold")
        tick.set_fontsize(theme.SMALL)
        tick.set_color(theme.MUTED)
    last = groups[-1].rows[-1].y
    ax.set_ylim(last + 0.7, -0.6)
    for y, text in right:
        ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=theme.SMALL, color=theme.MUTED)


def _same_n(lines: pd.DataFrame) -> bool:
    return len(set(lines["n"])) == 1
