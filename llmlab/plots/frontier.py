"""Score against cost: which models nothing cheaper beats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmlab.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def frontier(frame: pd.DataFrame, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Score in per cent over US dollars per 1000 answers, with intervals on both axes.

    Args:
        frame: a line per model of one benchmark: model, score, low, high in [0, 1], per_1000, per_1000_low,
            per_1000_high, n and chance. Unpriced models (NaN) are named below the plot, not drawn.
        title: the finding; made from the table when None.
        ax: where to draw; None makes a figure.
    """
    priced = frame.dropna(subset=["score", "per_1000"]).sort_values("per_1000", kind="stable")
    ax = ax or theme.new_axes(7.2, 4.6)
    look = theme.colours(frame["model"])
    with theme.applied():
        best = pareto(priced)
        if _wide(priced):
            ax.set_xscale("log")
        for place, (_, line) in enumerate(priced.iterrows()):
            _point(ax, line, *look[line["model"]], rightmost=place == len(priced) - 1 and place > 0)
        ax.plot(best["per_1000"], 100 * best["score"], drawstyle="steps-post", color=theme.MUTED, linewidth=1, zorder=1)
        _chance(ax, frame)
        ax.margins(x=0.12, y=0.12)
        ax.set_ylabel("score, %")
        ax.set_xlabel(_x_label(frame, priced))
        return theme.dress(ax, _title(frame, best) if title is None else title, grid="both")


def pareto(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines that no other line beats: none is as cheap with a higher score, nor as good and cheaper."""
    ordered = frame.dropna(subset=["score", "per_1000"]).sort_values(
        ["per_1000", "score"], ascending=[True, False], kind="stable"
    )
    before = ordered["score"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["score"] > before]


def _point(ax: Axes, line: pd.Series, colour: str, marker: str, rightmost: bool) -> None:
    x, y = line["per_1000"], 100 * line["score"]
    if not math.isnan(line["low"]):
        ax.plot([x, x], [100 * line["low"], 100 * line["high"]], color=colour, linewidth=1.6)
    if not math.isnan(line["per_1000_low"]):
        ax.plot([line["per_1000_low"], line["per_1000_high"]], [y, y], color=colour, linewidth=1.6)
    ax.plot([x], [y], marker, color=colour, markersize=7.5, markeredgecolor=theme.PAPER)
    offset, side = ((-8, 5), "right") if rightmost else ((8, 5), "left")
    name = theme.short(line["model"], 32)
    ax.annotate(name, (x, y), offset, textcoords="offset points", ha=side, fontsize=theme.SMALL, color=theme.INK)


def _chance(ax: Axes, frame: pd.DataFrame) -> None:
    chance = 100 * frame["chance"].iloc[0] if "chance" in frame and len(frame) else math.nan
    if math.isnan(chance):
        return
    ax.axhline(chance, linestyle=(0, (4, 3)), color=theme.MUTED, linewidth=1.1)
    ax.annotate(
        "chance", (1, chance), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", fontsize=theme.SMALL, color=theme.MUTED,
    )  # fmt: skip


def _wide(priced: pd.DataFrame) -> bool:
    costs = priced["per_1000"]
    return bool(len(costs) > 1 and costs.min() > 0 and costs.max() > 20 * costs.min())


def _x_label(frame: pd.DataFrame, priced: pd.DataFrame) -> str:
    scale = ", log scale" if _wide(priced) else ""
    sizes = sorted(set(frame["n"]))
    n = f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}" if sizes else "n = 0"
    unpriced = [theme.short(m, 32) for m in frame.loc[frame["per_1000"].isna(), "model"]]
    missing = f"\nnot drawn, unpriced: {', '.join(unpriced)}" if unpriced else ""
    return f"cost per 1000 answers, US dollars{scale} ({n}; lines: 95 % intervals){missing}"


def _title(frame: pd.DataFrame, best: pd.DataFrame) -> str:
    where = f" on {frame['benchmark'].iloc[0]}" if "benchmark" in frame and len(frame) else ""
    if best.empty:
        return f"No model has both a price and a score{where}"
    names = list(best["model"])
    if len(names) == 1:
        return f"{names[0]} is both cheapest and best of the priced models{where}"
    return f"Nothing cheaper scores higher than {', '.join(names[:-1])} and {names[-1]}{where}"
