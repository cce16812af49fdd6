"""Where training rows come from: files, folders, the Hugging Face Hub, DataFrames and lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmlab.benchmarks.sources import Row, read_jsonl
from llmlab.errors import DataError

_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".yaml")


def read(source: Any, split: str) -> tuple[Iterable[Row], str]:
    """Rows of a file, a folder, a data set of the hub, a DataFrame or a list, and what to call them.

    Raises:
        DataError: for what is none of these, or cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if path.exists():
            return _path_rows(path), path.stem or str(path)
        if _is_hub_id(source):
            return _hub_rows(str(source), split), str(source)
        raise DataError(
            f"no file {os.fspath(source)!r} (looked in {Path.cwd()}); give a path, an id of the hub (owner/name), "
            "a DataFrame or a list of rows"
        )
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame, without importing pandas
        # cells that a table lacks are NaN or None, which no field of ours can be
        records = ({k: v for k, v in r.items() if not _missing(v)} for r in source.to_dict("records"))
        return (Row(r, f"row {i}") for i, r in enumerate(records)), "DataFrame"
    if not isinstance(source, Iterable):
        raise DataError(
            f"training data is a path, a hub id, a DataFrame or a list of rows; got {type(source).__name__}"
        )
    return _given_rows(source), "rows"


def _given_rows(source: Iterable[object]) -> Iterator[Row]:
    for i, row in enumerate(source):
        if not isinstance(row, Mapping):
            raise DataError(f"row {i}: should be a dict, it is {type(row).__name__}")
        yield Row(row, f"row {i}")


def _path_rows(path: Path) -> Iterator[Row]:
    from llmlab.benchmarks.suite import read_rows

    kind = path.suffix.lower()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _FILES)
        if not files:
            raise DataError(f"{path}: no file that ends in {', '.join(_FILES)}")
        for file in files:
            yield from _path_rows(file)
    elif kind == ".jsonl":
        yield from read_jsonl(path)
    elif kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".txt":
        yield from _paragraphs(path)
    elif kind in (".csv", ".tsv", ".json", ".yaml"):
        yield from read_rows(path)
    else:
        raise DataError(f"training data is a file that ends in {', '.join(_FILES)}; got {path}")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not Parquet ({error})") from None
    for i, row in enumerate(table.to_pylist()):
        yield Row({k: v for k, v in row.items() if v is not None}, f"{path} row {i}")


def _paragraphs(path: Path) -> Iterator[Row]:
    """Plain text: what stands between blank lines is one example."""
    start, lines = 1, []
    for number, line in enumerate([*path.read_text(encoding="utf-8-sig").splitlines(), ""], 1):
        if line.strip():
            lines.append(line)
            continue
        if lines:
            yield Row({"text": "\n".join(lines)}, f"{path}:{start}")
        start, lines = number + 1, []


def _is_hub_id(source: object) -> bool:
    parts = str(source).split("/")
    return len(parts) == 2 and all(parts) and Path(str(source)).suffix.lower() not in _FILES


def _hub_rows(source: str, split: str) -> Iterator[Row]:
    import datasets

    try:
        table = datasets.load_dataset(source, split=split)
    # the hub's client raises errors of many kinds: of requests, of httpx, its own, ValueError for a name it lacks
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise DataError(
            f"{source!r} is no file here and could not be loaded from the Hugging Face Hub "
            f"({type(error).__name__}: {reason})"
        ) from error
    for i, row in enumerate(table):
        yield Row({k: v for k, v in row.items() if v is not None}, f"{source} {split} row {i}")


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)
