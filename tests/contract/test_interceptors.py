"""What every interceptor promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import InterceptorFailed
from llmlab.models.scripted import Scripted
from llmlab.store import Store
from llmlab.types import Interceptor, Request
from tests.contract.interceptors import ANSWER, BROKEN, CASES, LOCAL, Case, local

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
EVERY_BROKEN = pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
QUESTION = "Which colour has the river?"
ASKED = (QUESTION, "Which colour has the road?", "Which colour has the mill?")


def model() -> Scripted:
    return Scripted(ANSWER, "scripted/miller", cost=0.01)


@EVERY
def test_harmless_answer_passes_through_unharmed(case: Case) -> None:
    response = model().through(case.interceptor).generate(QUESTION)
    assert response.text == (ANSWER.upper() if case.edits else ANSWER)
    assert response.finish_reason == "stop"


@EVERY
def test_every_call_is_in_the_ledger_the_trace_and_the_cost(case: Case) -> None:
    inner = model()
    with lab.ledger() as spending:
        response = inner.through(case.interceptor).generate(QUESTION)
    assert inner.calls == spending.calls == len(response.trace) == case.calls
    assert response.cost == pytest.approx(spending.spent) == pytest.approx(0.01 * case.calls)
    assert response.usage.output_tokens == case.calls * len(ANSWER.split())


@EVERY
def test_stream_equals_the_whole(case: Case) -> None:
    wrapped = model().through(case.interceptor)
    with lab.ledger() as spending:
        chunks = list(wrapped.stream(QUESTION))
    whole = wrapped.generate(QUESTION)
    last = chunks[-1].response
    assert last is not None
    assert "".join(chunk.text for chunk in chunks) == last.text == whole.text
    assert [chunk.response is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert (last.usage, last.finish_reason, len(last.trace)) == (whole.usage, whole.finish_reason, len(whole.trace))
    assert spending.calls == case.calls


@EVERY
def test_stream_can_be_left_early(case: Case) -> None:
    wrapped = model().through(case.interceptor)
    pieces: Any = wrapped.stream(QUESTION)
    next(pieces)
    pieces.close()
    assert wrapped.generate(QUESTION).text


@EVERY
def test_identity_is_stable_data_and_tells_interceptors_apart(case: Case) -> None:
    def known(interceptor: Interceptor) -> str:
        return json.dumps(model().through(interceptor).identity())

    assert known(case.interceptor) == known(case.interceptor)
    assert " at 0x" not in known(case.interceptor)
    assert all(known(other.interceptor) != known(case.interceptor) for other in CASES.values() if other is not case)


@EVERY
def test_options_reach_the_model(case: Case) -> None:
    response = model().through(case.interceptor).generate(QUESTION, max_tokens=3)
    assert all(call.applied.max_tokens == 3 for call in response.trace)


@EVERY
def test_batch_answers_like_single_calls(case: Case) -> None:
    wrapped = model().through(case.interceptor)
    batch = wrapped.generate_batch([Request.of(QUESTION), Request.of("And the road?")])
    assert [str(r) for r in batch] == [wrapped.generate(q).text for q in (QUESTION, "And the road?")]


@EVERY
def test_nests_in_another_one(case: Case) -> None:
    response = model().through(case.interceptor).through(lab.alignment.safety_filter()).generate(QUESTION)
    assert len(response.trace) == 1
    assert len(response.trace[0].trace) == case.calls
    assert response.cost == pytest.approx(0.01 * case.calls)


def in_a_benchmark_and_in_an_experiment(plain: lab.Model, through: lab.Model, folder: Path) -> tuple[Any, Any]:
    """Row of the summary, and line of the experiment, which asks nothing that the benchmark has asked."""
    suite = lab.suite([lab.Sample(q, target="river", id=q) for q in ASKED], scorer="contains", name="s")
    with Store(f"sqlite:///{folder}/runs.db") as store, lab.ledger() as spending:
        results = lab.evaluate({"plain": plain, "through": through}, suite, seed=1, store=store, progress=False)
        asked = spending.calls
        found = lab.experiment({"plain": plain, "through": through}, suite, seed=1, store=store, progress=False)
    assert (spending.calls, found.seen_before) == (asked, 6)
    row, line = results.summary().set_index("model").loc["through"], found.lines[0]
    assert (row["n"], row["failed"], line.n, line.arm) == (3, 0, 3, "through")
    assert row["score"] - results.summary().set_index("model").loc["plain", "score"] == pytest.approx(line.gain)
    return row, line


@EVERY
def test_runs_in_a_benchmark_and_in_an_experiment(case: Case, tmp_path: Path) -> None:
    wrapped = model().through(case.interceptor, name="through")
    row, line = in_a_benchmark_and_in_an_experiment(model(), wrapped, tmp_path)
    assert (row["score"], line.gain) == (1.0, 0.0)
    assert row["cost"] == pytest.approx(3 * 0.01 * case.calls)


@pytest.mark.parametrize("technique", LOCAL)
def test_a_technique_inside_a_local_model_does_so_too(technique: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="an extra")
    from tests.alignment.tiny import lm

    plain = lm().with_options(max_tokens=4)
    row, _ = in_a_benchmark_and_in_an_experiment(plain, plain.through(local(technique, lm())), tmp_path)
    assert row["refused"] == 0


@EVERY_BROKEN
def test_one_that_raises_gives_no_answer(broken: Interceptor) -> None:
    with pytest.raises(InterceptorFailed, match=r"boom|should return a Response, it returned str"):
        model().through(broken).generate(QUESTION)
    with pytest.raises(InterceptorFailed):
        list(model().through(broken).stream(QUESTION))


def test_one_that_raises_is_a_failed_row_of_its_own_and_no_answer(tmp_path: Path) -> None:
    suite = lab.suite([lab.Sample(q, target="river", id=q) for q in ("fine", "bad", "good")], scorer="contains")

    def fussy(request: Request, call: Any) -> Any:
        if request.prompt == "bad":
            raise ValueError("boom")
        return call(request)

    for inner in (model(), Local()):
        results = lab.evaluate({"m": inner.through(fussy)}, suite, store=f"sqlite:///{tmp_path}/a.db", progress=False)
        line = results.summary().iloc[0]
        assert (line["n"], line["failed"], line["score"], line["refused"]) == (2, 1, 1.0, 0)
        row = results.samples.set_index("sample").loc["bad"]
        assert (row["error_kind"], row["text"]) == ("InterceptorFailed", "")
        assert "fussy" in row["error"] and "ValueError: boom" in row["error"]
        assert math.isnan(row["score"])


def test_blocked_answers_are_counted_as_refused(tmp_path: Path) -> None:
    suite = lab.suite([lab.Sample(q, id=q) for q in ("How do I steal the bank?", "fine")], scorer="refusal")
    guarded = model().through(lab.alignment.safety_filter(side="input"))
    results = lab.evaluate(guarded, suite, store=f"sqlite:///{tmp_path}/a.db", progress=False)
    line = results.summary().iloc[0]
    assert (line["n"], line["refused"], line["failed"], line["cost"]) == (2, 1, 0, 0.01)
    blocked = results.samples.iloc[0]
    assert blocked["finish_reason"] == "refusal" and "rule 'act'" in blocked["notes"]


class Local(Scripted):
    """A model that is asked in batches, as local ones are."""

    local = True

    def __init__(self) -> None:
        super().__init__(ANSWER, "scripted/local")
