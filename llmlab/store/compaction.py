"""Giving the space of what was forgotten back to the disk. `llmlab store prune`."""

from __future__ import annotations

import math
import time
from typing import Any

from llmlab.errors import StoreError
from llmlab.store.store import Store

PAUSE = 0.12
"""Seconds before each piece: who waits for SQLite tries again every tenth of a second."""
_PAGES = 2_000
"""Pages of SQLite that are given back at once: a tenth of a second, in which nobody else writes."""
_SPEED = 100 * 2**20
"""Bytes a second that SQLite writes anew, roughly."""


def compact(store: Store) -> None:
    """Give free space back to the disk, while others write.

    But an SQLite file that an older version made is written anew, this once: nobody can write meanwhile (`standstill`
    says how long), and it takes as much free space as the store holds.

    Raises:
        StoreError: when another program keeps the store, or the disk is full.
    """
    raw = store._engine.raw_connection()  # not a connection of the store: VACUUM cannot run inside a transaction
    driver: Any = raw.driver_connection
    try:
        if store._sqlite:
            _shrink(driver)
        else:
            driver.autocommit = True
            driver.execute("vacuum analyze")
            driver.autocommit = False
    except store._engine.dialect.dbapi.Error as error:  # type: ignore[union-attr]  # every dialect here has its module
        raise StoreError(
            f"all was forgotten, but the space was not given back to the disk ({error}). When nobody else writes and "
            "there is as much free space as the store holds, prune by the same rule again"
        ) from error
    finally:
        raw.close()


def standstill(store: Store) -> float:
    """Seconds, roughly, for which nobody can write while `compact` works; 0 where it goes piece by piece."""
    if not store._sqlite:
        return 0.0
    with store._reading() as connection:
        driver: Any = connection.connection.driver_connection
        used = _asked(driver, "page_count") - _asked(driver, "freelist_count")
        return 0.0 if _asked(driver, "auto_vacuum") else used * _asked(driver, "page_size") / _SPEED


def _shrink(driver: Any) -> None:
    if _asked(driver, "auto_vacuum"):
        for _ in range(math.ceil(_asked(driver, "freelist_count") / _PAGES)):
            time.sleep(PAUSE)
            # a page a step, and of what returns no columns `execute` takes one step only
            driver.executescript(f"pragma incremental_vacuum({_PAGES})")
    else:
        driver.execute("pragma auto_vacuum=incremental")
        driver.execute("vacuum")
    driver.execute("pragma wal_checkpoint(truncate)")


def _asked(driver: Any, name: str) -> int:
    return int(driver.execute(f"pragma {name}").fetchone()[0])
