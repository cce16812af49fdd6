"""The curves of a training, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# column -> label of its axis
_PANELS = {
    "loss": "loss (nats per token)",
    "learning_rate": "learning rate",
    "grad_norm": "norm of the gradient",
    "tokens_per_second": "useful tokens per second",
    "memory_gb": "memory (GB)",
    "rewards/margins": "margin of chosen (nats)",
    "reward": "reward",
}
_FROM_ZERO = ("tokens_per_second", "memory_gb")


def plot(curves: pd.DataFrame, record: dict[str, Any]) -> Sequence[Axes]:
    """A panel for each thing that was logged."""
    import matplotlib.pyplot as plt

    from llmlab.plots import theme

    shown = [name for name in _PANELS if name in curves and curves[name].notna().any()]
    benchmarks = scored(curves.columns)
    panels = len(shown) + len(benchmarks)
    with theme.applied():
        _, axes = plt.subplots(1, panels, figsize=(3.3 * panels, 2.9), layout="constrained", squeeze=False)
        for ax, name in zip(axes[0, len(shown) :], benchmarks, strict=True):
            title = _draw_score(ax, curves, name)
            ax.set_xlabel("step")
            theme.dress(ax, title)
            ax.set_ylabel("score, 95 % interval (%)")
        for ax, name in zip(axes[0], shown, strict=False):
            line = curves[["step", name]].dropna()
            ax.plot(line["step"], line[name], color=theme.PALETTE[0], linewidth=1.4)
            if name == "loss" and "eval_loss" in curves:
                held = curves[["step", "eval_loss"]].dropna()
                ax.plot(held["step"], held["eval_loss"], "o-", color=theme.PALETTE[1], markersize=3.5, linewidth=1.2)
                place = held["step"].iloc[-1], held["eval_loss"].iloc[-1]
                ax.text(*place, "held out", ha="right", va="bottom", color=theme.PALETTE[1])
            if name in _FROM_ZERO:
                ax.set_ylim(bottom=0)
            ax.set_xlabel("step")
            theme.dress(ax, _title(name, line, record))
            ax.set_ylabel(_PANELS[name])
    return list(axes[0])


def scored(names: Iterable[str]) -> list[str]:
    """The benchmarks among the columns of curves: what has the bounds of an interval."""
    ends = [name.removesuffix("_low").removeprefix("eval_") for name in names if name.endswith("_low")]
    return list(dict.fromkeys(ends))


def _draw_score(ax: Axes, curves: pd.DataFrame, name: str) -> str:
    """A benchmark's score over the steps; gives the finding."""
    from llmlab.plots import theme

    columns = [f"eval_{name}", f"eval_{name}_low", f"eval_{name}_high"]
    line = curves[["step", *columns]].dropna()
    score, low, high = (100 * line[column] for column in columns)
    ax.errorbar(line["step"], score, (score - low, high - score), fmt="o-", color=theme.PALETTE[1], markersize=3.5)
    ax.set_ylim(-2, 102)
    return f"{name} {score.iloc[0]:.0f} to {score.iloc[-1]:.0f} %"


def _title(name: str, line: pd.DataFrame, record: dict[str, Any]) -> str:
    first, last = line[name].iloc[0], line[name].iloc[-1]
    if name == "loss" and "after" in record:
        return f"Held-out loss {record['before']['loss']:.2f} to {record['after']['loss']:.2f}"
    if name == "tokens_per_second":
        return f"{line[name].median():,.0f} tokens/s"
    if name in ("memory_gb", "learning_rate"):
        return f"At most {line[name].max():.2g}"
    return f"{first:.3g} to {last:.3g}"
