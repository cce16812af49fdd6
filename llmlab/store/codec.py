"""Between rows as the library has them and rows as a database can hold them, without losing anything.

SQL text holds no lone surrogates and no NUL, SQLite turns NaN into NULL and does not know numpy's numbers.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, Table
from sqlalchemy.types import TypeEngine

from llmlab.store.tables import Json

# opens a text that is JSON in disguise; a noncharacter, so that no text of this world starts with it
_MARK = "\ufdd0"

_Write: TypeAlias = Callable[[Any], Any]
_Read: TypeAlias = Callable[[Any], Any] | None


def encode(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the columns of `table`; missing ones are NULL, other keys of `row` are left out."""
    encoded: dict[str, Any] = {}
    nones: list[str] = []
    for name, write, _ in _codecs(table):
        value = row.get(name)
        if value is None:
            encoded[name] = None
            if write is _write_float and name in row:
                nones.append(name)
        else:
            encoded[name] = write(value)
    if "nones" in table.c:
        encoded["nones"] = _escaped(nones) if nones else None
    return encoded


def decode(table: Table, row: Mapping[Any, Any]) -> dict[str, Any]:
    """The row that was encoded, without the columns that only serve the database."""
    missing = row.get("nones")
    nones = frozenset(json.loads(missing)) if missing else frozenset()
    decoded: dict[str, Any] = {}
    for name, _, read in _codecs(table):
        value = row.get(name)
        if value is not None:
            decoded[name] = value if read is None else read(value)
        else:
            decoded[name] = math.nan if read is _read_float and name not in nones else None
    return decoded


def decode_columns(table: Table, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """`decode` of many rows at once, column by column: several times faster than row by row. Some columns do."""
    decoded = {name: _decoded(columns[name], read) for name, _, read in _codecs(table) if name in columns}
    for i, missing in enumerate(columns.get("nones", ())):
        for name in decoded.keys() & json.loads(missing) if missing else ():
            decoded[name][i] = None
    return decoded


def _decoded(values: Sequence[Any], read: _Read) -> list[Any]:
    if read is None:
        return list(values)
    if read is from_text:
        return [from_text(v) if v and v[0] == _MARK else v for v in values]
    if read is _read_float:
        return [math.nan if v is None else v for v in values]
    if read is json.loads:
        # few different ones, such as the options of a model; each row gets a copy
        known = {text: json.loads(text) for text in set(values) if text is not None}
        return [None if text is None else _own(known[text]) for text in values]
    return [None if v is None else read(v) for v in values]


def _own(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list) else value


def to_json(value: Any) -> str:
    """JSON text that any database holds; NaN stays NaN."""
    text = _readable(value)
    return text if _is_clean(text) else _escaped(value)


def to_text(value: Any) -> str:
    """Text as it is where a database can hold it; anything else as marked JSON."""
    if isinstance(value, str) and _is_clean(value) and not value.startswith(_MARK):
        return value
    return _MARK + _escaped(value)


def from_text(text: str) -> Any:
    """The value that `to_text` wrote."""
    return json.loads(text[1:]) if text.startswith(_MARK) else text


def _is_clean(text: str) -> bool:
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers and arrays, sets, anything else as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


_readable = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
_escaped = json.JSONEncoder(separators=(",", ":"), default=_plain).encode


def _write_float(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _read_float(value: Any) -> float:
    return float(value)


def _utc(value: datetime) -> datetime:
    # SQLite gives back no zone, a Postgres server its own
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_HIDDEN = ("number", "nones", "shared_text")


@functools.cache
def _codecs(table: Table) -> tuple[tuple[str, _Write, _Read], ...]:
    return tuple((c.name, *_codec(c.type)) for c in table.c if c.name not in _HIDDEN)


def _codec(kind: TypeEngine[Any]) -> tuple[_Write, _Read]:
    if isinstance(kind, Json):
        return to_json, json.loads
    if isinstance(kind, Double):
        return _write_float, _read_float
    if isinstance(kind, DateTime):
        return _utc, _utc
    if isinstance(kind, Boolean):
        return bool, bool
    if isinstance(kind, (Integer, BigInteger)):
        return int, None
    return to_text, from_text
