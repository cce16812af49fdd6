"""Budgets that last: a day's, a week's, a month's or a project's, kept in the store by all programs that use it."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from llmlab import settings
from llmlab.errors import BudgetExceeded, DataError, UnknownName
from llmlab.ledger import Ledger, check_budget

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.store import Store
    from llmlab.store.spending import Account

Period = Literal["day", "week", "month", "project"]
DAILY = 5.00
"""US dollars a day, where a daily budget is asked for without an amount."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


def ledger(
    budget: float | None = None,
    *,
    per: Period | None = None,
    warn: float | None = None,
    project: str | None = None,
    store: str | Store | None = None,
) -> Ledger:
    """Count what is spent inside `with lab.ledger(budget=5.00) as spending:`.

    Args:
        budget: US dollars, a hard limit: a call that could exceed it is not made and raises BudgetExceeded; an
            evaluation then ends with what it has. With per="day" it is 5 dollars if None.
        per: "day", "week" (from Monday), "month" (all in UTC) or "project" (for good): the budget is shared by all
            programs with the same store and project. None: it is that of this block alone.
        warn: share of the budget, in (0, 1), at which a UserWarning says so; a lasting budget also notes it in the
            store, so that one of its users says it once a period.
        project: what runs inside belong to, and whose budget it is; LLMLAB_PROJECT if None.
        store: where lasting budgets are kept; None is the default store.

    Raises:
        DataError: for a budget that is negative, infinite or not a number.
    """
    if per is None:
        return Ledger(budget, warn=warn, project=project)
    if per not in get_args(Period):
        raise UnknownName.among("period of a budget", per, get_args(Period))
    if budget is None:
        if per != "day":
            raise DataError(f"say how much may be spent per {per}: lab.ledger(budget=20.00, per={per!r})")
        budget = DAILY
    return SharedLedger(budget, per, warn, settings.project() if project is None else project, store)


class SharedLedger(Ledger):
    """A ledger whose budget is shared through the store, and never exceeded by all its users together.

    `spent`, `reserved` and `calls` are those of this ledger, `total` is that of all. The worst case of a call counts
    from before it is made; that of a program which was killed in a call stays counted until the period ends.
    """

    def __init__(self, budget: float, per: Period, warn: float | None, project: str, store: str | Store | None) -> None:
        check_budget(budget)
        super().__init__(None, warn=warn, project=project)
        self.budget = budget
        self.per = per
        self.store = store
        self._store: Store | None = None
        self._entered = 0
        self._opening = threading.Lock()
        self._accounts: dict[str, Account] = {}
        # by amount: a call that is under way when a new period begins belongs to the old one
        self._held: dict[tuple[str, float], list[Account]] = defaultdict(list)
        self._alerted: set[str] = set()

    @property
    def total(self) -> float:
        """US dollars that all have spent and reserved in the present period."""
        with self._opened() as store:
            return store.spending.total(self.project or "", self._start)

    @property
    def left(self) -> float:
        """US dollars of the budget that are neither spent nor reserved by anyone."""
        return self.budget - self.total if self.budget is not None else math.inf

    def reserve(self, amount: float, what: str, reason: str = "") -> None:
        assert self.budget is not None
        if math.isnan(amount):
            why = reason or f"{what} has no known price"
            raise BudgetExceeded(f"a budget of {self._limit()} cannot be kept: {why}; or run without a budget")
        with self._opened() as store:
            made, total = store.spending.reserve(
                self.project or "", what, amount, self.budget, self._start, self._accounts.get(what)
            )
            if made is None:
                left = max(self.budget - total, 0)
                raise BudgetExceeded(
                    f"the next call to {what} could cost up to ${amount:.4f}, and ${left:.4f} of {self._limit()} "
                    f"is left{self._clock(store)}; wait, raise the budget, or lower max_tokens"
                )
        with self._lock:
            self._accounts[what] = made
            self._held[what, amount].append(made)
            self.reserved += amount
        self._alert(total, total + amount)

    def release(self, reserved: float, cost: float, what: str = "") -> None:
        with self._lock:
            account = self._held[what, reserved].pop()
            self._unreserve(reserved)
            self.calls += 1
            self.unpriced += math.isnan(cost)
            self.spent += reserved if math.isnan(cost) else cost
        if not math.isnan(cost) and cost != reserved:
            with self._opened() as store:
                store.spending.settle(account, cost - reserved)

    def cancel(self, reserved: float, what: str = "") -> None:
        with self._lock:
            account = self._held[what, reserved].pop()
            self._unreserve(reserved)
        with self._opened() as store:
            store.spending.settle(account, -reserved)

    def __enter__(self) -> SharedLedger:
        with self._opening:
            if not self._entered:
                from llmlab.store import Store

                self._store = self.store if isinstance(self.store, Store) else Store(self.store)
            self._entered += 1
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        with self._opening:
            self._entered -= 1
            if not self._entered and self._store is not None:
                if self._store is not self.store:
                    self._store.close()
                self._store = None

    def __repr__(self) -> str:
        unpriced = f", {self.unpriced} unpriced" if self.unpriced else ""
        here = f"${self.spent:.4f} in {self.calls} call{'s' * (self.calls != 1)} here{unpriced}"
        return f"Ledger(${self.total:.4f} spent of {self._limit()}; {here})"

    def _alert(self, before: float, after: float) -> None:
        assert self.budget is not None
        if self.warn is None or after < self.warn * self.budget * (1 - 1e-9):
            return
        began = max(account.start for account in list(self._accounts.values()))
        key = f"{self.project}/{self.per}/{began:%Y-%m-%d}/{self.warn:g}/{self.budget:g}"
        if key in self._alerted:
            return
        self._alerted.add(key)
        with self._opened() as store:
            noted = {"total": after, "budget": self.budget, "per": self.per, "warn": self.warn}
            # of all programs that share the budget, one says it, once a period
            if not store.documents.claim("budget-alert", key, noted, project=self.project or ""):
                return
        self._say(after, self._limit())

    @contextmanager
    def _opened(self) -> Iterator[Store]:
        from llmlab.evaluation.evaluate import opened

        with opened(self._store or self.store) as store:
            yield store

    def _start(self, now: datetime) -> datetime:
        return period_start(self.per, now)

    def _limit(self) -> str:
        whose = f" of project {self.project!r}" if self.project else ""
        return f"${self.budget:.2f}{whose}" if self.per == "project" else f"${self.budget:.2f} a {self.per}{whose}"

    def _clock(self, store: Store) -> str:
        latest = store.spending.latest(self.project or "")
        if latest is None or latest <= datetime.now(UTC) + timedelta(minutes=1):
            return ""
        return f" (this clock is behind: money was spent at {latest:%Y-%m-%d %H:%M} UTC already, which counts)"


def period_start(per: Period, now: datetime) -> datetime:
    """When the period of a moment began, in UTC."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts: dict[Period, Callable[[], datetime]] = {
        "day": lambda: midnight,
        "week": lambda: midnight - timedelta(days=midnight.weekday()),
        "month": lambda: midnight.replace(day=1),
        "project": lambda: _ALWAYS,
    }
    return starts[per]()


def costs(since: str | date | None = None, *, store: str | Store | None = None) -> pd.DataFrame:
    """What stored answers cost, by day (UTC), model and project.

    Args:
        since: first day, a date or "2026-11-01"; None takes all.
        store: where the answers are; None is the default store.

    Returns:
        Columns day, model, project (that of the run that asked; see `lab.ledger(project=)`), answers, cost in US
        dollars, unpriced (answers without a known price, which are not in the cost) and imputed: True where the cost
        is the time of this machine by `configs/prices.yaml`, which nobody charges. What was asked outside of `evaluate`
        and its judges is not stored and not here; a lasting budget counts that too.

    Raises:
        DataError: for a date that is none.
    """
    import pandas as pd

    from llmlab.evaluation.evaluate import opened

    with opened(store) as source:
        lines = source.spending.history(_moment(since))
    columns = ["day", "model", "project", "answers", "cost", "unpriced", "imputed"]
    table = pd.DataFrame(lines, columns=columns)
    return table.astype({"answers": int, "cost": float, "unpriced": int, "imputed": bool}).assign(
        day=pd.to_datetime(table["day"])
    )


def _moment(since: str | date | None) -> datetime | None:
    if since is None:
        return None
    try:
        found = datetime.fromisoformat(since) if isinstance(since, str) else since
    except ValueError:
        raise DataError(f"since is a day such as '2026-11-01', or a date; got {since!r}") from None
    if not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
