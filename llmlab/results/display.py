"""Numbers in words and tables in plain text: one place for how things are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

UNKNOWN = "–"


def percent(score: float, digits: int = 1) -> str:
    """A score in [0, 1] as a percentage."""
    return UNKNOWN if math.isnan(score) else f"{100 * score:.{digits}f} %"


def interval(low: float, high: float) -> str:
    """Bounds of a score in per cent."""
    return UNKNOWN if math.isnan(low) or math.isnan(high) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def points(difference: float) -> str:
    """A difference of scores in percentage points, with its sign."""
    return UNKNOWN if math.isnan(difference) else f"{100 * difference + 0.0:+.1f}".replace("-0.0", "+0.0")


def dollars(cost: float) -> str:
    """US dollars; an unknown price is not a price of 0."""
    if math.isnan(cost):
        return "unpriced"
    if cost == 0:
        return "$0"
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.{_decimals(cost)}f}"


def seconds(value: float) -> str:
    """Seconds with two significant digits below ten."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.0f}" if value >= 10 else f"{value:.{_decimals(value) if value else 0}f}"


def p_value(p: float) -> str:
    """A p-value; very small ones as a bound."""
    if math.isnan(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int, thing: str) -> str:
    """`1 model`, `2 models`, `1,319 answers`."""
    return f"{n:,} {thing}{'s' * (n != 1)}"


def series(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


# control characters could move the cursor of a terminal or be invalid in a page
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421, 0x0D: None}


def visible(text: object) -> str:
    """Text with control characters shown as symbols, so that what a model wrote can do nothing."""
    return str(text).translate(_VISIBLE)


def text_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """Columns aligned with spaces; those whose index is in `right` to the right."""
    cells = [[_one_line(c) for c in row] for row in [headers, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = [
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _one_line(cell: Any) -> str:
    return visible(" ".join(str(cell).split()))


def _decimals(value: float) -> int:
    """Decimals that show two significant digits of a small positive number."""
    return max(2, 1 - math.floor(math.log10(value)))
