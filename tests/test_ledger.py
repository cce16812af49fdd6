"""The ledger: a budget is never exceeded, and nothing that may have been charged is forgotten."""

from __future__ import annotations

import contextvars
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from llmlab.errors import BudgetExceeded, LabError, MissingKey, ProviderError, Timeout
from llmlab.evaluation.budgets import ledger
from llmlab.ledger import Ledger, charge
from llmlab.models.scripted import Scripted
from llmlab.types import NAN, Chunk, Request, Response


class Billed(Scripted):
    """A scripted model whose worst case differs from what a call costs."""

    def __init__(self, script="ok", *, cost: float = 0.01, worst: float = 0.01, seconds: float = 0.0) -> None:
        super().__init__(script, cost=cost, seconds=seconds)
        self.worst = worst

    def worst_case(self, request: Request) -> float:
        return self.worst


def failing(error: BaseException, **costs: float) -> Billed:
    def script(request: Request) -> str:
        raise error

    return Billed(script, **costs)


def test_ledger_counts_calls_and_dollars():
    with ledger() as spending:
        for _ in range(3):
            Billed(cost=0.25).generate("hi")
    assert spending.spent == 0.75
    assert spending.calls == 3
    assert spending.reserved == 0
    assert repr(spending) == "Ledger($0.7500 spent, 3 calls)"


def test_call_after_the_block_is_not_counted():
    with ledger() as spending:
        pass
    Billed().generate("hi")
    assert spending.calls == 0


def test_model_that_nobody_bills_does_not_touch_the_budget():
    model = Billed(worst=NAN)
    model.billed = False
    with ledger(budget=0) as spending:
        model.generate("hi")
    assert spending.calls == 0


def test_call_that_could_exceed_the_budget_is_not_made():
    model = Billed(cost=0.01, worst=0.02)
    with ledger(budget=0.05) as spending, pytest.raises(BudgetExceeded, match=r"up to \$0\.0200, and \$0\.0100"):
        for _ in range(10):
            model.generate("hi")
    assert model.calls == 4
    assert spending.spent == pytest.approx(0.04)
    assert spending.reserved == 0


def test_budget_can_be_spent_to_the_last_cent():
    model = Billed(cost=0.01, worst=0.01)
    with ledger(budget=1.0) as spending:
        for _ in range(100):
            model.generate("hi")
        with pytest.raises(BudgetExceeded):
            model.generate("hi")
    assert spending.spent == pytest.approx(1.0)


def test_free_calls_pass_a_budget_of_zero():
    with ledger(budget=0) as spending:
        Billed(cost=0, worst=0).generate("hi")
    assert spending.calls == 1


@pytest.mark.parametrize("budget", [-1, NAN, math.inf, "5"])
def test_budget_must_be_an_amount_of_money(budget: float):
    with pytest.raises(ValueError, match="a budget is a finite number of US dollars, 0 or more"):
        ledger(budget=budget)


def test_64_threads_never_exceed_the_budget():
    seen: list[float] = []
    model = Billed(cost=0.01, worst=0.03, seconds=0.0005)

    def work(spending: Ledger) -> int:
        made = 0
        for _ in range(20):
            try:
                model.generate("hi")
                made += 1
            except BudgetExceeded:
                pass
            seen.append(spending.spent + spending.reserved)
        return made

    with ledger(budget=2.0) as spending, ThreadPoolExecutor(64) as pool:
        contexts = [contextvars.copy_context() for _ in range(64)]
        made = sum(pool.map(lambda context: context.run(work, spending), contexts))
    assert made == spending.calls == model.calls
    assert 100 <= made <= 200
    assert spending.spent == pytest.approx(0.01 * made)
    assert spending.spent <= 2.0
    assert spending.reserved == pytest.approx(0, abs=1e-12)
    assert max(seen) <= 2.0 + 0.03  # read without the lock: one call may be between its two counters


def test_reservations_of_threads_in_flight_count_against_the_budget():
    inside, leave = threading.Event(), threading.Event()

    def slow(request: Request) -> str:
        inside.set()
        leave.wait(10)
        return "ok"

    with ledger(budget=0.03) as spending:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(Billed(slow, worst=0.02).generate, "hi"))
        thread.start()
        assert inside.wait(10)
        assert spending.left == pytest.approx(0.01)
        with pytest.raises(BudgetExceeded):
            Billed(worst=0.02).generate("hi")
        leave.set()
        thread.join()
        Billed(worst=0.02).generate("hi")
    assert spending.calls == 2


def test_nested_ledgers_all_count_and_the_tightest_budget_wins():
    with ledger(budget=1.0) as outer, ledger() as middle, ledger(budget=0.05) as inner:
        for _ in range(5):
            Billed().generate("hi")
        with pytest.raises(BudgetExceeded, match=r"of \$0\.05 is left"):
            Billed().generate("hi")
        assert outer.reserved == middle.reserved == inner.reserved == 0
    assert outer.calls == middle.calls == inner.calls == 5
    with ledger(budget=1.0) as again:
        Billed().generate("hi")
    assert (again.calls, inner.calls) == (1, 5)


def test_ledger_entered_twice_counts_a_call_once():
    with ledger(budget=1.0) as spending:
        with spending:
            Billed().generate("hi")
        Billed().generate("hi")
    Billed().generate("hi")
    assert spending.calls == 2


def test_ledger_goes_on_counting_when_entered_again():
    spending = ledger(budget=0.015)
    with spending:
        Billed().generate("hi")
    with spending, pytest.raises(BudgetExceeded):
        Billed().generate("hi")


def test_ledger_may_be_entered_in_several_threads():
    spending = ledger()

    def work(_: int) -> None:
        with spending:
            Billed(seconds=0.001).generate("hi")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(32)))
    assert spending.calls == 32


def test_calls_that_an_interceptor_makes_in_a_batch_are_counted():
    reviewer, local = Billed(cost=0.01), Scripted("draft")
    local.billed, local.local = False, True

    def reviewed(request: Request, call):
        return reviewer.generate(call(request).text)

    with ledger(budget=0.035) as spending:
        answers = local.through(reviewed).generate_batch([Request.of(str(i)) for i in range(8)])
    assert spending.calls == 3
    assert sum(isinstance(answer, BudgetExceeded) for answer in answers) == 5


# -- what may have been charged ---------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [None, 1.0])
def test_failed_call_that_was_paid_counts_its_worst_case(budget: float | None):
    with ledger(budget=budget) as spending, pytest.raises(Timeout):
        failing(Timeout("no answer", paid=True), worst=0.3).generate("hi")
    assert spending.spent == 0.3
    assert (spending.calls, spending.reserved) == (1, 0)


@pytest.mark.parametrize("budget", [None, 1.0])
@pytest.mark.parametrize("error", [ProviderError("refused"), MissingKey("no key"), LabError("before it was sent")])
def test_failed_call_that_was_not_paid_costs_nothing(error: LabError, budget: float | None):
    with ledger(budget=budget) as spending, pytest.raises(LabError):
        failing(error, worst=0.3).generate("hi")
    assert (spending.spent, spending.reserved, spending.unpriced) == (0, 0, 0)


@pytest.mark.parametrize("budget", [None, 1.0])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug of the adapter")])
def test_call_interrupted_in_flight_counts_its_worst_case(error: BaseException, budget: float | None):
    with ledger(budget=budget) as spending, pytest.raises(type(error)):
        failing(error, worst=0.3).generate("hi")
    assert (spending.spent, spending.reserved) == (0.3, 0)


def test_stream_that_is_dropped_counts_its_worst_case():
    class Streaming(Billed):
        def _stream(self, request: Request):
            yield Chunk("one")
            yield Chunk("two")

    with ledger(budget=1.0) as spending:
        stream = Streaming(worst=0.3).stream("hi")
        next(stream)
        assert spending.reserved == 0.3
        stream.close()
    assert (spending.spent, spending.reserved) == (0.3, 0)


def test_finished_stream_costs_what_it_cost():
    with ledger(budget=1.0) as spending:
        list(Billed("one two", cost=0.1, worst=0.3).stream("hi"))
    assert (spending.spent, spending.reserved) == (0.1, 0)


def test_answer_of_unknown_cost_counts_its_worst_case_under_a_budget():
    model = Billed(cost=NAN, worst=0.3)
    with ledger(budget=1.0) as limited, ledger() as counting:
        model.generate("hi")
    assert (limited.spent, limited.unpriced) == (0.3, 1)
    assert (counting.spent, counting.unpriced) == (0, 1)
    assert repr(counting) == "Ledger($0.0000 spent, 1 call, 1 unpriced)"


def test_answer_from_the_store_costs_nothing_now():
    model = Billed(cost=0.1, worst=0.3)
    with ledger(budget=1.0) as spending, charge(model, Request.of("hi")) as bill:
        bill.settle(replace(model._respond(Request.of("hi")), cached=True))
    assert spending.spent == 0


def test_error_after_the_answer_costs_what_the_answer_cost():
    model = Billed(worst=0.3)
    late = pytest.raises(ValueError, match="later")
    with ledger(budget=1.0) as spending, late, charge(model, Request.of("hi")) as bill:
        bill.settle(Response("ok", cost=0.1))
        raise ValueError("later")
    assert (spending.spent, spending.reserved) == (0.1, 0)


# -- what cannot be bounded -------------------------------------------------------------------------------


def test_unpriced_model_is_refused_under_a_budget_and_not_called():
    model = Billed(worst=NAN)
    model.name = "compatible/mystery"
    with ledger(budget=1.0), pytest.raises(BudgetExceeded) as caught:
        model.generate("hi")
    assert model.calls == 0
    assert "a budget of $1.00 cannot be kept: compatible/mystery has no known price" in str(caught.value)
    assert "LLMLAB_PRICES" in str(caught.value)


def test_answer_without_a_length_limit_is_refused_with_that_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llmlab.prices._models", dict)
    model = Billed(worst=NAN)
    model.name = "openai/gpt-4o-mini"
    with ledger(budget=1.0), pytest.raises(BudgetExceeded, match="set max_tokens; or run without a budget"):
        model.generate("hi")


def test_unpriced_model_runs_without_a_budget_and_is_counted():
    with ledger() as spending:
        Billed(worst=NAN, cost=NAN).generate("hi")
    assert (spending.calls, spending.unpriced) == (1, 1)


def test_error_while_bounding_leaves_no_reservation():
    class Odd(Billed):
        def worst_case(self, request: Request) -> float:
            raise RuntimeError("odd")

    with ledger(budget=1.0) as spending, pytest.raises(RuntimeError):
        Odd().generate("hi")
    assert (spending.reserved, spending.spent, spending.calls) == (0, 0, 0)
