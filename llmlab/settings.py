"""Where things live: home folder, store, keys, and the files that ship with the library.

Environment variables (or a `.env` file in the working folder) set them; nothing else does.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from llmlab.errors import DataError, MissingKey

_unasked: ContextVar[bool] = ContextVar("llmlab_unasked", default=False)
_PACKAGE = Path(__file__).resolve().parent


@functools.cache
def shipped(name: str) -> Path:
    """Path of a shipped folder or file: `shipped("configs/models.yaml")`.

    In a checkout these are the top-level folders, in an installed wheel they lie inside the package.

    Raises:
        DataError: when the installation lacks it.
    """
    for root in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise DataError(f"{name} is missing from this installation of llmlab ({_PACKAGE}); install it again")


def file_or_shipped(given: str | os.PathLike[str]) -> Path:
    """A file of the user's; where there is none, the shipped one of that name ("configs/guard.yaml").

    Raises:
        DataError: when neither is there.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    try:
        return shipped(os.fspath(given))
    except DataError:
        raise DataError(f"no file {os.fspath(given)!r} (looked in {Path.cwd()} and among the shipped files)") from None


def home() -> Path:
    """Folder for the default store and caches: LLMLAB_HOME, else `.llmlab` in the user's home."""
    return Path(value("LLMLAB_HOME") or Path.home() / ".llmlab")


def store_url() -> str:
    """SQLAlchemy URL of the default store: LLMLAB_STORE, else an SQLite file in `home()`."""
    return value("LLMLAB_STORE") or f"sqlite:///{home() / 'runs.db'}"


def benchmarks_folder() -> Path | None:
    """Folder with benchmark rows (`<name>/<config>/<split>.jsonl`): LLMLAB_BENCHMARKS, or None."""
    path = value("LLMLAB_BENCHMARKS")
    return Path(path) if path else None


def project() -> str:
    """What runs and budgets belong to where nothing else is said: LLMLAB_PROJECT, else ""."""
    return value("LLMLAB_PROJECT") or ""


def value(name: str) -> str | None:
    """A setting from the environment, else from `.env` in the working folder; None when unset or empty."""
    return os.environ.get(name) or _dotenv(Path.cwd() / ".env").get(name) or None


def key(name: str, model: str) -> str:
    """An API key.

    Raises:
        MissingKey: naming the variable to set, never a value.
    """
    found = value(name)
    if not found:
        raise MissingKey(
            f"{model} needs {name} in the environment or in a .env file here; "
            "'micro/base' and 'scripted/echo' run without a key"
        )
    return found


@contextlib.contextmanager
def unasked() -> Iterator[None]:
    """Inside, cloud models are made without their keys: what they would cost can be told before there is one."""
    token = _unasked.set(True)
    try:
        yield
    finally:
        _unasked.reset(token)


def asks() -> bool:
    """Whether models that are made now will be asked."""
    return not _unasked.get()


def _dotenv(path: Path) -> Mapping[str, str | None]:
    if not path.is_file():
        return {}
    return _parse_dotenv(path, path.stat().st_mtime_ns)


@functools.cache
def _parse_dotenv(path: Path, _modified: int) -> Mapping[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(path)


@functools.cache
def config(name: str) -> dict[str, Any]:
    """A shipped YAML file as a dict: `config("models.yaml")`."""
    import yaml

    loaded = yaml.safe_load(shipped(f"configs/{name}").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded
