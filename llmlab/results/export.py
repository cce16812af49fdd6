"""Results as a flat CSV file: nothing cut off, nothing that a spreadsheet would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

# OWASP, "CSV Injection": a cell that starts with one of these is a formula to a spreadsheet
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def to_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write every row; metrics become columns `metric.<name>`, other mappings and lists JSON."""
    import pandas as pd

    names = dict.fromkeys(name for found in frame["metrics"] for name in found)
    numbers = {f"metric.{name}": [found.get(name, NAN) for found in frame["metrics"]] for name in names}
    flat = {
        name: [_cell(value) for value in frame[name]] if _holds_text(frame[name]) else frame[name]
        for name in frame.columns
        if name != "metrics"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({**flat, **{_safe(name): values for name, values in numbers.items()}})
    # with RFC 4180's line ends the csv module quotes a lone carriage return too
    table.to_csv(path, index=False, encoding="utf-8", lineterminator="\r\n")
    return path


def _holds_text(column: pd.Series[Any]) -> bool:
    import pandas as pd

    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return value


def _safe(text: str) -> str:
    if not text.startswith(_FORMULA) or _is_number(text):
        return text
    return f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
