"""What is damaged, half-written or left over in a database: questions that change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, exists, func, select

from llmlab.store.tables import Json, answers, documents, metadata, prompts, rows, runs

_ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: what, how often, whether something is lost, and what to do."""

    what: str
    count: int
    serious: bool
    advice: str

    def __str__(self) -> str:
        return f"{'LOST: ' if self.serious else ''}{self.what} ({self.count:,}): {self.advice}"


def findings(connection: Connection) -> tuple[dict[str, int], tuple[Finding, ...]]:
    """The number of rows per table, and what was found."""
    pages = tuple(_pages(connection))
    if pages:  # whatever else is asked of a damaged file may fail
        return {}, pages
    counts = {t.name: connection.scalar(select(func.count()).select_from(t)) or 0 for t in metadata.sorted_tables}
    return counts, (*_links(connection), *_json(connection), *_abandoned(connection))


def _pages(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name != "sqlite":
        return
    said = [str(record[0]) for record in connection.exec_driver_sql("pragma quick_check(20)")]
    if said != ["ok"]:
        advice = "restore a backup, or save what can be read with `sqlite3 FILE .recover`"
        yield Finding(f"damaged pages: {said[0]}", len(said), True, advice)


def _links(connection: Connection) -> Iterator[Finding]:
    has_answer = exists().where(answers.c.key == rows.c.answer_key)
    count = select(func.count()).select_from(rows)
    asked: list[tuple[str, Select[Any], bool, str]] = [
        (
            "rows whose text was kept with an answer that is gone",
            count.where(rows.c.shared_text, ~has_answer),
            True,
            "their scores are there, their texts are not; a backup may have them",
        ),
        (
            "rows whose prompt is gone",
            count.where(rows.c.prompt.is_not(None), ~exists().where(prompts.c.hash == rows.c.prompt)),
            True,
            "a backup may have it",
        ),
        (
            "rows of a run that is not noted",
            count.where(~exists().where(runs.c.id == rows.c.run)),
            True,
            "no command shows them; a backup may have the run",
        ),
        (
            "rows whose answer is gone, with their own text",
            count.where(rows.c.answer_key.is_not(None), ~rows.c.shared_text, ~has_answer),
            False,
            "nothing is missing; asking the same again is paid again",
        ),
        (
            "prompts that no row uses",
            select(func.count()).select_from(select(prompts.c.hash).except_(select(rows.c.prompt)).subquery()),
            False,
            "`llmlab store prune` forgets them",
        ),
    ]
    for what, query, serious, advice in asked:
        if found := connection.scalar(query):
            yield Finding(what, found, serious, advice)


def _json(connection: Connection) -> Iterator[Finding]:
    for table, keys in ((answers, "key"), (runs, "id"), (rows, "number"), (documents, "key")):
        for column in table.c:
            if isinstance(column.type, Json):
                bad = list(_unreadable(connection, table, column, keys))
                if bad:
                    first = ", ".join(bad[:3])
                    what = f"unreadable JSON in {table.name}.{column.name}, such as {keys} {first}"
                    yield Finding(what, len(bad), True, "cut short or changed by hand; restore a backup")


def _unreadable(connection: Connection, table: Table, column: Column[Any], key: str) -> Iterator[str]:
    query = select(table.c[key], column).where(column.is_not(None))
    if connection.dialect.name == "sqlite":
        # what SQLite can read, Python can; the rest may be NaN, which SQLite does not know
        query = query.where(func.json_valid(column) == 0)
    for name, text in connection.execution_options(yield_per=1000).execute(query):
        try:
            json.loads(text)
        except (ValueError, TypeError):
            yield str(name)


def _abandoned(connection: Connection) -> Iterator[Finding]:
    before = datetime.now(UTC) - _ABANDONED
    query = (
        select(func.count())
        .select_from(runs)
        .where(runs.c.status.in_(["running", "stopping"]), runs.c.created < before)
    )
    if found := connection.scalar(query):
        advice = "their program ended without a word; what they stored is whole, the same call again goes on"
        yield Finding("runs that began over a day ago and did not end", found, False, advice)
