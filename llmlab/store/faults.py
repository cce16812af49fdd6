"""What went wrong in the database, in words that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from llmlab.errors import StoreError

# what SQLite calls it (the start of the error's name) -> what to do
_SQLITE = {
    "SQLITE_BUSY": "is locked: another program has been writing to it for more than {timeout:g} s. Wait for it or end "
    "it, then try again; what was stored before is safe",
    "SQLITE_LOCKED": "is locked by this program itself: close the other use of it, then try again",
    "SQLITE_READONLY": "cannot be written: it or its folder is read-only. Change the permissions, copy it to a folder "
    "of yours, or name another store (store=... or LLMLAB_STORE)",
    "SQLITE_CANTOPEN": "cannot be opened: its folder does not exist, is read-only, or it is not a file. Check the "
    "path, or name another store (store=... or LLMLAB_STORE)",
    "SQLITE_FULL": "cannot grow: the disk is full. Free some space and try again; what was stored before is safe, and "
    "of the last write nothing was stored",
    "SQLITE_NOTADB": "is not an SQLite database. Check the path, or name another store (store=... or LLMLAB_STORE)",
    "SQLITE_CORRUPT": "is damaged. Save what can be read with `sqlite3 FILE .recover`, or restore a copy, or name "
    "another store (store=... or LLMLAB_STORE)",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error or is full. Check the disk, then try again",
}
# Postgres: class or code of the SQLSTATE
_POSTGRES = {
    "25006": "is read-only. Connect to the primary server, or name another store",
    "28": "refuses this user or password. Check the URL",
    "3D000": "does not exist on the server. Create it (createdb), or correct the URL",
    "42501": "does not allow this user to write. Grant the rights, or name another store",
    "53": "has no space, memory or connections left. Free some, then try again",
    "55P03": "is locked by another program. Wait for it, then try again",
}


@contextlib.contextmanager
def explained(where: str, timeout: float) -> Iterator[None]:
    """Turn the database's errors into StoreError; `where` names the store without its password."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(explain(error, where, timeout)) from error
    except OverflowError as error:
        raise StoreError(f"the store {where} holds whole numbers of up to 64 bits; nothing was written") from error


def explain(error: DBAPIError, where: str, timeout: float) -> str:
    """One sentence: which store, what is wrong, what to do, and the database's own words."""
    original = error.orig
    said = " ".join(str(original).split())
    return f"the store {where} {_advice(original, timeout)} ({said})"


def _advice(error: BaseException | None, timeout: float) -> str:
    name = getattr(error, "sqlite_errorname", None) or ""
    for start, advice in _SQLITE.items():
        if name.startswith(start):
            return advice.format(timeout=timeout)
    state = getattr(error, "sqlstate", None) or ""
    for start, advice in _POSTGRES.items():
        if state.startswith(start):
            return advice
    if type(error).__module__.startswith("psycopg") and not state:
        return "cannot be reached. Check that the server runs, and the host, port and user in the URL"
    return "refused this, and nothing was written"
