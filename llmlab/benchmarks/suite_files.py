"""The files of suites: JSONL, CSV, YAML or JSON, read a row at a time; every row knows file and line."""

from __future__ import annotations

import codecs
import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from llmlab.benchmarks.sources import Row, read_jsonl
from llmlab.errors import DataError

# column names by which a header is recognised, whatever separates them
_KNOWN = frozenset(
    """
    input prompt question messages target answer expected expected_answer choices id tags cluster system scorer assert
    checks evaluation_method expected_keywords instruction output response text label category
    """.split()  # noqa: SIM905  # 24 names read better than 24 quoted ones
)
_SEPARATORS = ",;\t|"
_LOOK = 1 << 18
"""Bytes from which an encoding that is not UTF-8 is told."""


class Sheet(NamedTuple):
    """The rows of a file, and what stands above them in YAML: settings of the suite."""

    settings: Mapping[str, Any]
    rows: Iterator[Row]


def read_sheet(path: Path, encoding: str | None = None) -> Sheet:
    """The rows of a file with the settings above them.

    Args:
        path: of a .jsonl, .csv, .tsv, .yaml, .yml or .json file.
        encoding: of a CSV file; None tells it from the bytes, and warns when it is not UTF-8.

    Raises:
        DataError: for a file that does not exist, is of another kind, or is malformed, with the line.
    """
    kind = path.suffix.lower()
    known = (".csv", ".json", ".jsonl", ".tsv", ".yaml", ".yml")
    if kind not in known:
        raise DataError(f"a suite is a file that ends in {', '.join(known)}; got {path}")
    if not path.is_file():
        raise DataError(f"no file {path} (looked in {Path.cwd()})")
    if kind == ".jsonl":
        return Sheet({}, read_jsonl(path))
    return Sheet({}, _read_csv(path, encoding)) if kind in (".csv", ".tsv") else _read_yaml(path)


def read_rows(path: Path, encoding: str | None = None) -> Iterator[Row]:
    """The rows of a file; the arguments and errors are those of `read_sheet`."""
    return read_sheet(path, encoding).rows


# -- CSV ------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, encoding: str | None) -> Iterator[Row]:
    where = f"{path}:1"
    try:
        with _opened(path, encoding) as file:
            reader = csv.DictReader(file, strict=True, delimiter=_separator(file))
            twice = [k for k, times in Counter(reader.fieldnames or ()).items() if k and times > 1]
            if twice:
                raise DataError(f"{where}: two columns are called {twice[0]!r}, and one would be lost; rename one")
            while True:
                columns = reader.fieldnames
                # a cell may have line breaks in it: the row begins after the one before it ended
                where = f"{path}:{reader.line_num + 1}"
                row = next(reader, None)
                if row is None:
                    return
                # DictReader files surplus cells under None and missing ones as None
                if None in row:
                    raise DataError(
                        f"{where}: more cells than the {len(columns or ())} columns of the header, "
                        f"separated by {reader.reader.dialect.delimiter!r}"
                    )
                yield Row({k: v for k, v in row.items() if v not in (None, "")}, where)
    except csv.Error as error:
        raise DataError(f"{where}: not CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not {error.encoding} ({error.reason} at byte {error.start}); name the encoding with encoding="
        ) from None
    except LookupError:
        raise DataError(
            f"{path}: no encoding is called {encoding!r}; for example 'utf-8', 'cp1252', 'utf-16'"
        ) from None


@contextmanager
def _opened(path: Path, encoding: str | None) -> Iterator[TextIO]:
    with path.open(newline="", encoding=encoding or _encoding(path)) as file:
        yield file


def _encoding(path: Path) -> str:
    """UTF-8 (with or without a byte order mark) where the bytes are that; else the likeliest one, with a warning."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        # all of it, a piece at a time: the one odd letter may be in the last row
        for piece in iter(lambda: file.read(_LOOK), b""):
            if piece[:2] in (b"\xff\xfe", b"\xfe\xff") and file.tell() <= _LOOK:
                return "utf-16"
            try:
                decoder.decode(piece)
            except UnicodeDecodeError:
                found = _guessed(piece)
                break
        else:
            return "utf-8-sig"
    warnings.warn(f"{path} is not UTF-8 and was read as {found}; encoding= names another", stacklevel=2)
    return found


def _guessed(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    # what spreadsheets of the West write comes first: short texts fit a dozen code pages equally well
    likely = from_bytes(sample, cp_isolation=["cp1252"]).best()
    best = likely if likely is not None else from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def _separator(file: TextIO) -> str:
    """What separates the cells: that by which the header has most known names, then most cells."""
    header = file.readline()
    file.seek(0)

    def names(separator: str) -> tuple[int, int]:
        cells = [cell.strip().casefold() for cell in next(csv.reader([header], delimiter=separator), [])]
        return sum(cell in _KNOWN for cell in cells), len(cells)

    return max(_SEPARATORS, key=names)  # of equal ones the first, the comma


# -- YAML and JSON --------------------------------------------------------------------------------------------


def _read_yaml(path: Path) -> Sheet:
    import yaml

    # the C parser is ten times as fast; not every installation has it
    kind: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = kind(path.read_text(encoding="utf-8-sig"))
        # the tree of nodes knows the lines, which the loaded values have lost
        node: Any = loader.get_single_node()
        loaded = loader.construct_document(node) if node is not None else None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{at}: not YAML ({getattr(error, 'problem', None) or error})") from None
    settings: dict[str, Any] = {}
    if isinstance(loaded, Mapping):
        found = _list_below(loaded)
        if found is not None:
            settings = {str(k): v for k, v in loaded.items() if k != found}
            node = next(value for key, value in node.value if key.value == found)
            loaded = loaded[found]
    if not isinstance(loaded, list):
        raise DataError(
            f"{path}: should be a list of samples, or settings with a list under 'samples'; it is "
            f"{type(loaded).__name__}"
        )
    return Sheet(settings, _listed(path, loaded, node))


def _list_below(loaded: Mapping[Any, Any]) -> str | None:
    """The key of the samples: `samples`, or the only key there is."""
    if isinstance(loaded.get("samples"), list):
        return "samples"
    only = next(iter(loaded)) if len(loaded) == 1 else None
    return str(only) if only is not None and isinstance(loaded[only], list) else None


def _listed(path: Path, loaded: list[Any], node: Any) -> Iterator[Row]:
    for row, at in zip(loaded, node.value, strict=True):
        where = f"{path}:{at.start_mark.line + 1}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: each sample should be a mapping of fields, this one is {type(row).__name__}")
        yield Row(row, where)
