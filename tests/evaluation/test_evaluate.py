"""The loop: what is asked, what is stored, what is counted, and what survives."""

from __future__ import annotations

import _thread
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import DataError, ServerFault, StoreError, Unauthorized, UnknownName
from llmlab.models.scripted import Scripted
from llmlab.store import Store
from llmlab.types import Request, Response, Usage

from .toy import Doubling, right, twice, wrong


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def run(models, benchmark=None, store=None, **settings):
    return lab.evaluate(models, benchmark or Doubling(), store=store, progress=False, **settings)


def test_one_row_per_model_item_and_repeat(store: str) -> None:
    results = run([right(), wrong()], store=store, n=5, repeats=2)
    samples = results.samples
    assert len(samples) == 2 * 5 * 2
    assert not samples.duplicated(["model", "sample", "repeat"]).any()
    assert set(samples[samples.model == "scripted/right"].score) == {1.0}


def test_same_items_for_every_model_and_smaller_n_is_contained(store: str) -> None:
    few = run([right(), wrong()], store=store, n=5).samples
    many = run([right(), wrong()], store=store, n=10).samples
    for table in (few, many):
        per_model = table.groupby("model")["sample"].apply(set)
        assert per_model.iloc[0] == per_model.iloc[1]
    assert set(few["sample"]) < set(many["sample"])
    assert set(run(right(), store=store, n=5, seed=1).samples["sample"]) != set(few["sample"])


def test_stored_answers_are_not_asked_again(store: str) -> None:
    first, second = right(), right()
    before = run(first, store=store)
    after = run(second, store=store)
    assert (first.calls, second.calls) == (20, 0)
    assert after.samples.cached.all() and not before.samples.cached.any()
    assert before.summary()["score"].tolist() == after.summary()["score"].tolist()


def test_cache_off_asks_again_and_still_stores(store: str) -> None:
    model = right()
    run(model, store=store)
    run(model, store=store, cache=False)
    assert model.calls == 40


def test_other_options_or_version_or_repeat_are_other_answers(store: str) -> None:
    for model in (right(), right().with_options(temperature=0.5), right(version="2")):
        before = model.calls
        run(model, store=store, n=3)
        assert model.calls - before == 3
    more = right()
    run(more, store=store, n=3, repeats=2)
    assert more.calls == 3


def test_failed_call_is_a_counted_row_and_never_an_answer(store: str) -> None:
    results = run(Scripted(_flaky, "scripted/flaky"), store=store, n=None)
    failed = results.samples[results.samples.error != ""]
    assert len(failed) == 11 and failed.score.isna().all() and set(failed.error_kind) == {"ServerFault"}
    summary = results.summary().iloc[0]
    assert summary["score"] == 1.0 and summary["n"] == 9 and summary["failed"] == 11


def _flaky(request: Request) -> str:
    if "1" in request.prompt:
        raise ServerFault("boom (500)")
    return twice(request)


def test_failed_calls_are_asked_again_the_next_time(store: str) -> None:
    bad, good = Scripted(_flaky, "scripted/m"), Scripted(twice, "scripted/m")
    bad.identity = good.identity = lambda: {"model": "m"}  # type: ignore[method-assign]
    run(bad, store=store)
    results = run(good, store=store)
    assert good.calls == 11
    assert results.summary().iloc[0]["n"] == 20


def test_wrong_key_stops_that_model_at_once_and_only_that_one(store: str) -> None:
    def locked(request: Request) -> str:
        raise Unauthorized("wrong key (401)")

    model = Scripted(locked, "scripted/locked")
    results = run([model, right()], store=store, threads=1)
    assert model.calls == 1
    assert (results.samples.error != "").sum() == 20
    assert results.summary().set_index("model").loc["scripted/right", "score"] == 1.0


def test_refused_truncated_empty_and_unparsable_are_counted_apart(store: str) -> None:
    answers = [
        Response("I'm sorry, but I cannot help with that."),
        Response("thinking about", finish_reason="length"),
        Response("  "),
        Response("", finish_reason="refusal"),
    ]
    table = run(Scripted(answers, "scripted/mixed"), Doubling(4), store=store, threads=1).samples  # type: ignore[arg-type]
    assert table.refused.sum() == 2
    assert table.truncated.sum() == 1
    assert table["empty"].sum() == 1
    assert (~table.parsed).sum() == 2
    assert (table.error == "").all()


def test_sympathy_is_no_refusal(store: str) -> None:
    answers = ["I'm sorry to hear that. The sum is 4.", "I am sorry for the delay: 6", "I'm sorry, I won't."]
    table = run(Scripted(answers, "scripted/kind"), Doubling(3), store=store, threads=1).samples
    assert table.refused.tolist() == [False, False, True]


@pytest.mark.parametrize("protocol", ["loglikelihood", "generate"])
def test_prompts_that_lose_their_beginning_are_counted(protocol: str, store: str) -> None:
    choices = ("a ball", "a box")
    samples = [lab.Sample("What is round? " * times, choices=choices, target=0) for times in (1, 2000)]
    results = run(lab.model("micro/small", max_tokens=4), lab.suite(samples), store=store, protocol=protocol)
    (line,) = results.summary().to_dict("records")
    assert (line["shortened"], line["failed"], line["n"]) == (1, 0, 2)
    assert "prompts that lost their beginning" in str(results)


def test_scorer_that_raises_loses_no_answer(store: str) -> None:
    class Broken(Doubling):
        def score(self, sample, reply):
            raise ZeroDivisionError("oops")

    model = right()
    table = run(model, Broken(3), store=store).samples
    assert table.error.str.contains("the scorer failed: ZeroDivisionError").all() and table.text.str.len().gt(0).all()
    fixed = run(model, Doubling(3), store=store).samples
    assert model.calls == 3 and fixed.score.tolist() == [1.0] * 3


def test_scorer_that_gives_no_score_is_told_how(store: str) -> None:
    asked = lab.suite([lab.Sample("x")], scorer=lambda text, sample: True)
    (error,) = run("scripted/echo", asked, store=store).samples.error
    assert "a scorer returns a Score, got True; lab.scorers.custom(f)" in error


def test_run_that_ends_in_an_unexpected_error_is_not_running_for_ever(store: str) -> None:
    def no_bar(total: int) -> Any:
        class Broken:
            def __enter__(self) -> Broken:
                return self

            def __exit__(self, *_: object) -> None: ...

            def update(self, *_: object) -> None:
                raise ZeroDivisionError

        return Broken()

    model = right()
    with pytest.raises(ZeroDivisionError):
        lab.evaluate(model, Doubling(), store=store, progress=no_bar)
    with lab.Store(store) as source:
        assert source.runs()["status"].tolist() == ["failed"]
    asked = model.calls
    run(model, store=store)
    assert model.calls < asked + 20, "what was answered is stored"


def test_budget_is_a_hard_limit_and_the_same_call_continues(store: str) -> None:
    model = right(cost=0.10)
    with pytest.warns(UserWarning, match=r"10 of 20 items answered.*the next call to scripted/right could cost"):
        first = run(model, store=store, budget=1.0)
    assert model.calls == 10 and len(first) == 10 and first.status == "budget"
    second = run(model, store=store, budget=1.0)
    assert model.calls == 20 and len(second) == 20 and second.status == "complete"


def test_budget_holds_under_many_threads(store: str) -> None:
    model = right(cost=0.01, seconds=0.002)
    with pytest.warns(UserWarning, match="could cost"):
        run(model, Doubling(200), store=store, budget=0.505, threads=64)
    assert model.calls == 50


def test_outer_ledger_sees_what_evaluate_spends(store: str) -> None:
    with lab.ledger() as spending:
        run(right(cost=0.25), Doubling(4), store=store)
        run(right(cost=0.25), Doubling(4), store=store)
    assert spending.spent == pytest.approx(1.0) and spending.calls == 4


def test_interrupt_keeps_what_was_answered(store: str) -> None:
    def stopped(request: Request) -> str:
        if model.calls == 10:
            _thread.interrupt_main()
        return twice(request)

    model = Scripted(stopped, "scripted/right", seconds=0.01)
    with pytest.warns(UserWarning, match="Stopped: interrupted"):
        partial = run(model, Doubling(500), store=store, threads=2)
    assert partial.status == "interrupted" and 10 <= len(partial) < 500
    assert model.calls == len(partial), "calls under way are finished and kept"
    asked = model.calls
    model.seconds = 0.0
    assert len(run(model, Doubling(500), store=store, threads=64)) == 500
    assert model.calls == 500 and asked < 500


KILLED = textwrap.dedent(
    """
    import os, sys, llmlab as lab
    from llmlab.models.scripted import Scripted
    from tests.evaluation.toy import Doubling, twice

    def paid(request):
        fd = os.open(sys.argv[2], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(fd, (request.prompt + "\\n").encode()); os.close(fd)
        return twice(request)

    model = Scripted(paid, "scripted/paid", seconds=0.005)
    results = lab.evaluate(model, Doubling(150), store=sys.argv[1], threads=4, progress=False)
    print(results.summary().to_csv())
    """
)


def test_killed_run_resumes_without_paying_twice(store: str, tmp_path: Path) -> None:
    bill = tmp_path / "bill"
    command = [sys.executable, "-c", KILLED, store, str(bill)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    kills = 0
    for wanted in (20, 60, 100):
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        while process.poll() is None and (not bill.exists() or bill.read_text().count("\n") < wanted):
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    clean = subprocess.run(
        [*command[:3], f"sqlite:///{tmp_path / 'clean.db'}", str(tmp_path / "other")],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert kills == 3
    asked = bill.read_text().split("\n")[:-1]
    assert len(set(asked)) == 150
    # a call that was on its way when the process died had no answer yet: at most one per thread and kill
    assert len(asked) - 150 <= kills * 4
    assert _scores(done.stdout) == _scores(clean.stdout)


def _scores(csv: str) -> list[str]:
    header, row = csv.splitlines()[:2]
    cells = dict(zip(header.split(","), row.split(","), strict=False))
    return [cells[c] for c in ("n", "score", "low", "high")]


def test_store_that_fails_stops_the_asking_and_hands_over_the_answers(tmp_path: Path) -> None:
    source = lab.Store(f"sqlite:///{tmp_path / 'full.db'}")
    original, saved = source.save_answers, []

    def full(rows):  # the disk fills up after the first answers
        if len(saved) >= 5:
            raise StoreError("the disk is full; free some space and call again")
        saved.extend(rows)
        original(rows)

    source.save_answers = full  # type: ignore[method-assign]
    model = right(seconds=0.005)
    with pytest.raises(StoreError, match="disk is full") as caught:
        run(model, Doubling(400), store=source, threads=2)
    kept = caught.value.results  # type: ignore[attr-defined]
    assert len(kept) == model.calls < 400, "every answer that was paid for is in error.results"
    source.close()


@pytest.mark.parametrize(
    ("models", "benchmarks", "message"),
    [
        ([], [Doubling()], "no model was given"),
        ("scripted/echo", [], "no benchmark was given"),
        ("scripted/echo", [Doubling(0)], "doubling has no items"),
        ("scripted/echo", [Doubling(), Doubling()], "benchmarks of the same name: doubling"),
    ],
)
def test_nothing_to_do_is_an_error(models, benchmarks, message: str, store: str) -> None:
    with pytest.raises(DataError, match=message):
        lab.evaluate(models, benchmarks, store=store)


def test_repeated_ids_are_refused(store: str) -> None:
    class Twins(Doubling):
        def samples(self):
            return [lab.Sample("a", id="x"), lab.Sample("b", id="x")]

    with pytest.raises(DataError, match="several items with the id 'x'"):
        run(right(), Twins(), store=store)


def test_n_larger_than_the_data_takes_all_and_warns(store: str) -> None:
    with pytest.warns(UserWarning, match="doubling has 20 items; n=50 takes all"):
        assert len(run(right(), store=store, n=50)) == 20


@pytest.mark.parametrize("n", [0, -1, 2.5, math.nan, "3", True])
def test_n_that_is_no_count_is_refused(n: object, store: str) -> None:
    with pytest.raises(DataError, match=f"n must be at least 1, a whole number; got {n!r}"):
        run(right(), store=store, n=n)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": -1}, "a budget is a finite number of US dollars, 0 or more; got -1"),
        ({"budget": math.nan}, "0 or more; got nan"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"threads": "4"}, "threads must be at least 1, a whole number; got '4'"),
        ({"seed": "x"}, "seed must be a whole number; got 'x'"),
    ],
)
def test_options_out_of_range_are_refused_before_a_run_is_noted(
    wrong: dict[str, Any], message: str, store: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(right(), store=store, **wrong)
    with Store(store) as opened:
        assert opened.runs().empty


def test_forced_protocol_that_does_not_exist_lists_those_that_do(store: str) -> None:
    with pytest.raises(UnknownName, match="Known: generate"):
        run(right(), store=store, protocol="loglikelihood")


def test_models_of_the_same_name_get_labels_of_their_own(store: str) -> None:
    results = run([right(), right().with_options(temperature=1.0)], store=store, n=2)
    assert set(results.samples.model) == {"scripted/right", "scripted/right (2)"}
    labelled = run({"a": right(), "b": wrong()}, store=store, n=2)
    assert set(labelled.samples.model) == {"a", "b"}


def test_works_in_a_thread_and_inside_a_running_event_loop(store: str) -> None:
    import asyncio

    async def inside() -> int:
        return len(run(right(), store=store, n=3))

    assert asyncio.run(inside()) == 3
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(run(right(), store=store, n=4))))
    thread.start()
    thread.join()
    assert found == [4]


def test_cost_and_usage_reach_the_table(store: str) -> None:
    answer = Response("6", usage=Usage(10, 2, cached_tokens=4), cost=math.nan, model_version="v9")
    row = run(Scripted(lambda r: answer, "scripted/one"), Doubling(1), store=store).samples.iloc[0]
    assert (row.input_tokens, row.output_tokens, row.cached_tokens, row.model_version) == (10, 2, 4, "v9")
    assert math.isnan(row.cost)


def test_interceptors_can_be_benchmarked_and_their_inner_calls_are_paid(store: str) -> None:
    def twice_asked(request, call):
        call(request)
        return call(request)

    model = right(cost=0.5)
    with lab.ledger() as spending:
        row = run(model.through(twice_asked), Doubling(1), store=store).samples.iloc[0]
    assert row.cost == 1.0 and spending.spent == 1.0 and row.model == "scripted/right+twice_asked"


def test_slow_scorers_work_side_by_side_and_their_cost_is_counted(store: str) -> None:
    here, most, lock = 0, 0, threading.Lock()

    def think(request: Request) -> str:
        nonlocal here, most
        with lock:
            here += 1
            most = max(most, here)
        time.sleep(0.1)
        with lock:
            here -= 1
        return "fine"

    class Judged(Doubling):
        judge = Scripted(think, "scripted/judge", cost=0.01)

        def score(self, sample, reply):
            self.judge.generate(f"Is {reply.text} right?")
            return super().score(sample, reply)

    with lab.ledger() as spending:
        table = run(right(), Judged(30), store=store).samples
    assert most > 1
    assert table.judge_cost.tolist() == pytest.approx([0.01] * 30) and spending.spent == pytest.approx(0.3)


def test_rows_come_in_the_order_of_the_plan(store: str) -> None:
    run(wrong(), store=store, n=10)  # so that the second model's answers are there first
    table = run([right(), wrong()], store=store, n=20).samples
    assert table.model.tolist() == ["scripted/right"] * 20 + ["scripted/wrong"] * 20
    assert table["sample"].tolist()[:20] == table["sample"].tolist()[20:]


@pytest.mark.parametrize("by", ["verdict", "decision"])
def test_what_a_judge_answered_is_not_paid_for_again(store: str, by: str) -> None:
    judge = Scripted("It is even.\nVerdict: correct" if by == "verdict" else "B", "scripted/judge", cost=0.01)
    scorer = lab.scorers.judge(judge, "Is the number even?", scale=["wrong", "correct"], by=by)
    suite = lab.suite([lab.Sample(f"Twice {i}?", id=str(i)) for i in range(6)], scorer=scorer, name="judged")
    first = run(right(), suite, store=store).samples
    assert judge.calls == 6 and first.score.tolist() == [1.0] * 6
    with lab.ledger() as spending:
        second = run(right(), suite, store=store).samples
    assert judge.calls == 6 and spending.spent == 0
    assert second.judge_cost.tolist() == first.judge_cost.tolist() == pytest.approx([0.01] * 6)


def test_a_suite_says_how_often_it_is_asked(tmp_path: Path) -> None:
    checks = lab.suite([lab.Sample("Twice 2?", target="4"), lab.Sample("Twice 3?", target="6")], repeats=3)
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    assert len(lab.evaluate(right(), checks, store=store)) == 6
    assert len(lab.evaluate(right(), checks, repeats=1, store=store)) == 2
    assert lab.estimate(right(), checks, store=store).table["calls"].iloc[0] == 0
