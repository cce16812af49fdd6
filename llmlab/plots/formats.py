"""Formats of one model: what of its quality is left for which memory, and how fast each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def formats(frame: pd.DataFrame, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Score in per cent over megabytes of weights; the area of a dot, and its label, are tokens written per second.

    Args:
        frame: a line per format, the unquantised one first: model; score, low, high in [0, 1], n; weights, GB; decode,
            decode_low, decode_high, tokens per second. Optionally file, GB on disk, drawn as a hollow mark: a GGUF file
            that another program runs as it is takes about as much.
        title: the finding; made from the table when None.
        ax: where to draw; None makes a figure.
    """
    ax = ax or theme.new_axes(7.2, 4.6)
    fastest, widest = frame["decode"].max(), frame["weights"].max()
    with theme.applied():
        for place, (model, (colour, marker)) in enumerate(theme.colours(frame["model"]).items()):
            line = frame[frame["model"] == model].iloc[0]
            # formats that take the same stand side by side
            before = sum(abs(frame["weights"].iloc[:place] - line["weights"]) < 0.01 * widest)
            x, y = 1000 * (line["weights"] + 0.025 * before * widest), 100 * line["score"]
            ax.plot([x, x], [100 * line["low"], 100 * line["high"]], color=colour, linewidth=1.6)
            size = 36 + 264 * line["decode"] / fastest
            rate, low, high = (f"{line[name]:,.0f}" for name in ("decode", "decode_low", "decode_high"))
            said = f"{theme.short(str(model), 24)}: {rate} [{low}, {high}]"
            ax.scatter([x], [y], s=size, color=colour, edgecolors=theme.PAPER, label=said, marker=marker, zorder=3)
            if "file" in frame and line["file"] > 0:
                ax.scatter([1000 * line["file"]], [y], s=40, facecolors="none", edgecolors=colour, marker=marker)
                ax.plot([1000 * line["file"], x], [y, y], color=colour, linewidth=0.8, linestyle=(0, (2, 3)))
        ax.set_xlim(left=0)
        ax.margins(y=0.12)
        hollow = "; hollow: the file" if "file" in frame else ""
        ax.set_xlabel(f"weights in memory, MB{hollow}\n(n = {frame['n'].min():,}; lines: 95 % intervals)")
        ax.set_ylabel("score, %")
        ax.legend(
            title="tokens written per second", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
            fontsize=theme.SMALL, title_fontsize=theme.SMALL, labelspacing=1.2,
        )  # fmt: skip
        return theme.dress(ax, _title(frame) if title is None else title, grid="both")


def _title(frame: pd.DataFrame) -> str:
    least, full = frame.iloc[int(frame["weights"].argmin())], frame.iloc[0]
    share = 100 * least["weights"] / full["weights"]
    return (
        f"{least['model']} takes {share:.0f} % of the memory of {full['model']} and scores "
        f"{100 * least['score']:.1f} % against {100 * full['score']:.1f} %"
    )
