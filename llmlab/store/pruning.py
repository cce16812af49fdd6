"""Forgetting: runs by their id, then the answers and prompts that nothing needs any more. `llmlab store prune`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    MetaData,
    Select,
    Table,
    Text,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    update,
)

from llmlab.errors import StoreError
from llmlab.store import compaction
from llmlab.store.codec import from_text, to_text
from llmlab.store.spending import IMPUTED
from llmlab.store.statements import PRUNING
from llmlab.store.store import Store
from llmlab.store.tables import answers, prompts, rows, runs

_SIZE = 5_000
"""Rows, answers or prompts that go at once: some tenths of a second, in which SQLite lets nobody else write."""
_IDS = 900

# temporary: ids by the thousand are too many for an IN (...)
_temporary = MetaData()
_runs = Table("doomed_runs", _temporary, Column("id", Text, primary_key=True), prefixes=["TEMPORARY"])
_answers = Table("doomed_answers", _temporary, Column("key", Text, primary_key=True), prefixes=["TEMPORARY"])
_rows = Table("doomed_rows", _temporary, Column("number", BigInteger, primary_key=True), prefixes=["TEMPORARY"])
_GONE = rows.c.run.in_(select(_runs.c.id))
_CHARGED = func.sum(case((~func.coalesce(answers.c.price, "").startswith(IMPUTED), answers.c.cost)))
"""What answers cost that a provider charged for."""


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

    def __add__(self, other: Pruned) -> Pruned:
        """Both together."""
        return Pruned(
            self.runs + other.runs,
            self.rows + other.rows,
            self.answers + other.answers,
            self.prompts + other.prompts,
            self.spent + other.spent,
            self.dry,
        )

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
    """Forget runs, and what only they needed. In pieces of some thousand rows, between which others write.

    An answer goes when no row of another run needs it, and it belongs to a run that goes or was made before
    `answers_before`. What it cost stays in `store.spending`, budgets are never touched.

    A piece happens whole or not at all. When one fails, those before it are done: some runs are gone, one may be there
    in part (its status is "pruning"), and forgetting by the same rule goes on from there.

    Args:
        store: to make smaller.
        doomed: ids of runs.
        answers_before: answers that belong to no run go when they are older than this; None keeps them.
        dry: only count.
        compact: give the space back to the disk, by `compaction.compact`.

    Raises:
        StoreError: for a run that is not there, with nothing forgotten; when the disk is full.
    """
    ids = sorted(map(to_text, set(doomed)))
    if dry:
        return _would_be_pruned(store, ids, answers_before)
    with store._reading() as connection:
        _are_there(connection, ids, store)
    found = Pruned(0, 0, 0, 0, 0.0, dry=False)
    for piece in _pieces(store, ids, answers_before):
        found = found + piece
    if compact:
        compaction.compact(store)
    return found


def _would_be_pruned(store: Store, ids: Sequence[str], before: datetime | None) -> Pruned:
    # only counting must not hold up those who write
    with store._reading() as connection:
        _are_there(connection, ids, store)
        _runs.create(connection, checkfirst=False)
        if ids:
            connection.execute(insert(_runs), [{"id": i} for i in ids])
        row_count = connection.scalar(select(func.count()).select_from(rows).where(_GONE)) or 0
        counted = [connection.execute(query).one() for query in _unneeded_answers(before)]
        prompt_count = connection.scalar(select(func.count()).select_from(_unused(~_GONE).subquery())) or 0
        _runs.drop(connection, checkfirst=False)
    answer_count, spent = sum(n for n, _ in counted), sum(cost or 0.0 for _, cost in counted)
    return Pruned(len(ids), row_count, answer_count, prompt_count, spent, dry=True)


def _are_there(connection: Connection, ids: Sequence[str], store: Store) -> None:
    for start in range(0, len(ids), _IDS):
        some = ids[start : start + _IDS]
        known = set(connection.scalars(select(runs.c.id).where(runs.c.id.in_(some))))
        missing = [i for i in some if i not in known]
        if missing:
            raise StoreError(
                f"no run {from_text(missing[0])!r} in {store!r}; see `store.runs()`. Nothing was forgotten"
            )


def _unneeded_answers(before: datetime | None) -> Iterator[Select[int, float]]:
    """Count answers that only runs which go need, and old ones of no run; and what they cost."""
    # grouped, they come in order: SQLite makes its list of them in a fifth of the time
    of_runs = select(rows.c.answer_key).where(_GONE, rows.c.answer_key.is_not(None)).group_by(rows.c.answer_key)
    needed = exists().where(rows.c.answer_key == answers.c.key, ~_GONE)
    counted = select(func.count(), _CHARGED)
    yield counted.where(answers.c.key.in_(of_runs), ~needed)
    if before is not None:
        # their keys first, which an index has: most answers are of a run, and are not looked at
        other = answers.alias()
        of_no_run = select(other.c.key).where(~exists().where(rows.c.answer_key == other.c.key))
        yield counted.where(answers.c.key.in_(of_no_run), answers.c.created < before)


def _unused(kept: ColumnElement[bool]) -> CompoundSelect[str]:
    """Hashes of the prompts that none of the rows to keep has."""
    # sets, because looking for the rows of one prompt reads all of them
    return select(prompts.c.hash).except_(select(rows.c.prompt).where(rows.c.prompt.is_not(None), kept))


# -- piece by piece -------------------------------------------------------------------------------------------


def _pieces(store: Store, ids: Sequence[str], before: datetime | None) -> Iterator[Pruned]:
    """Forget a piece, say what it was, leave the others some time, and so on."""
    for start in range(0, len(ids), _IDS):
        rest = _SIZE
        while rest == _SIZE:  # fewer are the last
            piece = _forget_rows(store, ids[start : start + _IDS])
            yield piece
            rest = piece.rows
    last = ""
    while before is not None and (keys := _old_answers(store, before, last)):
        yield _forget_answers(store, keys)
        last = keys[-1]
    while (piece := _forget_prompts(store)).prompts:
        yield piece


@contextlib.contextmanager
def _piece(store: Store) -> Iterator[Connection]:
    """A transaction that forgets. Other programs see that there was one, and rely on nothing that they stored."""
    if store._sqlite:
        time.sleep(compaction.PAUSE)
    with store._writing() as connection:
        # first: on Postgres, this waits for those who save rows, and makes others wait
        store.documents.change_in(connection, PRUNING, "", lambda old: {"n": (old or {"n": 0})["n"] + 1})
        _temporary.create_all(connection, checkfirst=False)
        yield connection
        _temporary.drop_all(connection, checkfirst=False)


def _forget_rows(store: Store, ids: Sequence[str]) -> Pruned:
    """Some rows of these runs with their answers, and the runs that have no more."""
    with _piece(store) as connection:
        of_runs = select(rows.c.number).where(rows.c.run.in_(ids)).order_by(rows.c.run).limit(_SIZE)
        connection.execute(insert(_rows).from_select(["number"], of_runs))
        here = rows.c.number.in_(select(_rows.c.number))
        keys = select(rows.c.answer_key).where(here, rows.c.answer_key.is_not(None)).distinct()
        connection.execute(insert(_answers).from_select(["key"], keys))
        begun = connection.scalars(select(rows.c.run).where(here).distinct()).all()
        gone = connection.execute(delete(rows).where(here)).rowcount
        count, spent = _forget_chosen_answers(connection)
        empty = ~exists().where(rows.c.run == runs.c.id)
        ended = connection.execute(delete(runs).where(runs.c.id.in_(ids), empty)).rowcount
        in_part = {"status": "pruning", "cells": None, "size": None}
        connection.execute(update(runs).where(runs.c.id.in_(begun)).values(in_part))
    return Pruned(ended, gone, count, 0, spent, dry=False)


def _old_answers(store: Store, before: datetime, last: str) -> Sequence[str]:
    """Keys of the next answers that are old and of no run."""
    needed = exists().where(rows.c.answer_key == answers.c.key)
    query = select(answers.c.key).where(answers.c.key > last, answers.c.created < before, ~needed)
    with store._reading() as connection:
        return connection.scalars(query.order_by(answers.c.key).limit(_SIZE)).all()


def _forget_answers(store: Store, keys: Sequence[str]) -> Pruned:
    with _piece(store) as connection:
        connection.execute(insert(_answers), [{"key": key} for key in keys])
        count, spent = _forget_chosen_answers(connection)
    return Pruned(0, 0, count, 0, spent, dry=False)


def _forget_chosen_answers(connection: Connection) -> tuple[int, float]:
    """How many, but for those that a row still needs, and what they cost."""
    connection.execute(delete(_answers).where(exists().where(rows.c.answer_key == _answers.c.key)))
    here = answers.c.key.in_(select(_answers.c.key))  # from a join, SQLite makes a walk through all answers
    spent = connection.scalar(select(_CHARGED).where(here)) or 0.0
    return connection.execute(delete(answers).where(here)).rowcount, spent


def _forget_prompts(store: Store) -> Pruned:
    with _piece(store) as connection:
        some = _unused(true()).limit(_SIZE)
        count = connection.execute(delete(prompts).where(prompts.c.hash.in_(some))).rowcount
    return Pruned(0, 0, 0, count, 0.0, dry=False)
