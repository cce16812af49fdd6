"""Rows to one tidy table: every column there, of one type, unknown numbers NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

# column -> what it holds: text (unknown ""), number (unknown NaN), count (unknown <NA>), flag, or object
COLUMNS: dict[str, str] = {
    "run": "text",
    "model": "text",
    "benchmark": "text",
    "benchmark_version": "text",
    "protocol": "text",
    "sample": "text",
    "cluster": "text",
    "tags": "text",
    "repeat": "count",
    "prompt": "text",
    "text": "text",
    "answer": "text",
    "target": "text",
    "score": "number",
    "metrics": "mapping",
    "explanation": "text",
    "parsed": "flag",
    "finish_reason": "text",
    "refused": "flag",
    "truncated": "flag",
    "empty": "flag",
    "error": "text",
    "error_kind": "text",
    "input_tokens": "count",
    "output_tokens": "count",
    "cached_tokens": "count",
    "reasoning_tokens": "count",
    "cost": "number",
    "price": "text",
    "judge_cost": "number",
    "seconds": "number",
    "first_token_seconds": "number",
    "model_version": "text",
    "prompt_hash": "text",
    "seed": "count",
    "cached": "flag",
    "attempts": "count",
    "notes": "text",
    "applied": "mapping",
    "dropped": "list",
    "provenance": "mapping",
    "chance": "number",
    "metric": "text",
}
REQUIRED = ("model", "benchmark", "sample", "score")
GROUP = ["model", "benchmark", "benchmark_version", "protocol", "metric"]
"""What one score is about: numbers that differ in any of these are never averaged."""

_DEFAULT: dict[str, Any] = {"parsed": True, "repeat": 0, "metric": "score"}


def tidy(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """A table with exactly `COLUMNS`, then whatever else the rows carry.

    Raises:
        DataError: when a row lacks the model, the benchmark, the sample or the score.
    """
    import pandas as pd

    columns, size = _columns(rows)
    missing = [name for name in REQUIRED if name not in columns and size]
    if missing:
        raise DataError(f"rows of results need {', '.join(REQUIRED)}; these have no {', '.join(missing)}")
    made = {
        name: _typed(columns[name], kind, name) if name in columns else _unwritten(kind, name, size)
        for name, kind in COLUMNS.items()
    }
    extra = {name: values for name, values in columns.items() if name not in COLUMNS}
    return pd.DataFrame({**made, **extra}, index=pd.RangeIndex(size))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _columns(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> tuple[dict[str, list[Any]], int]:
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return {str(name): rows[name].tolist() for name in rows.columns}, len(rows)
    listed = list(rows)
    names = dict.fromkeys(listed[0]) if listed else {}
    if len(names) > 1 and all(row.keys() == names.keys() for row in listed):
        # rows of a store are all alike, and this is three times faster
        return dict(zip(names, map(list, zip(*map(itemgetter(*names), listed), strict=True)), strict=True)), len(listed)
    names = dict.fromkeys(name for row in listed for name in row)
    return {name: [row.get(name, _DEFAULT.get(name)) for row in listed] for name in names}, len(listed)


def _typed(values: list[Any], kind: str, name: str) -> Any:
    import pandas as pd

    try:
        if kind == "text":
            return pd.array([_text(v) for v in values], dtype="str")
        if kind == "number":
            return pd.array([NAN if _unknown(v) else float(v) for v in values], dtype="float64")
        if kind == "count":
            return pd.array([pd.NA if _unknown(v) else int(v) for v in values], dtype="Int64")
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} of the results holds something that is not a {kind}: {error}") from None
    if kind == "flag":
        return pd.array([_DEFAULT.get(name, False) if _unknown(v) else bool(v) for v in values], dtype="bool")
    empty: Any = list if kind == "list" else dict
    return pd.Series([empty() if _unknown(v) else v for v in values], dtype=object)


def _unwritten(kind: str, name: str, size: int) -> Any:
    """A column that no row has."""
    default = _DEFAULT.get(name)
    if kind in ("mapping", "list"):
        return _typed([default] * size, kind, name)  # to each row its own
    return _typed([default], kind, name).repeat(size)


def _unknown(value: Any) -> bool:
    # pandas' NA is neither equal to itself nor a truth value, so it is known by its name
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"


def _text(value: Any) -> str:
    if type(value) is str and value.isascii():  # nearly all, and quick to tell
        return value
    if _unknown(value):
        return ""
    # half of a surrogate pair, which a provider's JSON may hold, cannot be stored as UTF-8
    return str(value).encode("utf-8", "replace").decode()
