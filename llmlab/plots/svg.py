"""A plot as inline SVG for a web page: follows the page's colours, has words for those who cannot see it."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import TYPE_CHECKING

from llmlab.plots import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the theme's neutral colours become the page's, so that one drawing serves light and dark
_PAGE = {theme.INK: "currentColor", theme.MUTED: "var(--muted, #6a7079)", theme.GRID: "var(--grid, #dfe2e6)",
         theme.PAPER: "var(--paper, #fefefe)"}  # fmt: skip


def svg(ax: Axes, alt: str, prefix: str = "plot") -> str:
    """The figure of `ax` as an `<svg>` element without outside references; the figure is closed.

    Args:
        ax: what a plot function gave.
        alt: what the picture says, for screen readers.
        prefix: makes the ids unique on a page with several plots.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    figure, buffer = ax.figure, io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        # the reader's browser has the fonts that this machine lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing, bbox_inches="tight")  # type: ignore[union-attr]
    plt.close(figure)  # type: ignore[arg-type]
    return _inline(buffer.getvalue(), alt, prefix)


def _inline(drawn: str, alt: str, prefix: str) -> str:
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", drawn)
    drawn = drawn.replace("xlink:href", "href")
    for colour, variable in _PAGE.items():
        drawn = drawn.replace(colour, variable)
    start = drawn.index(">")
    box = re.search(r'viewBox="[^"]*"', drawn[:start])
    width = re.search(r'\bwidth="([\d.]+)pt"', drawn[:start])
    style = f' style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(alt)}"{style}>'
    return f"{head}<title>{escape(alt)}</title>{drawn[start + 1 :]}"
