"""One model per request: which one, why, and that nothing of the call is lost on the way."""

from __future__ import annotations

import json

import pytest

import llmlab as lab
from llmlab.errors import DataError, NeedsLocalModel, ServerFault
from llmlab.models.router import Router, route
from llmlab.models.scripted import Scripted
from llmlab.types import Options, Request

SUMS = Scripted("51", "scripted/sums", cost=0.25)
LONG = Scripted("A long story.", "scripted/long")
CHAT = Scripted("Hello.", "scripted/chat")


def shouts(request: Request) -> bool:
    return request.prompt.isupper()


def rules() -> Router:
    return route([(r"\d+ [*+] \d+", SUMS), (200, LONG), (shouts, SUMS)], default=CHAT)


@pytest.mark.parametrize(
    ("prompt", "text", "reason"),
    [
        ("17 * 3?", "51", "is in the prompt"),
        ("x" * 200, "A long story.", "200 characters, 200 or more"),
        ("HELP", "51", "shouts holds"),
        ("hi", "Hello.", "the default"),
    ],
)
def test_the_first_rule_that_holds_decides_and_says_why(prompt: str, text: str, reason: str) -> None:
    response = rules().generate(prompt)
    assert response.text == text
    assert reason in response.notes[-1] and response.trace[0].model in response.notes[-1]


def test_cost_and_trace_are_those_of_the_call_and_it_is_counted_once() -> None:
    with lab.ledger() as bill:
        response = rules().generate("1 + 1")
    assert (response.cost, bill.spent, bill.calls, len(response.trace)) == (0.25, 0.25, 1, 1)
    assert response.model == "route(scripted/sums, scripted/long, scripted/chat)"


def test_a_stream_is_passed_through_in_pieces() -> None:
    chunks = list(rules().stream("x" * 300))
    assert [c.text for c in chunks] == ["A ", "long ", "story."]
    assert chunks[-1].response is not None and "or more" in chunks[-1].response.notes[-1]


def test_a_function_chooses_by_key() -> None:
    def pick(request: Request) -> str:
        return {"s": "sums", "x": "typo"}.get(request.prompt[0], "")

    model = route(pick, CHAT, models={"sums": SUMS})
    assert (model.generate("s").text, model.generate("other").text) == ("51", "Hello.")
    with pytest.raises(DataError, match="returned 'typo'; possible: sums"):
        model.generate("x")
    with pytest.raises(DataError, match="give them"):
        route(pick, CHAT)
    with pytest.raises(DataError, match="rules name their models"):
        route([("a", SUMS)], CHAT, models={"sums": SUMS})


def test_bad_conditions_are_explained() -> None:
    with pytest.raises(DataError, match="not a regular expression"):
        route([("(", SUMS)], CHAT)
    with pytest.raises(DataError, match="a condition is"):
        route([(None, SUMS)], CHAT)  # type: ignore[list-item]


def test_decisions_and_failures_are_those_of_the_chosen_model() -> None:
    model = route([("B", Scripted("B", "b")), ("fail", Scripted([ServerFault("down")], "c"))], CHAT)
    decision = model.decide("B it is?", ["yes", "no"])
    assert decision.text == "no" and decision.response is not None
    assert "is in the prompt" in decision.response.notes[-1]
    with pytest.raises(ServerFault, match="down"):
        model.generate("fail")
    with pytest.raises(NeedsLocalModel, match="route"):
        model.logprob("a", ["b"])


def test_identity_changes_with_rules_and_targets() -> None:
    models = [
        rules(),
        route([("a", SUMS)], CHAT),
        route([("b", SUMS)], CHAT),
        route([("a", SUMS)], LONG),
        route([("a", SUMS.with_options(temperature=1.0))], CHAT),
        route(lambda request: "", CHAT, models={"a": SUMS}),
    ]
    assert len({json.dumps(m.identity()) for m in models}) == len(models)


def test_options_reach_the_chosen_model() -> None:
    seen: list[Options] = []

    def keep(request: Request) -> str:
        seen.append(request.options)
        return "ok"

    model = route([("a", Scripted(keep).with_options(seed=1))], CHAT).with_options(max_tokens=9)
    model.generate("a", temperature=0.5)
    assert seen[0].set() == {"seed": 1, "max_tokens": 9, "temperature": 0.5}
