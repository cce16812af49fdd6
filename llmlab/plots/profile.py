"""Speed and memory of local models: tokens per second against the batch, gigabytes against the length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmlab.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def profile(frame: pd.DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Two plots side by side.

    Args:
        frame: the table of `lab.profile`: a line per model, prompt length and batch.
        axes: two to draw on; None makes a figure.
    """
    left, right = axes or _pair()
    return [throughput(frame, left), memory(frame, right)]


def throughput(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Tokens written per second against the batch, for the longest prompts measured; medians with 95 % intervals."""
    ax = ax or theme.new_axes(5.4, 4.2)
    length = frame["prompt_tokens"].max()
    shown = frame[frame["prompt_tokens"] == length].sort_values("batch", kind="stable")
    with theme.applied():
        looks = theme.colours(frame["model"])
        for place, (model, (colour, marker)) in enumerate(looks.items()):
            rows = shown[shown["model"] == model]
            # side by side, so that no interval hides another
            at = rows["batch"] * 1.03 ** (place - (len(looks) - 1) / 2)
            ax.plot(at, rows["decode"], marker=marker, color=colour, label=theme.short(model, 32))
            ax.vlines(at, rows["decode_low"], rows["decode_high"], color=colour, linewidth=1.6)
        sizes = sorted(set(shown["batch"]))
        if len(sizes) > 1:
            ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.set_xticks([], minor=True)
        ax.set_ylim(bottom=0)
        ax.set_xlabel(f"prompts at once, of {length} tokens\n(n = {_n(shown)}; lines: 95 % intervals of medians)")
        ax.set_ylabel("tokens written per second")
        ax.legend(frameon=False, fontsize=theme.SMALL, loc="upper left")
        return theme.dress(ax, _speed_title(shown), grid="both")


def memory(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Memory against the tokens of every row, for the largest batch: weights, keys and values, and measured peaks."""
    ax = ax or theme.new_axes(5.4, 4.2)
    size = frame["batch"].max()
    shown = frame[frame["batch"] == size]
    with theme.applied():
        for model, (colour, marker) in theme.colours(frame["model"]).items():
            rows = shown[shown["model"] == model]
            if rows.empty:
                continue
            first = rows.iloc[0]
            ends = [0, int(first["context"])]
            cost = [first["weights"] + size * first["kv_token"] * n for n in ends]
            ax.plot(ends, cost, color=colour, linewidth=1.6, label=theme.short(model, 32))
            ax.plot(rows["prompt_tokens"] + rows["new_tokens"], rows["total"], marker, color=colour, linestyle="none")
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        ax.set_xlabel(f"tokens of each of {size} rows, up to the context\n(marks: measured peak of everything)")
        ax.set_ylabel("weights, keys and values, GB")
        ax.legend(frameon=False, fontsize=theme.SMALL)
        return theme.dress(ax, _memory_title(shown), grid="both")


def _pair() -> list[Axes]:
    import matplotlib.pyplot as plt

    with theme.applied():
        _, axes = plt.subplots(1, 2, figsize=(11.4, 4.4), layout="constrained")
    return list(axes)


def _n(frame: pd.DataFrame) -> str:
    return " to ".join(str(n) for n in sorted({frame["repeats"].min(), frame["repeats"].max()}))


def _speed_title(frame: pd.DataFrame) -> str:
    own = frame[frame["model"] == frame["model"].iloc[0]]
    alone, most = own.iloc[0], own.iloc[-1]
    at_once = theme.count(int(most["batch"]), "prompt")
    said = f"{theme.short(str(most['model']), 32)} writes {most['decode']:,.0f} tokens/s with {at_once} at once"
    return said if len(own) == 1 else f"{said}, {most['decode'] / alone['decode']:.1f}× one alone"


def _memory_title(frame: pd.DataFrame) -> str:
    import numpy as np

    firsts = frame.drop_duplicates("model")
    least, most = (firsts.iloc[int(find(firsts["weights"]))] for find in (np.argmin, np.argmax))
    kv = most["kv_token"] * most["batch"] * most["context"] / most["weights"]
    full = f"at full length keys and values of {most['batch']} rows take {kv:.1f}× the weights"
    if len(firsts) == 1:
        return full[0].upper() + full[1:]
    share = 100 * least["weights"] / most["weights"]
    return f"{theme.short(least['model'], 24)} has {share:.0f} % of the largest weights; {full}"
