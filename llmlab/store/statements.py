"""The SQL that is more than one line, for SQLite and Postgres alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    Select,
    Table,
    Update,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Compiled
from sqlalchemy.sql.dml import ReturningInsert

from llmlab.store.codec import from_text, to_json, to_text
from llmlab.store.tables import answers, costs, documents, prompts, rows, runs

PRUNING = "pruning"
"""Kind of the one document that counts how often something was deleted."""
LATEST_FIRST = (runs.c.created.desc(), runs.c.number.desc())
_CHUNK = 900
_REPEATED = 4
"""Rows per answer that are looked through; of answers that were used again more often, fewer are found."""


def new_answers(dialect: Dialect) -> ReturningInsert[str]:
    """Insert answers whose key is new, and give the keys that were."""
    return _insert(answers, dialect).on_conflict_do_nothing().returning(answers.c.key)


def new_prompts(dialect: Dialect) -> Insert:
    """Insert prompts that are new."""
    return _insert(prompts, dialect).on_conflict_do_nothing()


def new_documents(dialect: Dialect) -> ReturningInsert[str]:
    """Insert documents whose key is new, and give the keys that were."""
    return _insert(documents, dialect).on_conflict_do_nothing().returning(documents.c.key)


def added_costs(dialect: Dialect) -> Insert:
    """Add to the sums of a day, model and project."""
    new = _insert(costs, dialect)
    sums = {name: costs.c[name] + new.excluded[name] for name in ("answers", "cost", "unpriced")}
    return new.on_conflict_do_update(index_elements=["day", "model", "project", "imputed"], set_=sums)


class Rows:
    """Insert rows, or replace those of the same item.

    Straight through the driver: with this many columns SQLAlchemy's handling of parameters would take most of
    the time.
    """

    def __init__(self, dialect: Dialect) -> None:
        new = _insert(rows, dialect)
        names = [c.name for c in rows.c if c.name != "number"]
        upsert = new.on_conflict_do_update(
            index_elements=["run", "model", "benchmark", "protocol", "sample", "repeat"],
            set_={name: new.excluded[name] for name in names},
        )
        compiled: Compiled = upsert.compile(dialect=dialect, column_keys=names)
        self.sql = str(compiled)
        self.order: list[str] | None = getattr(compiled, "positiontup", None)

    def put(self, connection: Connection, encoded: Sequence[dict[str, Any]]) -> None:
        """Write rows whose values are those of the database already."""
        if self.order is None:
            connection.exec_driver_sql(self.sql, encoded)
        else:
            connection.exec_driver_sql(self.sql, [tuple(row[name] for name in self.order) for row in encoded])


def latest_run() -> Select[str]:
    """The id of the run that began last; runs of other tools were imported after they began."""
    return select(runs.c.id).order_by(*LATEST_FIRST).limit(1)


def began_before(created: datetime, number: int) -> ColumnElement[bool]:
    """Whether a run stands behind this place in the order of `LATEST_FIRST`."""
    return tuple_(runs.c.created, runs.c.number) < tuple_(literal(created, runs.c.created.type), number)


def totals() -> Select[Any]:
    """Runs, rows and cost. The rows of runs that did not end are counted one by one."""
    ended = func.coalesce(func.sum(runs.c.size), 0)
    open_ = select(runs.c.id).where(runs.c.size.is_(None))
    under_way = select(func.count()).select_from(rows).where(rows.c.run.in_(open_))
    cost = func.coalesce(func.sum(runs.c.cost), 0.0)
    return select(func.count(), ended + under_way.scalar_subquery(), cost).select_from(runs)


def rows_of(run: str, columns: Collection[str], where: Mapping[str, Collection[str]]) -> Select[Any]:
    """Rows of a run: some columns, and `nones`; with a text also `shared_text`, and the reply that may hold it."""
    wanted: list[ColumnElement[Any]] = [rows.c[name] for name in columns if name != "prompt"]
    query = select(*wanted, rows.c.nones).where(rows.c.run == run).order_by(rows.c.number)
    for name, values in where.items():
        query = query.where(rows.c[name].in_([to_text(value) for value in values]))
    if "prompt" in columns:
        query = query.add_columns(prompts.c.text.label("prompt"))
        query = query.outerjoin_from(rows, prompts, prompts.c.hash == rows.c.prompt)
    if "text" in columns:
        query = query.add_columns(rows.c.shared_text, answers.c.reply)
        query = query.outerjoin_from(rows, answers, (answers.c.key == rows.c.answer_key) & rows.c.shared_text)
    return query


def cells(connection: Connection, ids: Sequence[str]) -> dict[str, list[list[Any]]]:
    """Run -> its [model, benchmark, number of rows], in the order they were first stored; counted row by row."""
    found: dict[str, list[list[Any]]] = {}
    for start in range(0, len(ids), _CHUNK):
        query = (
            select(rows.c.run, rows.c.model, rows.c.benchmark, func.count())
            .where(rows.c.run.in_(ids[start : start + _CHUNK]))
            .group_by(rows.c.run, rows.c.model, rows.c.benchmark)
            .order_by(func.min(rows.c.number))
        )
        for run, model, benchmark, count in connection.execute(query):
            found.setdefault(run, []).append([from_text(model), from_text(benchmark), count])
    return found


def count_cells(connection: Connection, ids: Sequence[str]) -> None:
    """Note with runs how many rows they have: counting the rows of every run to list them takes seconds."""
    counted = cells(connection, ids)
    for run in ids:
        here = counted.get(run, [])
        noted = {"cells": to_json(here), "size": sum(cell[2] for cell in here)}
        connection.execute(update(runs).where(runs.c.id == run).values(noted))


def uncounted(ids: Collection[str]) -> Update:
    """Forget what `count_cells` noted with runs that get more rows."""
    return update(runs).where(runs.c.id.in_(ids), runs.c.cells.is_not(None)).values(cells=None, size=None)


def prunings() -> Select[str]:
    """What changes when something is deleted from the database."""
    return select(documents.c.body).where(documents.c.kind == PRUNING, documents.c.key == "")


def usage_of(model: str, benchmark: str, protocol: str, limit: int) -> Select[Any]:
    """Input and output tokens and seconds of the latest answers, each answer once."""
    latest = (
        select(rows.c.answer_key, rows.c.input_tokens, rows.c.output_tokens, rows.c.seconds, rows.c.number)
        .where(
            rows.c.model == to_text(model),
            rows.c.benchmark == to_text(benchmark),
            rows.c.protocol == to_text(protocol),
            rows.c.input_tokens.is_not(None),
            rows.c.output_tokens.is_not(None),
        )
        .order_by(rows.c.number.desc())
        .limit(_REPEATED * limit)
        .subquery()
        .c
    )
    key = (latest.input_tokens, latest.output_tokens, latest.seconds)
    return select(*key).group_by(latest.answer_key, *key).order_by(func.max(latest.number).desc()).limit(limit)


def _insert(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
