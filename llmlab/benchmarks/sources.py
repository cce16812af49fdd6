"""Where benchmark rows come from: the Hugging Face Hub, a folder, or the files that ship with the library.

The order is fixed and nothing is skipped silently: `source=` if given; else the folder LLMLAB_BENCHMARKS, if it has
the benchmark; else the hub, at the pinned revision. A folder holds `<name>/<config>/<split>.jsonl` with the hub's
field names. All splits of one benchmark come from the same place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmlab import settings
from llmlab.benchmarks.base import Source
from llmlab.errors import DataError, MissingPackage


class Row:
    """One row of a data set, which knows where it stands: a wrong field is an error with file, line and field."""

    __slots__ = ("data", "where")

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # holds a dict

    def __contains__(self, field: str) -> bool:
        return field in self.data

    def text(self, field: str) -> str:
        """A field that is text."""
        value = self._field(field)
        if not isinstance(value, str):
            raise self.wrong(field, "text", value)
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A field that is a list of texts."""
        value = self._field(field)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self.wrong(field, "a list of texts", value)
        return tuple(value)

    def integer(self, field: str) -> int:
        """A field that is a whole number."""
        value = self._field(field)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(field, "a whole number", value)
        return value

    def integers(self, field: str) -> tuple[int, ...]:
        """A field that is a list of whole numbers."""
        value = self._field(field)
        if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
            raise self.wrong(field, "a list of whole numbers", value)
        return tuple(value)

    def record(self, field: str) -> Row:
        """A field that is an object; its own fields are named `field.name` in errors."""
        value = self._field(field)
        if not isinstance(value, Mapping):
            raise self.wrong(field, "an object", value)
        return Row(value, f"{self.where}, {field}")

    def wrong(self, field: str, expected: str, value: object) -> DataError:
        """The error for a field that is not what it should be."""
        shown = repr(value)
        return DataError(
            f"{self.where}: field {field!r} should be {expected}, it is {shown[:80]}{'…' * (len(shown) > 80)}"
        )

    def _field(self, field: str) -> Any:
        if field not in self.data:
            raise DataError(f"{self.where}: no field {field!r}; the row has {', '.join(map(str, self.data)) or 'none'}")
        return self.data[field]


def read_jsonl(path: Path) -> Iterator[Row]:
    """The rows of a JSON-lines file, one at a time; empty lines are skipped.

    Raises:
        DataError: naming file and line, for what is not a JSON object in UTF-8.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            try:
                # utf-8-sig: some editors put a byte order mark before the first row
                text = line.decode("utf-8-sig").strip()
                row = json.loads(text) if text else None
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
            if not text:
                continue
            if not isinstance(row, dict):
                raise DataError(f"{where}: each line should be a JSON object, this one is {type(row).__name__}")
            yield Row(row, where)


@dataclass(frozen=True)
class Place:
    """A place that holds benchmark rows. `str()` says which, for tables and reports."""

    kind: Literal["hub", "folder", "embedded"]
    folder: Path | None = None

    def has(self, source: Source, config: str, split: str) -> bool:
        """Whether the file is there; a hub is not asked."""
        return self.folder is None or self.path(source, config, split).is_file()

    def path(self, source: Source, config: str, split: str) -> Path:
        """The file of a split, in a folder."""
        assert self.folder is not None
        return self.folder / source.folder / config / f"{split}.jsonl"

    def rows(self, source: Source, config: str, split: str) -> Iterator[Row]:
        """Rows of a split, in order, read as they are asked for.

        Raises:
            DataError: when they cannot be had, with the ways to get them.
        """
        if self.folder is None:
            return _hub_rows(source, config, split)
        path = self.path(source, config, split)
        if not path.is_file():
            there = sorted(str(p.relative_to(self.folder)) for p in (self.folder / source.folder).glob("*/*.jsonl"))
            raise DataError(
                f"no file {path}; this folder has {', '.join(there) or f'nothing of {source.folder}'}. "
                f"It should hold the split {split!r} of {source.hub} ({config}), one JSON object per line"
            )
        return read_jsonl(path)

    def describe(self, source: Source) -> str:
        """The place in words, with the pinned revision where it is the hub."""
        return f"hub {source.hub}@{source.revision[:12]}" if self.folder is None else f"{self.kind} {self.folder}"


def place(source: Source, config: str, split: str, given: str | os.PathLike[str] | None = None) -> Place:
    """Where the rows of a benchmark will come from.

    Args:
        source: the data set.
        config: its configuration.
        split: the split to be scored; it decides for the others too.
        given: "hub", "embedded", a folder, or None for LLMLAB_BENCHMARKS and then the hub.

    Raises:
        DataError: when `given` is a folder that does not exist.
    """
    if given == "hub":
        return Place("hub")
    if given == "embedded":
        return Place("embedded", settings.shipped("data/micro"))
    if given is not None:
        folder = Path(given)
        if not folder.is_dir():
            raise DataError(f"source={os.fspath(given)!r} is neither 'hub', 'embedded' nor a folder that exists")
        return Place("folder", folder)
    configured = settings.benchmarks_folder()
    if configured is not None:
        if not configured.is_dir():
            raise DataError(f"LLMLAB_BENCHMARKS={configured} is not a folder that exists")
        found = Place("folder", configured)
        if found.has(source, config, split) or (configured / source.folder).is_dir():
            return found
    return Place("hub")


def _hub_rows(source: Source, config: str, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingPackage("the Hugging Face Hub needs the package 'datasets': pip install datasets") from error
    name = f"{source.hub} {config} {split}"
    try:
        table = datasets.load_dataset(source.hub, config, split=split, revision=source.revision)
    # the hub's client raises errors of many kinds: of requests, of httpx, its own, ValueError for a name it lacks
    except Exception as error:
        raise DataError(
            f"{name} could not be loaded from the Hugging Face Hub ({type(error).__name__}: {_first_line(error)}). "
            "Use one of: the hub, with a connection (and HF_TOKEN for gated data); a folder with "
            f"{source.folder}/{config}/{split}.jsonl, given as source='folder' or LLMLAB_BENCHMARKS=folder; "
            "or the small embedded benchmarks, whose names start with 'micro/'"
        ) from error
    return (Row(row, f"{name} row {i}") for i, row in enumerate(table))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
