"""Sums of what answers cost, and the sizes of runs, so that no page reads every row."""

import json

import sqlalchemy as sa
from alembic import op

from llmlab.store.codec import from_text, to_json, to_text

revision = "0005"
down_revision = "0004"

_LINE = ("day", "model", "project", "imputed", "answers", "cost", "unpriced")
# the project is that of the run that asked first
_COSTS = """
    insert into costs (day, model, project, imputed, answers, cost, unpriced)
    select {day}, coalesce(a.model, ''), coalesce(runs.project, ''), coalesce(a.price, '') like 'machine-hour%',
        count(*), coalesce(sum(a.cost), 0), count(*) - count(a.cost)
    from answers a
    left join (
        select rows.answer_key as key, min(runs.number) as number from rows join runs on runs.id = rows.run
        where rows.answer_key is not null group by rows.answer_key
    ) asked on asked.key = a.key
    left join runs on runs.number = asked.number
    group by 1, 2, 3, 4
"""
_CELLS = """
    select run, model, benchmark, count(*) from rows group by run, model, benchmark order by run, min(number)
"""
_ADD = """
    insert into costs (day, model, project, imputed, answers, cost, unpriced)
    values (:day, :model, :project, :imputed, :answers, :cost, :unpriced)
    on conflict (day, model, project, imputed) do update set answers = costs.answers + excluded.answers,
        cost = costs.cost + excluded.cost, unpriced = costs.unpriced + excluded.unpriced
"""


def upgrade() -> None:
    """Add up what is stored and what pruning kept."""
    op.create_table(
        "costs",
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("imputed", sa.Boolean, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.Double, nullable=False),
        sa.Column("unpriced", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "model", "project", "imputed", name="costs_pkey"),
    )
    op.add_column("runs", sa.Column("size", sa.BigInteger))
    op.create_index("runs_by_time", "runs", ["created", "number"])
    connection = op.get_bind()
    _count(connection)
    day = (
        "substr(a.created, 1, 10)"
        if connection.dialect.name == "sqlite"
        else "to_char(timezone('UTC', a.created), 'YYYY-MM-DD')"
    )
    connection.execute(sa.text(_COSTS.format(day=day)))
    for (body,) in connection.execute(sa.text("select body from documents where kind = 'spending.pruned'")).all():
        line = {name: json.loads(body)[name] for name in _LINE}
        connection.execute(sa.text(_ADD), line | {name: to_text(line[name]) for name in ("model", "project")})
    connection.execute(sa.text("delete from documents where kind = 'spending.pruned'"))


def _count(connection: sa.Connection) -> None:
    """Note with each run that ended which models and benchmarks it has, and how many rows."""
    ended = connection.scalars(sa.text("select id from runs where status <> 'running'")).all()
    found: dict[str, list[list[object]]] = {run: [] for run in ended}
    for run, model, benchmark, count in connection.execute(sa.text(_CELLS)):
        if run in found:
            found[run].append([from_text(model), from_text(benchmark), count])
    for run, cells in found.items():
        noted = {"run": run, "cells": to_json(cells), "size": sum(int(str(cell[2])) for cell in cells)}
        connection.execute(sa.text("update runs set cells = :cells, size = :size where id = :run"), noted)
