"""Who spent what. A budget is a hard limit: the worst case of a call is reserved before it is made.

>>> import llmlab as lab
>>> with lab.ledger(budget=0.50) as spending:
...     answer = lab.model("scripted/echo").generate("hello")
>>> spending
Ledger($0.0000 spent of $0.50, 1 call)
"""

from __future__ import annotations

import contextvars
import math
import threading
import warnings
from collections.abc import Callable
from numbers import Real
from types import TracebackType
from typing import TYPE_CHECKING, SupportsFloat

from llmlab import settings
from llmlab._module import callable_module
from llmlab.errors import BudgetExceeded, DataError, LabError, ProviderError
from llmlab.types import Request, Response

if TYPE_CHECKING:
    from llmlab.models.base import Model

_active: contextvars.ContextVar[tuple[Ledger, ...]] = contextvars.ContextVar("ledgers", default=())


class Ledger:
    """Counts the calls made inside its `with` block, in all threads that inherit the context.

    Args:
        budget: US dollars that may be spent, None for no limit.
        warn: share of the budget, in (0, 1), at which a UserWarning says so, once.
        project: what runs inside belong to; None leaves it as it is outside.

    Attributes:
        spent: US dollars charged so far. What may have been charged without our knowing how much (a failed or
            interrupted call, an answer without usage) counts with its worst case.
        reserved: US dollars set aside for the calls in flight.
        calls, unpriced: how many calls were made, and how many of them have no known price.
    """

    def __init__(self, budget: float | None = None, *, warn: float | None = None, project: str | None = None) -> None:
        if budget is not None:
            check_budget(budget)
        if warn is not None and not (isinstance(warn, SupportsFloat) and 0 < warn < 1):
            raise DataError(f"warn is a share of the budget, in (0, 1), such as 0.8; got {warn!r}")
        self.budget = budget
        self.warn = warn
        self.project = project
        self.spent = 0.0
        self.reserved = 0.0
        self.calls = 0
        self.unpriced = 0
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """US dollars that are neither spent nor reserved; infinite without a budget."""
        return math.inf if self.budget is None else self.budget - self.spent - self.reserved

    def reserve(self, amount: float, what: str, reason: str = "") -> None:
        """Set `amount` dollars aside for a call, or raise BudgetExceeded; `reason` says why it is NaN."""
        with self._lock:
            if self.budget is None:
                return
            if math.isnan(amount):
                why = reason or f"{what} has no known price"
                raise BudgetExceeded(f"a budget of ${self.budget:.2f} cannot be kept: {why}; or run without a budget")
            # a hair of tolerance, so that float addition never refuses the last affordable call
            if self.spent + self.reserved + amount > self.budget * (1 + 1e-12):
                raise BudgetExceeded(
                    f"the next call to {what} could cost up to ${amount:.4f}, and ${max(self.left, 0):.4f} "
                    f"of ${self.budget:.2f} is left; raise the budget, lower max_tokens, or take a smaller n"
                )
            self.reserved += amount

    def release(self, reserved: float, cost: float, what: str = "") -> None:
        """Turn a reservation for `what` into what the call cost (NaN: unknown, counted as the reservation)."""
        with self._lock:
            self._unreserve(reserved)
            self.calls += 1
            before = self.spent
            if not math.isnan(cost):
                self.spent += cost
            else:
                self.unpriced += 1
                self.spent += reserved if self.budget is not None else 0.0
            after = self.spent
        self._alert(before, after)

    def cancel(self, reserved: float, what: str = "") -> None:
        """Give a reservation for `what` back; the call was not made."""
        with self._lock:
            self._unreserve(reserved)

    def _unreserve(self, amount: float) -> None:
        if self.budget is not None:
            self.reserved = max(0.0, self.reserved - amount)

    def _alert(self, before: float, after: float) -> None:
        """Warn when the spending has just passed the share of the budget that was asked for."""
        if self.warn is not None and self.budget and before < self.warn * self.budget * (1 - 1e-9) <= after:
            self._say(after, f"${self.budget:.2f}")

    def _say(self, spent: float, limit: str) -> None:
        warnings.warn(f"${spent:.4f} of {limit} are spent, more than {100 * (self.warn or 0):g} %", stacklevel=2)

    def __enter__(self) -> Ledger:
        _active.set((*_active.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active = list(_active.get())
        if self in active:  # a generator may close in another context than it was opened in
            active.reverse()
            active.remove(self)
            _active.set(tuple(reversed(active)))

    def __repr__(self) -> str:
        limit = "" if self.budget is None else f" of ${self.budget:.2f}"
        unpriced = f", {self.unpriced} unpriced" if self.unpriced else ""
        return f"Ledger(${self.spent:.4f} spent{limit}, {self.calls} call{'s' * (self.calls != 1)}{unpriced})"


class charge:  # noqa: N801  # reads as a verb: with charge(model, request) as bill
    """One call on every active ledger: reserve the worst case, then settle for what it cost.

    Args:
        model: that is asked.
        request: what it is asked.
        most: gives the worst case in US dollars where it is not that of this one request.
    """

    def __init__(self, model: Model, request: Request, most: Callable[[], float] | None = None) -> None:
        self.model = model
        self.request = request
        self.most = most or (lambda: model.worst_case(request))
        # a ledger that was entered twice counts a call once
        self.ledgers = tuple(dict.fromkeys(_active.get())) if model.billed else ()
        self.cost = math.nan
        self.worst = 0.0

    def __enter__(self) -> charge:
        reason = ""
        if any(ledger.budget is not None for ledger in self.ledgers):
            self.worst = self.most()
            if math.isnan(self.worst):
                from llmlab.prices import unbounded

                reason = unbounded(self.model.name, self.request)
        held: list[Ledger] = []
        try:
            for ledger in self.ledgers:
                ledger.reserve(self.worst, self.model.name, reason)
                held.append(ledger)
        except BaseException:
            for ledger in held:
                ledger.cancel(self.worst, self.model.name)
            raise
        return self

    def settle(self, response: Response) -> Response:
        """Note the cost of the answer; gives it back."""
        self.cost = 0.0 if response.cached else response.cost
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ledgers:
            return
        cost = self.cost if error is None else self._failed(error)
        for ledger in self.ledgers:
            ledger.release(self.worst, cost, self.model.name)

    def _failed(self, error: BaseException) -> float:
        if not math.isnan(self.cost):
            return self.cost  # the answer was there already when something else went wrong
        if isinstance(error, LabError) and not (isinstance(error, ProviderError) and error.paid):
            return 0.0  # never sent, or refused
        # failed or interrupted in flight: it may have been charged
        return self.worst or self.most()


def check_budget(budget: object) -> None:
    """Refuse what is no amount of money."""
    amount = float(budget) if isinstance(budget, Real) else math.nan
    if not (amount >= 0 and math.isfinite(amount)):
        raise DataError(f"a budget is a finite number of US dollars, 0 or more; got {budget!r}")


def project() -> str:
    """What runs belong to now: that of the innermost active ledger that names one, else LLMLAB_PROJECT, else ""."""
    named = (ledger.project for ledger in reversed(_active.get()) if ledger.project is not None)
    return next(named, None) or settings.project()


# lasting budgets are kept in the store, so the function stands above it
callable_module(__name__, "llmlab.evaluation.budgets:ledger")
