"""One look for all plots: colours that colour-blind readers can tell apart, few lines, words instead of legends."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1c1f26"
MUTED = "#6a7079"
GRID = "#dfe2e6"
PAPER = "#fefefe"
# Okabe and Ito (2008), without black and yellow; the order keeps neighbours far apart in lightness
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "D", "^", "v", "P")
SMALL = 8.5

STYLE = "llmlab.plots.lab"
"""The same look for plots of your own: `plt.style.use("llmlab.plots.lab")`."""


def new_axes(width: float, height: float, layout: Literal["constrained", "none"] = "constrained") -> Axes:
    """An Axes of its own figure, in inches."""
    import matplotlib.pyplot as plt

    with applied():
        _, ax = plt.subplots(figsize=(width, height), layout=layout)
    return ax


@contextmanager
def applied() -> Iterator[None]:
    """Within it, new text and lines look like ours; afterwards the global settings are as before."""
    import matplotlib as mpl

    with mpl.rc_context(_look()):
        yield
        interactive = mpl.is_interactive()
    # the first figure of a notebook turns interactive mode on; undoing that would hide all later figures
    mpl.interactive(interactive)


@functools.cache
def _look() -> Any:
    from matplotlib import rc_params_from_file

    # layout and grid are what each plot chooses
    own = rc_params_from_file(Path(__file__).with_name("lab.mplstyle"), use_default_template=False)
    return {**own, "figure.constrained_layout.use": False, "axes.grid": False}


def dress(ax: Axes, title: str, grid: str = "x") -> Axes:
    """What all plots share: a title that wraps, a faint grid, no frame."""
    ax.set_title("\n".join(wrapped(title, ax.bbox.width / ax.figure.dpi)), loc="left")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="both" if grid == "both" else "x", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    return ax


def wrapped(title: str, width: float) -> list[str]:
    """Lines of a title that fit into so many inches."""
    # a number keeps its unit
    lines = textwrap.wrap(title.replace(" %", "\N{NO-BREAK SPACE}%"), max(24, int(9.5 * width)))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def colours(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each name, always the same for the same order of names."""
    listed = dict.fromkeys(names)
    return {name: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(listed)}


def short(name: str, width: int = 44) -> str:
    """A name that fits beside a plot: the middle goes, the ends say which model it is."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def count(n: int, thing: str) -> str:
    """`1 model`, `2 models`."""
    return f"{n:,} {thing}{'s' * (n != 1)}"
