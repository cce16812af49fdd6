"""Votes, cascades and repeated tries: who wins, what it costs, and what happens when a member fails."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.errors import DataError, ServerFault
from llmlab.models.answers import final_answer
from llmlab.models.base import Model
from llmlab.models.ensemble import ensemble
from llmlab.models.scripted import Scripted
from llmlab.models.voting import tally
from llmlab.types import Decision, Protocol, Request, Response


def says(text: str, name: str = "scripted/model", **settings: float) -> Scripted:
    return Scripted(text, name, **settings)  # type: ignore[arg-type]


class Sure(Scripted):
    """Decides with a given probability of the first choice."""

    protocols: tuple[Protocol, ...] = ("decision", "letter", "generate")

    def __init__(self, probability: float, name: str) -> None:
        super().__init__("A", name, cost=0.5)
        self.probability = probability

    def _decide(self, request: Request, choices: object, protocol: Protocol) -> Decision:
        p = self.probability
        response = self.generate(request)
        return Decision(("yes", "no"), (p, 1 - p), 0 if p >= 0.5 else 1, protocol, response)


# -- what is counted as the same ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("17 * 3 = 51", "51"),
        ("First 12, then 39.\nThe answer is 51 apples.", "51"),
        ("#### 1,234", "1234"),
        (r"so \boxed{-7.50} it is", "-7.5"),
        ("B", "B"),
        ("**C)** because of 7 reasons", "C"),
        ("Let me see 3 options.\nAnswer: B. Paris", "B"),
        ("The answer:\n\n51", "51"),
        ("A man has a dog.", "a man has a dog"),
        ("Paris!", "paris"),
        ("  ", None),
    ],
)
def test_final_answers(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_a_tie_goes_to_the_first_and_silence_is_no_vote() -> None:
    assert tally(["b", "a", "a", "b"], final_answer) == (0, 0.5, "b")
    assert tally(["", "a", ""], final_answer) == (1, pytest.approx(1 / 3), "a")
    assert tally(["", ""], final_answer) == (0, 0.0, None)
    assert tally(["a", "b"], final_answer, [1, 2]) == (1, pytest.approx(2 / 3), "b")


# -- vote ---------------------------------------------------------------------------------------------------------


def test_the_majority_answers_in_its_own_words_and_all_calls_are_paid() -> None:
    model = ensemble([says("50", "a", cost=0.1), says("It is 51.", "b", cost=0.2), says("17*3 = 51", "c", cost=0.3)])
    with lab.ledger() as bill:
        response = model.generate("17 * 3?")
    assert response.text == "It is 51."
    assert response.cost == pytest.approx(0.6) == bill.spent
    assert bill.calls == 3 == len(response.trace)
    assert response.usage.output_tokens == 1 + 3 + 3
    assert "'51' with 67% of the votes" in response.notes[-1]
    assert response.model == "vote(a, b, c)"


def test_weights_can_overrule_the_majority() -> None:
    members = [says("1", "a"), says("1", "b"), says("2", "c")]
    assert ensemble(members, "weighted", weights=[1, 1, 3]).generate("?").text == "2"
    assert ensemble(members, "weighted", weights=[1, 1, 2]).generate("?").text == "1"  # a tie


def test_own_extraction_and_own_options_of_members() -> None:
    asked: list[Request] = []

    def keep(request: Request) -> str:
        asked.append(request)
        return "YES maybe"

    members = [Scripted(keep, "a").with_options(temperature=0.9), says("yes surely", "b"), says("no", "c")]
    model = ensemble(members, extract=lambda text: text.split()[0].lower())
    assert model.generate("?").text == "YES maybe"
    assert asked[0].options.temperature == 0.9
    model.generate("?", temperature=0.0)
    assert asked[1].options.temperature == 0.0


def test_a_failing_member_fails_the_call_and_spares_the_rest() -> None:
    last = says("1", "c")
    model = ensemble([says("1", "a"), Scripted([ServerFault("down")], "b"), last])
    with pytest.raises(ServerFault, match="down"):
        model.generate("?")
    assert last.calls == 0
    assert isinstance(model.generate_batch([Request.of("?")])[0], ServerFault)


def test_a_vote_decides_by_letter() -> None:
    model = ensemble([says("B", "a"), says("A", "b"), says("B) no", "c")])
    decision = model.decide("Is it?", ["yes", "no"])
    assert (decision.text, decision.protocol) == ("no", "letter")


# -- self-consistency ---------------------------------------------------------------------------------------------


def test_tries_are_different_repeats_at_a_temperature() -> None:
    asked: list[Request] = []

    def by_repeat(request: Request) -> str:
        asked.append(request)
        return ["3", "5", "5", "4"][request.repeat % 4]

    model = ensemble(Scripted(by_repeat), "self-consistency", samples=4, temperature=0.8)
    response = model.generate("?", temperature=0.0)
    assert response.text == "5" and len(response.trace) == 4
    assert [r.repeat for r in asked] == [0, 1, 2, 3]
    assert {r.options.temperature for r in asked} == {0.8}
    asked.clear()
    model.generate(Request(Request.of("?").messages, repeat=2))
    assert [r.repeat for r in asked] == [8, 9, 10, 11]


# -- cascade ------------------------------------------------------------------------------------------------------


def test_agreement_keeps_the_cheap_answer_and_doubt_asks_the_dear_one() -> None:
    def cheap(request: Request) -> str:
        return str(request.repeat) if "hard" in request.prompt else "4"

    dear = says("42", "dear", cost=1.0)
    model = ensemble([Scripted(cheap, "cheap", cost=0.1), dear], "cascade")
    easy, hard = model.generate("easy?"), model.generate("hard?")
    assert (easy.text, dear.calls, easy.cost) == ("4", 1, pytest.approx(0.3))
    assert (hard.text, hard.cost, len(hard.trace)) == ("42", pytest.approx(1.3), 4)
    assert "answered by cheap (confidence 1.00)" in easy.notes[-1]
    assert "answered by dear (the last)" in hard.notes[-1]


def test_own_confidence_asks_once_and_the_unknown_is_too_low() -> None:
    def length(request: Request, response: Response) -> float:
        return math.nan if "?" in response.text else min(1.0, len(response.text) / 10)

    first, second = says("hm", "first"), says("?", "second")
    model = ensemble([first, second, says("a long answer", "third")], "cascade", confidence=length)
    response = model.generate("?")
    assert response.text == "a long answer" and [r.text for r in response.trace] == ["hm", "?", "a long answer"]
    assert ensemble([says("a long answer", "x"), second], "cascade", confidence=length).generate("?").trace[1:] == ()


def test_decisions_escalate_by_the_probability_of_the_pick() -> None:
    cheap, dear = Sure(0.6, "cheap"), Sure(0.1, "dear")
    model = ensemble([cheap, dear], "cascade", threshold=0.8)
    decision = model.decide("?", ["yes", "no"])
    assert (decision.text, decision.protocol) == ("no", "decision")
    assert decision.response is not None and decision.response.cost == 1.0
    cheap.probability = 0.9
    kept = model.decide("?", ["yes", "no"])
    assert kept.text == "yes" and kept.response is not None and kept.response.cost == 0.5
    assert "loglikelihood" not in model.protocols


# -- all ----------------------------------------------------------------------------------------------------------


def test_identity_holds_all_that_the_answer_depends_on() -> None:
    a, b = says("1", "a"), says("2", "b")
    models = [
        ensemble([a, b]),
        ensemble([b, a]),
        ensemble([a, b], extract=lambda text: text[:1]),
        ensemble([a.with_options(temperature=1.0), b]),
        ensemble([a, b], "weighted", weights=[1, 2]),
        ensemble([a, b], "cascade"),
        ensemble([a, b], "cascade", threshold=0.9),
        ensemble([a, b], "cascade", confidence=lambda request, response: 1.0),
        ensemble(a, "self-consistency"),
        ensemble(a, "self-consistency", samples=3),
    ]
    assert len({json.dumps(m.identity()) for m in models}) == len(models)
    assert ensemble([a, b]).identity() == ensemble([a, b], name="other").identity()


def test_names_are_accepted_and_mistakes_explained() -> None:
    assert ensemble(["scripted/echo", "scripted/constant"]).generate("hello").text == "hello"
    one, two = [says("1")], [says("1"), says("2")]
    for arguments, message in [
        ((one, "vote"), "at least two models, got 1"),
        ((two, "self-consistency"), "got 2 models"),
        ((two, "average"), "got 'average'"),
        ((two, "weighted"), "weights belong to how='weighted'"),
    ]:
        with pytest.raises(DataError, match=message):
            ensemble(*arguments)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one number per model"):
        ensemble(two, "weighted", weights=[1])
    with pytest.raises(DataError, match="at least 2 tries"):
        ensemble(one, "self-consistency", samples=1)
    with pytest.raises(DataError, match="confidence in"):
        ensemble(two, "cascade", threshold=7)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    pytest.importorskip("torch", reason="an extra")
    from llmlab.testing.tiny import tiny_model

    return lab.model(f"hf/{tiny_model(Path(tmp_path_factory.mktemp('tiny')))}", device="cpu", max_tokens=6)


@pytest.mark.parametrize("how", ["vote", "self-consistency", "cascade"])
def test_local_members_answer_batches_like_single_requests(tiny: Model, how: str) -> None:
    members = tiny if how == "self-consistency" else [tiny, tiny.with_options(max_tokens=3)]
    model = ensemble(members, how, samples=3)  # type: ignore[arg-type]
    assert model.local
    requests = [Request.of(p, seed=7) for p in ("The river runs", "Mira has 3 apples", "Hello")]
    batch = model.generate_batch(requests)
    single = [model.generate(r) for r in requests]
    assert [r.text for r in batch if isinstance(r, Response)] == [r.text for r in single]
    assert all(isinstance(r, Response) and r.model == model.name for r in batch)
