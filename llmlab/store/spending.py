"""What was spent: running totals that budgets are kept by, and the cost of all answers that were ever stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, func, insert, literal, select, update

from llmlab.store.codec import decode_columns, encode, to_text
from llmlab.store.statements import added_costs
from llmlab.store.tables import costs, spend

Transaction = Callable[[], AbstractContextManager[Connection]]
IMPUTED = "machine-hour"
"""What the price of an answer begins with that nobody charges: the time of this machine."""
_KEY = ("day", "model", "project", "imputed")
_SUMS = ("answers", "cost", "unpriced")


class Account(NamedTuple):
    """A row that holds what one ledger has spent and reserved on one model since `start`."""

    number: int
    start: datetime


class Spending:
    """`store.spending`: sums that stay right with many threads and processes, and the history of costs."""

    def __init__(self, dialect: Dialect, reading: Transaction, writing: Transaction) -> None:
        self._postgres = dialect.name == "postgresql"
        self._add_costs = added_costs(dialect)
        self._reading = reading
        self._writing = writing

    def reserve(
        self,
        project: str,
        model: str,
        amount: float,
        limit: float,
        start: Callable[[datetime], datetime],
        account: Account | None = None,
    ) -> tuple[Account | None, float]:
        """Add `amount` to what a project spends on a model, unless the total of the period would pass `limit`.

        Args:
            project: whose budget it is.
            model: that is asked.
            amount: US dollars that the call may cost.
            limit: US dollars for the whole period.
            start: when the period of a moment began.
            account: where this ledger has added before.

        Returns:
            The account that was added to, None when nothing was; and the total of the period before.
        """
        with self._writing() as connection:
            if self._postgres:
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(to_text(f"spend\n{project}")))))
            now = self._now(connection, project)
            began = start(now)
            total = self._total(connection, project, began)
            # a hair of tolerance, so that float addition never refuses the last affordable call
            if total + amount > limit * (1 + 1e-12):
                return None, total
            if account is None or account.start != began:
                account = Account(self._open(connection, project, model, now), began)
            self._add(connection, account, amount)
            return account, total

    def settle(self, account: Account, change: float) -> None:
        """Correct a reservation by the difference to what the call cost."""
        with self._writing() as connection:
            self._add(connection, account, change)

    def total(self, project: str, start: Callable[[datetime], datetime]) -> float:
        """US dollars that a project has spent and reserved in the present period."""
        with self._reading() as connection:
            return self._total(connection, project, start(self._now(connection, project)))

    def latest(self, project: str) -> datetime | None:
        """When the project last began to spend, as the clock was then; None when it never did."""
        with self._reading() as connection:
            return self._latest(connection, project)

    def history(self, since: date | None = None) -> list[dict[str, Any]]:
        """The cost of all answers by day (UTC) from a day on, model and project: answers, cost, unpriced, imputed.

        The project is that of the run that asked; "" for answers of no run. imputed marks the time of this machine,
        which nobody charges. Answers that were pruned still count.
        """
        query = select(costs).order_by(*(costs.c[name] for name in _KEY))
        if since is not None:
            query = query.where(costs.c.day >= _day(since))
        with self._reading() as connection:
            found = connection.execute(query).all()
        if not found:
            return []
        columns = decode_columns(costs, dict(zip(costs.c.keys(), zip(*found, strict=True), strict=True)))
        return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]

    def note(self, connection: Connection, records: Iterable[Mapping[str, Any]]) -> None:
        """Add what new answers cost to the sums, as a part of the transaction that stores them.

        Args:
            connection: of the transaction.
            records: answers as `save_answers` takes them, with `created` and perhaps `project`.
        """
        sums: dict[tuple[str, str, str, bool], dict[str, Any]] = {}
        for record in records:
            cost = record.get("cost")
            unpriced = cost is None or math.isnan(cost)
            key = (
                _day(record["created"]),
                record.get("model") or "",
                record.get("project") or "",
                str(record.get("price") or "").startswith(IMPUTED),
            )
            line = sums.setdefault(key, dict(zip(_KEY, key, strict=True)) | dict.fromkeys(_SUMS, 0))
            line["answers"] += 1
            line["cost"] += 0.0 if unpriced else cost
            line["unpriced"] += unpriced
        if sums:
            # in one order everywhere, or two writers could wait for each other
            connection.execute(self._add_costs, [encode(costs, sums[key]) for key in sorted(sums)])

    def _now(self, connection: Connection, project: str) -> datetime:
        # a clock that was set back must not open a period again in which money was spent already
        latest, now = self._latest(connection, project), datetime.now(UTC)
        return now if latest is None else max(now, latest)

    def _latest(self, connection: Connection, project: str) -> datetime | None:
        found = connection.execute(
            select(func.max(spend.c.created)).where(spend.c.project == to_text(project))
        ).scalar()
        return None if found is None else found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def _total(self, connection: Connection, project: str, start: datetime) -> float:
        query = select(func.coalesce(func.sum(spend.c.cost), literal(0.0)))
        query = query.where(spend.c.project == to_text(project), spend.c.created >= start)
        return float(connection.execute(query).scalar_one())

    def _open(self, connection: Connection, project: str, model: str, now: datetime) -> int:
        made = encode(spend, {"created": now, "project": project, "model": model, "cost": 0.0})
        return int(connection.execute(insert(spend).returning(spend.c.number), made).scalar_one())

    def _add(self, connection: Connection, account: Account, amount: float) -> None:
        changed = update(spend).where(spend.c.number == account.number).values(cost=spend.c.cost + amount)
        connection.execute(changed)


def _day(when: date) -> str:
    """The day of a moment in UTC, or a day itself."""
    return f"{when.astimezone(UTC) if isinstance(when, datetime) else when:%Y-%m-%d}"
