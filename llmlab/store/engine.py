"""From a URL to connections that are set up as the store needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool, StaticPool

from llmlab.errors import StoreError

_KINDS = "'sqlite:///runs.db' or 'postgresql://user:password@host/database'"
_SECRET = ("password", "sslpassword")


def parsed(url: str) -> URL:
    """The URL with its driver; a path of an SQLite file is made absolute, so that it survives a change of folder.

    Raises:
        StoreError: when it is no URL, or not one of SQLite or Postgres.
    """
    try:
        made = make_url(url)
    except ArgumentError:
        # the text itself may hold a password, so it is not repeated
        raise StoreError(f"the store must be named by a URL such as {_KINDS}") from None
    kind = made.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return made.set(drivername="postgresql+psycopg")
    if kind != "sqlite" or made.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError(f"no store of kind {made.drivername!r}; the store must be named by a URL such as {_KINDS}")
    if made.database in (None, "", ":memory:") or str(made.database).startswith("file:"):
        return made
    return made.set(database=str(Path(str(made.database)).expanduser().resolve()))


def safe(url: URL) -> str:
    """The URL without passwords, for messages."""
    hidden = {k: "***" for k in _SECRET if k in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def connect_to(url: URL, timeout: float) -> Engine:
    """An engine; connections are opened on use. Waits `timeout` seconds for a database that others write to."""
    return _sqlite(url, timeout) if url.get_backend_name() == "sqlite" else _postgres(url, timeout)


def in_memory(url: URL) -> bool:
    """Whether the database is gone when the program ends."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def _sqlite(url: URL, timeout: float) -> Engine:
    connect = {"timeout": timeout, "check_same_thread": False}
    if in_memory(url):
        # each connection would be a database of its own
        engine = create_engine(url, poolclass=StaticPool, connect_args=connect)
    else:
        _make_folder(url)
        engine = create_engine(url, poolclass=QueuePool, pool_size=8, max_overflow=-1, connect_args=connect)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(url: URL) -> None:
    if str(url.database).startswith("file:"):
        return
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} of the store cannot be made ({error.strerror}); "
            "make it, or name another store (store=... or LLMLAB_STORE)"
        ) from error


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Python's own transactions begin late and never immediately; `_begin_sqlite` does it instead
    connection.isolation_level = None
    cursor = connection.cursor()
    # readers and the writer do not wait for each other, and a commit survives the end of the process
    if cursor.execute("pragma journal_mode").fetchone()[0] not in ("wal", "memory"):
        # of a new file: what prune frees can be given back piece by piece; the next line writes the file
        cursor.execute("pragma auto_vacuum=incremental")
        cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=normal")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # a transaction that reads first and writes later fails at once when another writer was faster;
    # one that says so at its start waits for its turn
    write = connection.get_execution_options().get("llmlab_write", False)
    connection.exec_driver_sql("begin immediate" if write else "begin")


def _postgres(url: URL, timeout: float) -> Engine:
    connect = {"options": f"-c lock_timeout={int(timeout * 1000)}", "connect_timeout": max(2, int(min(timeout, 10)))}
    connect = {k: v for k, v in connect.items() if k not in url.query}
    try:
        return create_engine(url, pool_size=8, max_overflow=-1, pool_pre_ping=True, connect_args=connect)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"a store in Postgres needs the package {error.name!r}: pip install 'llmlab[postgres]'"
        ) from error
