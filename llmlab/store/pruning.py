"""Forgetting: runs by their id, then the answers and prompts that nothing needs any more. `llmlab store prune`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    Text,
    delete,
    exists,
    func,
    insert,
    select,
    union,
)

from llmlab.errors import StoreError
from llmlab.store.codec import to_text
from llmlab.store.spending import IMPUTED
from llmlab.store.statements import PRUNING
from llmlab.store.store import Store
from llmlab.store.tables import answers, prompts, rows, runs

# temporary: ids by the thousand are too many for an IN (...)
_temporary = MetaData()
_runs = Table("doomed_runs", _temporary, Column("id", Text, primary_key=True), prefixes=["TEMPORARY"])
_answers = Table("doomed_answers", _temporary, Column("key", Text, primary_key=True), prefixes=["TEMPORARY"])
_GONE = rows.c.run.in_(select(_runs.c.id))


@dataclass(frozen=True)
class Pruned:
    """How many runs, rows, answers and prompts are forgotten; and what forgetting the answers' costs would lose.

    `spent` is the cost of these answers in US dollars where known: it stays in `store.spending`.
    """

    runs: int
    rows: int
    answers: int
    prompts: int
    spent: float
    dry: bool

    def __repr__(self) -> str:
        held = ", ".join(f"{getattr(self, name):,} {name}" for name in ("runs", "rows", "answers", "prompts"))
        said = "would be forgotten" if self.dry else "forgotten"
        return f"{held} {said}; their costs stay in the history of spending (${self.spent:,.2f})"


def prune(
    store: Store,
    doomed: Collection[str],
    answers_before: datetime | None = None,
    *,
    dry: bool = True,
    compact: bool = True,
) -> Pruned:
    """Forget runs, and what only they needed. All in one transaction: it happens whole or not at all.

    An answer goes when no row of another run needs it, and it belongs to a run that goes or was made before
    `answers_before`. What it cost stays in `store.spending`, budgets are never touched.

    Args:
        store: to make smaller.
        doomed: ids of runs.
        answers_before: answers that belong to no run go when they are older than this; None keeps them.
        dry: only count.
        compact: give the space back to the disk, which takes as much free space as the store has left.

    Raises:
        StoreError: for a run that is not there; when the disk is full, with everything as it was.
    """
    ids = sorted(set(doomed))
    # only counting must not hold up those who write
    with store._reading() if dry else store._writing() as connection:
        _temporary.create_all(connection, checkfirst=False)
        if ids:
            connection.execute(insert(_runs), [{"id": to_text(i)} for i in ids])
        _choose_answers(connection, answers_before)
        found = _counted(connection, ids, store, dry)
        if not dry:
            _forget(connection)
            store.documents.change_in(connection, PRUNING, "", lambda old: {"n": (old or {"n": 0})["n"] + 1})
        _temporary.drop_all(connection, checkfirst=False)
    if compact and not dry:
        _compact(store)
    return found


def _choose_answers(connection: Connection, before: datetime | None) -> None:
    """Answers of the runs that go, and old ones; but for those that a run needs which stays."""
    # one answer after the other, by its key: asked for both at once, a database looks for every run of every answer
    of_runs = select(rows.c.answer_key).where(_GONE, rows.c.answer_key.is_not(None)).distinct()
    old = [] if before is None else [select(answers.c.key).where(answers.c.created < before)]
    connection.execute(insert(_answers).from_select(["key"], union(of_runs, *old) if old else of_runs))
    here = exists().where(answers.c.key == _answers.c.key)
    needed = exists().where(rows.c.answer_key == _answers.c.key, ~exists().where(_runs.c.id == rows.c.run))
    connection.execute(delete(_answers).where(~here | needed))


def _counted(connection: Connection, ids: Sequence[str], store: Store, dry: bool) -> Pruned:
    known = set(connection.scalars(select(runs.c.id).where(runs.c.id.in_(select(_runs.c.id)))))
    missing = [i for i in ids if to_text(i) not in known]
    if missing:
        raise StoreError(f"no run {missing[0]!r} in {store!r}; see `store.runs()`. Nothing was forgotten")
    charged = ~func.coalesce(answers.c.price, "").startswith(IMPUTED)
    spent = select(func.sum(answers.c.cost)).join(_answers, _answers.c.key == answers.c.key).where(charged)
    return Pruned(
        len(ids),
        connection.scalar(select(func.count()).select_from(rows).where(_GONE)) or 0,
        connection.scalar(select(func.count()).select_from(_answers)) or 0,
        connection.scalar(select(func.count()).select_from(prompts).where(_unused())) or 0,
        connection.scalar(spent) or 0.0,
        dry,
    )


def _unused() -> ColumnElement[bool]:
    # sets, because looking for the rows of one prompt reads all of them
    kept = select(rows.c.prompt).where(rows.c.prompt.is_not(None), ~_GONE)
    return prompts.c.hash.in_(select(prompts.c.hash).except_(kept))


def _forget(connection: Connection) -> None:
    connection.execute(delete(answers).where(answers.c.key.in_(select(_answers.c.key))))
    # before the rows, from which is read whether a prompt is still needed
    connection.execute(delete(prompts).where(_unused()))
    connection.execute(delete(rows).where(_GONE))
    connection.execute(delete(runs).where(runs.c.id.in_(select(_runs.c.id))))


def _compact(store: Store) -> None:
    """Not through the store's own connections: VACUUM cannot run inside a transaction."""
    raw = store._engine.raw_connection()
    driver: Any = raw.driver_connection
    try:
        if store._sqlite:
            driver.execute("vacuum")
            driver.execute("pragma wal_checkpoint(truncate)")
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
